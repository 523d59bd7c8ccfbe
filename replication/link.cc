#include "replication/socket_link.h"

#include <errno.h>
#include <glog/logging.h>
#include <string.h>
#include <sys/socket.h>
#include <thrift/protocol/TBinaryProtocol.h>
#include <thrift/transport/TBufferTransports.h>

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstring>
#include <deque>
#include <exception>
#include <optional>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "replication/PrimaryService.h"
#include "replication/SecondaryService.h"
#include "replication/auth.h"
#include "replication/names.h"
#include "replication/version.h"
#include "replication/wire_frame.h"

namespace understudy::replication {
namespace {

namespace asio = boost::asio;
using apache::thrift::protocol::TMessageType;
using apache::thrift::transport::TMemoryBuffer;
using boost::system::error_code;
// With the transport's type known, its calls are not virtual.
using TBinaryProtocol = apache::thrift::protocol::TBinaryProtocolT<TMemoryBuffer>;

constexpr size_t kPrefix = 4;
constexpr size_t kRead = 256u << 10;
// A buffer that once held something larger is not kept for ever.
constexpr size_t kKeepBuffer = 4u << 20;
// How long a refused peer has to read the refusal.
constexpr std::chrono::milliseconds kLinger(1000);

uint32_t GetBigEndian32(const char* at) {
  uint32_t value;
  std::memcpy(&value, at, sizeof(value));
  return ntohl(value);
}

std::string Quoted(std::string_view text) { return absl::StrCat("\"", Printable(text, 40), "\""); }

// Frames on their way out: collected in one buffer, while the kernel takes those of the other.
class Outgoing {
 public:
  std::shared_ptr<TMemoryBuffer> transport() const { return queued_; }

  // What is written to transport() in between is one frame.
  void BeginFrame() {
    frame_at_ = queued_->available_read();
    const uint8_t prefix[kPrefix] = {};
    queued_->write(prefix, kPrefix);
  }
  // `mac`: appends the code of the frame; null: none.
  void EndFrame(FrameMac* mac) {
    uint8_t* start = nullptr;
    uint32_t size = 0;
    queued_->getBuffer(&start, &size);
    size_t length = size - frame_at_ - kPrefix;
    if (mac != nullptr) {
      uint8_t code[FrameMac::kSize];
      mac->Next({reinterpret_cast<const char*>(start) + frame_at_ + kPrefix, length}, code);
      queued_->write(code, sizeof code);
      queued_->getBuffer(&start, &size);
      length += sizeof code;
    }
    CHECK_LE(length, kMaxFrame) << "a frame that the other end will refuse";
    const uint32_t prefix = htonl(static_cast<uint32_t>(length));
    std::memcpy(start + frame_at_, &prefix, kPrefix);
  }

  size_t unsent() const { return writing_.size() - written_ + queued_->available_read(); }

  // What to write next; empty: nothing. Stays where it is until Written.
  std::string_view Next() {
    if (written_ < writing_.size()) return std::string_view(writing_).substr(written_);
    if (!writing_.empty()) {
      writing_.clear();
      written_ = 0;
      if (writing_.capacity() > kKeepBuffer) writing_.shrink_to_fit();
    }
    uint8_t* start = nullptr;
    uint32_t size = 0;
    queued_->getBuffer(&start, &size);
    return {reinterpret_cast<const char*>(start), size};
  }

  // So much of Next() has been taken by the kernel. Mostly all.
  void Written(size_t bytes) {
    if (written_ < writing_.size()) {
      written_ += bytes;
      return;
    }
    const std::string_view all = Next();
    if (bytes < all.size()) {
      writing_.assign(all.substr(bytes));
      written_ = 0;
    }
    Reset();
  }

  // Moves what is queued to where it can stay during an asynchronous write.
  std::string_view Hold() {
    if (written_ >= writing_.size()) {
      const std::string_view all = Next();
      writing_.assign(all);
      written_ = 0;
      Reset();
    }
    return Next();
  }

 private:
  void Reset() {
    if (queued_->getBufferSize() > kKeepBuffer) {
      queued_->resetBuffer(static_cast<uint32_t>(kRead));
    } else {
      queued_->resetBuffer();
    }
  }

  const std::shared_ptr<TMemoryBuffer> queued_ =
      std::make_shared<TMemoryBuffer>(static_cast<uint32_t>(kRead));
  size_t frame_at_ = 0;
  std::string writing_;
  size_t written_ = 0;
};

}  // namespace

struct SocketLink::Impl : std::enable_shared_from_this<SocketLink::Impl>,
                          wire::PrimaryServiceIf,
                          wire::SecondaryServiceIf {
  enum class Call { kHello, kJoin, kAppend, kHandover };

  Impl(asio::ip::tcp::socket socket, Handler* handler, const LinkSecurity& security)
      : socket(std::move(socket)),
        timer(this->socket.get_executor()),
        handler(handler),
        security(security),
        frame(std::make_shared<TMemoryBuffer>(nullptr, 0u)),
        in(std::make_shared<TBinaryProtocol>(frame)),
        out(std::make_shared<TBinaryProtocol>(outgoing.transport())),
        primary_client(in, out),
        secondary_client(in, out),
        // The processors' handlers are this object, which owns them: no counting.
        primary_processor(std::shared_ptr<wire::PrimaryServiceIf>(std::shared_ptr<void>(), this)),
        secondary_processor(std::shared_ptr<wire::SecondaryServiceIf>(std::shared_ptr<void>(), this)) {
    in->setStrict(true, true);
    out->setStrict(true, true);
  }

  void Begin(std::chrono::milliseconds first_frame_timeout) {
    error_code ignored;
    endpoint = socket.remote_endpoint(ignored);
    socket.non_blocking(true, ignored);
    socket.set_option(asio::ip::tcp::no_delay(true), ignored);
    timer.expires_after(first_frame_timeout);
    timer.async_wait([self = shared_from_this()](error_code error) {
      if (!error && self->stranger) self->Fail("a stranger that says nothing, or not all of it");
    });
    if (keyed() && security.dialed) SayHello();
    StartRead();
  }

  // --- Who is there? ---

  bool keyed() const { return !security.key.empty(); }
  bool proven() const { return !keyed() || incoming_mac != nullptr; }

  void SayHello() {
    transcript.service = security.service;
    transcript.dialer = security.node;
    transcript.dialer_nonce = NewNonce();
    if (transcript.dialer_nonce.empty()) return FailLater("the system has no random bytes");
    wire::HelloRequest request;
    request.protocol_version = SpokenVersions().newest;
    request.__set_oldest_protocol_version(SpokenVersions().oldest);
    request.service_address = security.service;
    request.node = security.node;
    request.nonce = transcript.dialer_nonce;
    Write(Call::kHello, [&] { primary_client.send_hello(request); });
  }

  // Called by the generated processor.
  void hello(wire::HelloReply& reply, const wire::HelloRequest& request) override {
    using wire::RefuseReason;
    if (!keyed()) {
      return Refuse(RefuseReason::NOT_AUTHENTIC, "the node that was dialed has no --replication_key_file");
    }
    if (security.dialed || !transcript.dialer_nonce.empty()) {
      return Refuse(RefuseReason::NOT_AUTHENTIC, "hello out of place");
    }
    // Which version it will be is agreed upon with the join.
    const VersionRange told = ToldVersions(request.protocol_version, request.__isset.oldest_protocol_version,
                                           request.oldest_protocol_version);
    if (!NewestOfBoth(SpokenVersions(), told).has_value()) {
      return Refuse(RefuseReason::WRONG_VERSION,
                    absl::StrCat("this node speaks ", ToString(SpokenVersions()),
                                 " of the protocol, and the other one ", ToString(told)));
    }
    if (request.service_address != security.service) {
      return Refuse(RefuseReason::WRONG_SERVICE, absl::StrCat("this node serves ", security.service, ", not ",
                                                              Printable(request.service_address, 40)));
    }
    if (!IsNodeName(request.node) || request.nonce.size() != kNonceSize) {
      return Refuse(RefuseReason::NOT_AUTHENTIC, absl::StrCat("a node's name is ", kNodeNameWants));
    }
    transcript = {security.service, request.node, security.node, request.nonce, NewNonce()};
    if (transcript.acceptor_nonce.empty()) {
      return Refuse(RefuseReason::NOT_AUTHENTIC, "the system has no random bytes");
    }
    reply.node = security.node;
    reply.nonce = transcript.acceptor_nonce;
    reply.proof = AcceptorProof(security.key, transcript);
  }

  // The answer to hello. Returns what is wrong with it.
  std::string OnHelloReply(const wire::HelloReply& reply) {
    if (!IsNodeName(reply.node) || reply.nonce.size() != kNonceSize) return "no answer to hello";
    transcript.acceptor = reply.node;
    transcript.acceptor_nonce = reply.nonce;
    if (!SameMac(reply.proof, AcceptorProof(security.key, transcript))) {
      return "the other end has another --replication_key_file";
    }
    BeginCodes();
    stranger = false;
    timer.cancel();
    for (const auto& send : std::exchange(waiting, {})) send();
    return "";
  }

  void BeginCodes() {
    outgoing_mac = std::make_unique<FrameMac>(security.key, transcript, security.dialed);
    incoming_mac = std::make_unique<FrameMac>(security.key, transcript, !security.dialed);
  }

  // --- In ---

  void StartRead() {
    MakeRoom();
    socket.async_read_some(
        asio::buffer(input.get() + in_end, in_size - in_end),
        [self = shared_from_this()](error_code error, size_t bytes) { self->OnRead(error, bytes); });
  }

  // The front of the buffer is free up to in_begin. A large frame gets its room as it arrives, not
  // when it is announced.
  void MakeRoom() {
    if (in_begin == in_end) {
      in_begin = in_end = 0;
      if (in_size > kKeepBuffer) {
        input.reset();
        in_size = 0;
      }
    }
    if (in_size == 0) {
      input.reset(new char[kRead]);
      in_size = kRead;
    }
    if (in_size - in_end >= kRead / 2) return;
    const size_t kept = in_end - in_begin;
    if (in_size - kept >= kRead / 2) {
      std::memmove(input.get(), input.get() + in_begin, kept);
    } else {
      const size_t size = in_size * 2;
      std::unique_ptr<char[]> larger(new char[size]);
      std::memcpy(larger.get(), input.get() + in_begin, kept);
      input = std::move(larger);
      in_size = size;
    }
    in_begin = 0;
    in_end = kept;
  }

  void OnRead(const error_code& error, size_t bytes) {
    if (lingering) {
      ReadAway(error);
      return;
    }
    if (closed) return;
    if (error) {
      Fail(error == asio::error::eof ? "closed by the other end"
                                     : absl::StrCat("connection broken: ", error.message()));
      return;
    }
    in_end += bytes;
    // The owner may let go of the link in any callback; then nobody is to be told anything more.
    const std::shared_ptr<SocketLink> keep = link->shared_from_this();
    in_turn = true;
    const std::string fault = HandleFrames(keep);
    if (!closed && fault.empty()) {
      Flush();  // somebody waits for the answers; what the owner does about the turn may take its time
      if (!closed) handler->OnTurnDone(*keep);
      CheckKept(keep);
    }
    in_turn = false;
    if (closed) return;
    if (!fault.empty()) {
      Fail(fault);
      return;
    }
    Flush();
    if (!closed) StartRead();
  }

  void ReadAway(const error_code& error) {
    if (error) {
      Close();
      return;
    }
    in_begin = in_end = 0;
    StartRead();
  }

  void CheckKept(const std::shared_ptr<SocketLink>& keep) {
    if (!closed && keep.use_count() == 1) Close();
  }

  // All whole frames in the buffer. Returns what is wrong with them, if something is.
  std::string HandleFrames(const std::shared_ptr<SocketLink>& keep) {
    while (!closed && !refusing && in_end - in_begin >= kPrefix) {
      const size_t length = GetBigEndian32(input.get() + in_begin);
      const size_t limit = stranger ? kMaxFirstFrame : kMaxFrame;
      if (length > limit) {
        return absl::StrCat("announces a frame of ", length, " bytes, at most ", limit);
      }
      if (in_end - in_begin - kPrefix < length) break;
      char* start = input.get() + in_begin + kPrefix;
      in_begin += kPrefix + length;
      if (std::string fault = HandleFrame(start, length); !fault.empty()) return fault;
      CheckKept(keep);
    }
    if (refusing) in_begin = in_end;  // what came behind the refused call
    return "";
  }

  std::string HandleFrame(char* start, size_t length) {
    if (incoming_mac != nullptr) {
      if (length < FrameMac::kSize) return "a frame without a code";
      length -= FrameMac::kSize;
      uint8_t code[FrameMac::kSize];
      incoming_mac->Next({start, length}, code);
      if (!SameMac({reinterpret_cast<const char*>(code), sizeof code}, {start + length, sizeof code})) {
        return "a frame that the holder of the key has not sent";
      }
    }
    if (stranger && proven()) {
      stranger = false;
      timer.cancel();
    }
    WireFrame envelope;
    if (std::string fault = OpenFrame({start, length}, &envelope); !fault.empty()) return fault;
    frame->resetBuffer(reinterpret_cast<uint8_t*>(start), static_cast<uint32_t>(length));
    // Nothing inside is longer than the frame is.
    in->setStringSizeLimit(static_cast<int32_t>(length));
    in->setContainerSizeLimit(static_cast<int32_t>(length));
    try {
      std::string fault;
      if (envelope.type == apache::thrift::protocol::T_CALL) {
        fault = HandleCall(envelope);
      } else if (envelope.type == apache::thrift::protocol::T_REPLY) {
        fault = HandleReply(envelope);
      } else {
        fault = absl::StrCat("a message of type ", envelope.type);
      }
      if (!fault.empty() || closed) return fault;
      const uint32_t left = frame->available_read();
      return left == 0 ? "" : absl::StrCat(left, " bytes too many in a frame");
    } catch (const apache::thrift::TApplicationException& e) {
      return absl::StrCat("no answer in an answer: ", e.what());
    } catch (const std::exception& e) {
      return absl::StrCat("a malformed message ", Quoted(envelope.method), ": ", e.what());
    }
  }

  std::string HandleCall(const WireFrame& envelope) {
    apache::thrift::TProcessor* processor = nullptr;
    if (envelope.method == "append" || envelope.method == "handover") {
      processor = &secondary_processor;
    } else if (envelope.method == "join" || envelope.method == "hello") {
      processor = &primary_processor;
    } else {
      return absl::StrCat("a call of an unknown method ", Quoted(envelope.method));
    }
    outgoing.BeginFrame();
    processor->process(in, out, nullptr);
    outgoing.EndFrame(outgoing_mac.get());
    if (envelope.method == "hello" && !refusing) BeginCodes();
    return "";
  }

  std::string HandleReply(const WireFrame& envelope) {
    if (calls.empty()) return absl::StrCat("an answer to no call, ", Quoted(envelope.method));
    const Call call = calls.front();
    if (envelope.method != NameOf(call)) {
      return absl::StrCat("an answer to ", Quoted(envelope.method), " instead of ",
                          std::string(NameOf(call)));
    }
    calls.pop_front();
    try {
      return Receive(call);
    } catch (wire::Refused& refused) {
      refused.detail = Printable(refused.detail);
      handler->OnRefused(*link, refused);
    }
    return "";
  }

  static std::string_view NameOf(Call call) {
    switch (call) {
      case Call::kHello: return "hello";
      case Call::kJoin: return "join";
      case Call::kAppend: return "append";
      case Call::kHandover: return "handover";
    }
    return "";
  }

  std::string Receive(Call call) {
    if (call == Call::kHello) {
      wire::HelloReply reply;
      primary_client.recv_hello(reply);
      return OnHelloReply(reply);
    }
    if (call == Call::kAppend) {
      wire::AppendReply reply;
      secondary_client.recv_append(reply);
      if (!reply.cannot_take_over.empty()) reply.cannot_take_over = Printable(reply.cannot_take_over, 400);
      handler->OnAppendReply(*link, reply);
    } else if (call == Call::kJoin) {
      wire::JoinReply reply;
      primary_client.recv_join(reply);
      if (!IsNodeName(reply.node)) return absl::StrCat("a node's name is ", kNodeNameWants);
      if (keyed() && reply.node != transcript.acceptor) return "another name than in hello";
      handler->OnJoinReply(*link, reply);
    } else {
      wire::HandoverReply reply;
      secondary_client.recv_handover(reply);
      handler->OnHandoverReply(*link, reply);
    }
    return "";
  }

  // Called by the generated processors.
  void join(wire::JoinReply& reply, const wire::JoinRequest& request) override {
    CheckProven();
    if (!IsNodeName(request.node)) {
      return Refuse(wire::RefuseReason::NOT_AUTHENTIC, absl::StrCat("a node's name is ", kNodeNameWants));
    }
    if (keyed() && request.node != transcript.dialer) {
      return Refuse(wire::RefuseReason::NOT_AUTHENTIC, "another name than in hello");
    }
    Answer(handler->OnJoin(*link, request, reply));
  }
  void append(wire::AppendReply& reply, const wire::AppendRequest& request) override {
    CheckProven();
    // The processor's own, on its stack, and of no further use to it: the records need not be
    // copied.
    auto& own = const_cast<wire::AppendRequest&>(request);
    Answer(handler->OnAppend(*link, std::move(own), reply));
  }
  void handover(wire::HandoverReply& reply, const wire::HandoverRequest& request) override {
    CheckProven();
    wire::HandoverRequest printable = request;
    printable.why = Printable(request.why);
    Answer(handler->OnHandover(*link, printable, reply));
  }
  void CheckProven() {
    if (!proven()) {
      Refuse(wire::RefuseReason::NOT_AUTHENTIC,
             "this node has a --replication_key_file, and wants it proven");
    }
  }
  void Refuse(wire::RefuseReason::type reason, std::string detail) {
    Handler::Verdict verdict;
    verdict.refuse = true;
    verdict.refused.reason = reason;
    verdict.refused.detail = std::move(detail);
    verdict.refused.epoch = 0;
    Answer(verdict);
  }
  void Answer(const Handler::Verdict& verdict) {
    if (!verdict.refuse || closed) return;
    refusing = true;
    refusal = absl::StrCat("refused: ", verdict.refused.detail);
    throw verdict.refused;
  }

  // --- Out ---

  template <typename Send>
  void Queue(Call call, Send send) {
    if (proven()) return Write(call, send);
    if (!closed && !refusing) waiting.push_back([this, call, send] { Write(call, send); });
  }

  template <typename Send>
  void Write(Call call, Send send) {
    if (closed || refusing) return;
    outgoing.BeginFrame();
    send();
    outgoing.EndFrame(outgoing_mac.get());
    calls.push_back(call);
    if (!in_turn) Flush();
  }

  // Writes what the kernel takes at once, and the rest when it can.
  void Flush() {
    while (!writing) {
      const std::string_view next = outgoing.Next();
      if (next.empty()) break;
      const ssize_t sent =
          ::send(socket.native_handle(), next.data(), next.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      if (sent >= 0) {
        outgoing.Written(static_cast<size_t>(sent));
      } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
        StartWrite();
      } else if (errno != EINTR) {
        FailLater(absl::StrCat("connection broken: ", strerror(errno)));
        return;
      }
    }
    if (outgoing.unsent() > kMaxUnsent) {
      FailLater(absl::StrCat("the other end does not read: ", outgoing.unsent(), " bytes wait"));
    } else if (refusing && outgoing.unsent() == 0) {
      FailLater(refusal);
    }
  }

  void StartWrite() {
    writing = true;
    const std::string_view held = outgoing.Hold();
    socket.async_write_some(
        asio::buffer(held.data(), held.size()),
        [self = shared_from_this()](error_code error, size_t bytes) { self->OnWritten(error, bytes); });
  }

  void OnWritten(const error_code& error, size_t bytes) {
    writing = false;
    if (closed) return;
    if (error) {
      Fail(absl::StrCat("connection broken: ", error.message()));
      return;
    }
    outgoing.Written(bytes);
    Flush();
  }

  // --- End ---

  // Not inside a method of Link.
  void FailLater(std::string reason) {
    if (failing) return;
    failing = true;
    asio::post(socket.get_executor(),
               [self = shared_from_this(), reason = std::move(reason)] { self->Fail(reason); });
  }

  void Fail(const std::string& reason) {
    if (closed) return;
    const std::shared_ptr<SocketLink> keep = link->shared_from_this();
    if (refusing && outgoing.unsent() == 0) {
      Linger();
    } else {
      Close();
    }
    handler->OnClosed(*keep, reason);
  }

  void Close() {
    closed = true;
    lingering = false;
    timer.cancel();
    error_code ignored;
    socket.close(ignored);
  }

  // Closing with unread input would reset the connection, and the refusal might never be read.
  void Linger() {
    closed = lingering = true;
    error_code ignored;
    socket.shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
    timer.expires_after(kLinger);
    timer.async_wait([self = shared_from_this()](error_code error) {
      if (!error) self->Close();
    });
  }

  asio::ip::tcp::socket socket;
  asio::steady_timer timer;
  Handler* const handler;
  SocketLink* link = nullptr;
  asio::ip::tcp::endpoint endpoint;

  const LinkSecurity security;
  LinkTranscript transcript;
  std::unique_ptr<FrameMac> outgoing_mac, incoming_mac;  // once hello has been answered
  std::deque<std::function<void()>> waiting;             // calls, until then

  bool stranger = true;
  bool in_turn = false;    // frames are being handled: what is queued is written together
  bool writing = false;    // an asynchronous write is under way
  bool refusing = false;   // nothing more is handled; closed once the refusal is written
  bool failing = false;    // OnClosed is on its way
  bool closed = false;     // no further callbacks
  bool lingering = false;  // closed; what still comes is thrown away
  std::string refusal;

  std::unique_ptr<char[]> input;
  size_t in_size = 0;
  size_t in_begin = 0;
  size_t in_end = 0;

  Outgoing outgoing;
  std::deque<Call> calls;  // not answered yet

  const std::shared_ptr<TMemoryBuffer> frame;
  const std::shared_ptr<TBinaryProtocol> in;
  const std::shared_ptr<TBinaryProtocol> out;
  wire::PrimaryServiceClient primary_client;
  wire::SecondaryServiceClient secondary_client;
  wire::PrimaryServiceProcessor primary_processor;
  wire::SecondaryServiceProcessor secondary_processor;
};

SocketLink::SocketLink(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) { impl_->link = this; }

SocketLink::~SocketLink() {
  if (!impl_->closed) impl_->Close();
}

std::shared_ptr<SocketLink> SocketLink::Start(asio::ip::tcp::socket socket, Handler* handler,
                                              const LinkSecurity& security,
                                              std::chrono::milliseconds first_frame_timeout) {
  std::shared_ptr<SocketLink> link(
      new SocketLink(std::make_shared<Impl>(std::move(socket), handler, security)));
  link->impl_->Begin(first_frame_timeout);
  return link;
}

void SocketLink::Join(const wire::JoinRequest& request) {
  impl_->Queue(Impl::Call::kJoin, [impl = impl_.get(), request] { impl->primary_client.send_join(request); });
}

void SocketLink::Append(const wire::AppendRequest& request) {
  // The way of every append: no copy. A node that appends has been joined, and both have proven themselves.
  if (!impl_->proven()) return impl_->FailLater("an append to a stranger");
  impl_->Write(Impl::Call::kAppend, [&] { impl_->secondary_client.send_append(request); });
}

void SocketLink::Handover(const wire::HandoverRequest& request) {
  impl_->Queue(Impl::Call::kHandover,
               [impl = impl_.get(), request] { impl->secondary_client.send_handover(request); });
}

void SocketLink::Close() {
  if (!impl_->closed) impl_->Close();
}

std::string SocketLink::remote() const {
  return absl::StrCat(impl_->endpoint.address().to_string(), ":", impl_->endpoint.port());
}

size_t SocketLink::unsent_bytes() const { return impl_->outgoing.unsent(); }

}  // namespace understudy::replication
