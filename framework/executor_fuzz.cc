// libFuzzer on what a log may hold: records that are damaged, forged or out of place. They are refused with a
// reason, or applied the same way by two executors, and nothing else happens.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "framework/executor.h"
#include "framework/record_body.h"
#include "glog/logging.h"

namespace understudy {
namespace {

[[noreturn]] void Wrong() { std::abort(); }

// Takes the input apart; behind its end there are zeros.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : rest_(reinterpret_cast<const char*>(data), size) {}
  bool empty() const { return rest_.empty(); }
  uint8_t Byte() { return static_cast<uint8_t>(Take(1)[0]); }
  uint64_t Number() {
    uint64_t n = 0;
    for (int i = 0; i < 8; ++i) n = n << 8 | Byte();
    return n;
  }
  std::string Take(size_t size) {
    std::string taken(rest_.substr(0, size));
    rest_.remove_prefix(taken.size());
    taken.resize(size, '\0');
    return taken;
  }

 private:
  std::string_view rest_;
};

// Does what the bytes say.
class Puppet final : public Server {
 public:
  void OnConnect(Connection& c) override { other_ = &c; }
  size_t OnData(Connection& c, std::string_view unread) override {
    Act(c, unread[0]);
    return unread[0] % 3 == 0 ? 0 : unread[0] % 3 == 1 ? unread.size() : 1;
  }
  void OnPeerClosed(Connection& c) override { c.Send("bye"); }
  void OnWritable(Connection& c) override { Act(c, 'w'); }
  void OnTimer(Connection& c, uint32_t timer) override { Act(c, static_cast<char>(timer)); }
  void OnClosed(Connection& c, CloseReason) override {
    Act(c, 's');
    if (other_ == &c) other_ = nullptr;
  }

 private:
  void Act(Connection& c, char what) {
    switch (what & 15) {
      case 0: return c.Send(std::string(3000, 'o'));
      case 1: return c.Send("few");
      case 2: return c.HalfClose();
      case 3: return c.Close();
      case 4: return c.Abort();
      case 5: return c.SetTimer(static_cast<uint8_t>(what), std::chrono::microseconds::max());
      case 6: return c.SetTimer(static_cast<uint8_t>(what), std::chrono::microseconds(-5));
      case 7: return c.SetTimer(static_cast<uint8_t>(what) ^ 8, std::chrono::microseconds(0));
      case 8: return c.CancelTimer(static_cast<uint8_t>(what));
      case 9: return c.SetHighWater(static_cast<size_t>(what) << 6);
      case 10: return other_ != nullptr ? other_->Send(std::string(2000, 'x')) : void();
      case 11: return other_ != nullptr ? other_->Abort() : void();
      case 12:
        return c.Send(absl::StrCat(c.Random(), c.Now().time_since_epoch().count(), c.pending_output()));
      default: return;
    }
  }
  Connection* other_ = nullptr;
};

constexpr uint8_t kKinds = 13;  // 0 and the last are unknown ones

// A body that is well formed, of one of few connections.
std::string BodyOf(RecordKind kind, Input& in) {
  const ConnectionId id = in.Byte() % 5;
  const PeerView view{in.Byte() % 2 ? in.Number() : in.Byte() * 97u, 1000, 5000};
  switch (kind) {
    case RecordKind::kEpochBegan: return Encode(EpochBegan{in.Byte(), 7, in.Byte(), "n", ""});
    case RecordKind::kOpened: {
      Opened opened;
      opened.connection = id;
      opened.tuple = {{1, 7000}, {2, static_cast<uint16_t>(in.Byte() % 4)}};
      opened.iss = static_cast<uint32_t>(in.Number());
      opened.options.window_scaling = true;
      opened.options.rcv_wscale = in.Byte() % 2 ? in.Byte() : 7;
      return Encode(opened);
    }
    case RecordKind::kReceived: return EncodeHead(Received{id, view, {}}) + in.Take(in.Byte() % 16 + 1);
    case RecordKind::kProgress: return Encode(Progress{id, view});
    case RecordKind::kTimerFired: return Encode(TimerFired{id, in.Byte()});
    case RecordKind::kBroken: return Encode(Broken{id, 104});
    case RecordKind::kFault: return Encode(Fault{id, in.Byte()});
    case RecordKind::kStorage: return Encode(Storage{in.Byte()});
    default: return Encode(ConnectionOnly{id});
  }
}

void CheckSame(const Executor& one, const Executor& two) {
  if (one.output_hash() != two.output_hash() || one.buffered() != two.buffered()) Wrong();
  if (one.connection_count() != two.connection_count() || one.applied_lsn() != two.applied_lsn()) Wrong();
  const auto a = one.NextTimer(), b = two.NextTimer();
  if (a.has_value() != b.has_value() || (a && (a->due_us != b->due_us || a->timer != b->timer))) Wrong();
}

void Run(Input in) {
  constexpr Limits kLimits{.pending_output = 20'000, .buffered = 40'000};
  Puppet server_one, server_two;
  Executor one(&server_one, kLimits), two(&server_two, kLimits);
  int64_t time = 1;
  while (!in.empty()) {
    const uint8_t how = in.Byte();
    const auto kind = static_cast<RecordKind>(how % kKinds);
    std::string body = BodyOf(kind, in);
    if (how >= 200) body = in.Take(in.Byte());  // not well formed at all
    if (how >= 180 && how < 200 && !body.empty()) body.resize(in.Byte() % (2 * body.size()));
    time = how >= 250 ? static_cast<int64_t>(in.Number()) : time + in.Byte();
    const replication::Lsn lsn = one.applied_lsn() + (how % 64 == 63 ? in.Byte() : 1);
    const replication::RecordView record{lsn, time, static_cast<uint32_t>(kind), body};
    one.Expect(record);
    const absl::Status first = one.Apply(record), second = two.Apply(record);
    if (first != second) Wrong();
    CheckSame(one, two);
    if (one.TakeTouched() != two.TakeTouched()) Wrong();
    one.ForEach([&](const ConnectionState& state) {
      // Of several connections of one four-tuple the newest owns it.
      const ConnectionState* newest = one.FindByTuple(state.opened().tuple);
      if (newest != nullptr && newest->id() < state.id()) Wrong();
      (void)state.window_limit();
      if (state.output().size() > kLimits.pending_output + 4096) Wrong();
    });
    if (one.buffered() > kLimits.buffered) Wrong();
    if (first.ok()) {
      if (one.applied_lsn() != lsn) Wrong();
    } else if (one.applied_lsn() + 1 == lsn && first.message().empty()) {
      Wrong();
    }
  }
}

}  // namespace
}  // namespace understudy

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  FLAGS_minloglevel = google::FATAL;  // aborted connections are many here
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  understudy::Run(understudy::Input(data, size));
  return 0;
}
