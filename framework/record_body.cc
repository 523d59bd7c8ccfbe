#include "framework/record_body.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace understudy {
namespace {

static_assert(std::endian::native == std::endian::little,
              "bodies are copied as they lie in memory; a big endian host needs byte swaps here");

class Writer {
 public:
  explicit Writer(size_t reserve) { out_.reserve(reserve); }
  template <typename T>
  Writer& Put(T value) {
    static_assert(std::is_integral_v<T>);
    char bytes[sizeof value];
    std::memcpy(bytes, &value, sizeof value);
    out_.append(bytes, sizeof value);
    return *this;
  }
  Writer& Put(const PeerView& view) { return Put(view.acked).Put(view.window).Put(view.offered); }
  Writer& Put(const tcpshim::SocketAddress& a) { return Put(a.ip).Put(a.port); }
  Writer& PutRest(std::string_view bytes) {
    out_.append(bytes);
    return *this;
  }
  std::string Take() { return std::move(out_); }

 private:
  std::string out_;
};

class Reader {
 public:
  explicit Reader(std::string_view in) : in_(in) {}
  template <typename T>
  Reader& Get(T& value) {
    static_assert(std::is_integral_v<T>);
    if (in_.size() < sizeof value) {
      short_ = true;
      return *this;
    }
    std::memcpy(&value, in_.data(), sizeof value);
    in_.remove_prefix(sizeof value);
    return *this;
  }
  Reader& Get(PeerView& view) { return Get(view.acked).Get(view.window).Get(view.offered); }
  Reader& Get(tcpshim::SocketAddress& a) { return Get(a.ip).Get(a.port); }
  Reader& GetFlag(bool& flag) {
    uint8_t byte = 0;
    Get(byte);
    flag = byte != 0;
    return *this;
  }
  std::string_view GetBytes(size_t size) {
    if (in_.size() < size) {
      short_ = true;
      return {};
    }
    const std::string_view bytes = in_.substr(0, size);
    in_.remove_prefix(size);
    return bytes;
  }
  std::string_view Rest() { return std::exchange(in_, {}); }

  template <typename T>
  absl::StatusOr<T> Finish(T body, const char* what) const {
    if (short_) return absl::InvalidArgumentError(absl::StrCat("body of ", what, " is too short"));
    if (!in_.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("body of ", what, " has ", in_.size(), " bytes too many"));
    }
    return body;
  }

 private:
  std::string_view in_;
  bool short_ = false;
};

}  // namespace

const char* RecordKindName(RecordKind kind) {
  switch (kind) {
    case RecordKind::kEpochBegan: return "EpochBegan";
    case RecordKind::kOpened: return "Opened";
    case RecordKind::kConnected: return "Connected";
    case RecordKind::kReceived: return "Received";
    case RecordKind::kPeerClosed: return "PeerClosed";
    case RecordKind::kBroken: return "Broken";
    case RecordKind::kProgress: return "Progress";
    case RecordKind::kTimerFired: return "TimerFired";
    case RecordKind::kEnded: return "Ended";
    case RecordKind::kStorage: return "Storage";
    case RecordKind::kFault: return "Fault";
  }
  return "unknown";
}

std::string Encode(const EpochBegan& body) {
  return Writer(24 + body.node.size() + body.initial_state.size())
      .Put(body.epoch)
      .Put(body.seed)
      .Put(body.timestamp_shift)
      .Put(static_cast<uint32_t>(body.node.size()))
      .PutRest(body.node)
      .PutRest(body.initial_state)
      .Take();
}

absl::StatusOr<EpochBegan> DecodeEpochBegan(std::string_view in) {
  EpochBegan body;
  Reader reader(in);
  uint32_t node_size = 0;
  reader.Get(body.epoch).Get(body.seed).Get(body.timestamp_shift).Get(node_size);
  body.node = std::string(reader.GetBytes(node_size));
  body.initial_state = std::string(reader.Rest());
  return reader.Finish(std::move(body), "EpochBegan");
}

std::string Encode(const Opened& body) {
  const tcpshim::TcpOptions& o = body.options;
  return Writer(50)
      .Put(body.connection)
      .Put(body.tuple.local)
      .Put(body.tuple.remote)
      .Put(body.iss)
      .Put(body.irs)
      .Put(o.peer_mss)
      .Put(o.own_mss)
      .Put(static_cast<uint8_t>(o.window_scaling))
      .Put(o.snd_wscale)
      .Put(o.rcv_wscale)
      .Put(static_cast<uint8_t>(o.sack))
      .Put(static_cast<uint8_t>(o.timestamps))
      .Put(body.window)
      .Put(body.timestamp)
      .Put(body.timestamp_echo)
      .Put(body.timestamp_offset)
      .Put(static_cast<uint8_t>(body.ecn))
      .Put(static_cast<uint8_t>(body.local))
      .Take();
}

absl::StatusOr<Opened> DecodeOpened(std::string_view in) {
  Opened body;
  tcpshim::TcpOptions& o = body.options;
  Reader reader(in);
  reader.Get(body.connection).Get(body.tuple.local).Get(body.tuple.remote).Get(body.iss).Get(body.irs);
  reader.Get(o.peer_mss).Get(o.own_mss).GetFlag(o.window_scaling).Get(o.snd_wscale).Get(o.rcv_wscale);
  reader.GetFlag(o.sack).GetFlag(o.timestamps).Get(body.window);
  reader.Get(body.timestamp).Get(body.timestamp_echo).Get(body.timestamp_offset);
  reader.GetFlag(body.ecn).GetFlag(body.local);
  if (std::max(o.snd_wscale, o.rcv_wscale) > kMaxWindowShift) {
    return absl::InvalidArgumentError("window scale above 14");
  }
  return reader.Finish(body, "Opened");
}

std::string EncodeHead(const Received& body) {
  return Writer(kReceivedHeadSize).Put(body.connection).Put(body.view).Take();
}

absl::StatusOr<Received> DecodeReceived(std::string_view in) {
  Received body;
  Reader reader(in);
  reader.Get(body.connection).Get(body.view);
  body.bytes = reader.Rest();
  return reader.Finish(body, "Received");
}

std::string Encode(const Progress& body) {
  return Writer(kReceivedHeadSize).Put(body.connection).Put(body.view).Take();
}

absl::StatusOr<Progress> DecodeProgress(std::string_view in) {
  Progress body;
  Reader reader(in);
  reader.Get(body.connection).Get(body.view);
  return reader.Finish(body, "Progress");
}

std::string Encode(const TimerFired& body) { return Writer(12).Put(body.connection).Put(body.timer).Take(); }

absl::StatusOr<TimerFired> DecodeTimerFired(std::string_view in) {
  TimerFired body;
  Reader reader(in);
  reader.Get(body.connection).Get(body.timer);
  return reader.Finish(body, "TimerFired");
}

std::string Encode(const Broken& body) { return Writer(12).Put(body.connection).Put(body.error).Take(); }

absl::StatusOr<Broken> DecodeBroken(std::string_view in) {
  Broken body;
  Reader reader(in);
  reader.Get(body.connection).Get(body.error);
  return reader.Finish(body, "Broken");
}

std::string Encode(const Storage& body) { return Writer(1).Put(body.writable).Take(); }

absl::StatusOr<Storage> DecodeStorage(std::string_view in) {
  Storage body;
  Reader reader(in);
  reader.Get(body.writable);
  if (body.writable > 1) return absl::InvalidArgumentError("neither writable nor not");
  return reader.Finish(body, "Storage");
}

std::string Encode(const Fault& body) { return Writer(9).Put(body.connection).Put(body.ending).Take(); }

absl::StatusOr<Fault> DecodeFault(std::string_view in) {
  Fault body;
  Reader reader(in);
  reader.Get(body.connection).Get(body.ending);
  return reader.Finish(body, "Fault");
}

std::string Encode(const ConnectionOnly& body) { return Writer(8).Put(body.connection).Take(); }

absl::StatusOr<ConnectionOnly> DecodeConnectionOnly(std::string_view in) {
  ConnectionOnly body;
  Reader reader(in);
  reader.Get(body.connection);
  return reader.Finish(body, "a connection's record");
}

}  // namespace understudy
