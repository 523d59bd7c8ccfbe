// The calls of the pair (replication.thrift) on one connection: who is there, what is asked and what is
// answered. The bytes and frames below are frames.h.
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
#include "replication/frames.h"
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

// How long a refused peer has to read the refusal.
constexpr std::chrono::milliseconds kLinger(1000);

std::string Quoted(std::string_view text) { return absl::StrCat("\"", Printable(text, 40), "\""); }

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
    const auto [room, size] = incoming.Room();
    socket.async_read_some(
        asio::buffer(room, size),
        [self = shared_from_this()](error_code error, size_t bytes) { self->OnRead(error, bytes); });
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
    incoming.Filled(bytes);
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
    incoming.Clear();
    StartRead();
  }

  void CheckKept(const std::shared_ptr<SocketLink>& keep) {
    if (!closed && keep.use_count() == 1) Close();
  }

  // All whole frames in the buffer. Returns what is wrong with them, if something is.
  std::string HandleFrames(const std::shared_ptr<SocketLink>& keep) {
    while (!closed && !refusing) {
      const IncomingFrames::Next next = incoming.TakeFrame(stranger ? kMaxFirstFrame : kMaxFrame);
      if (!next.fault.empty()) return next.fault;
      if (next.start == nullptr) break;
      if (std::string fault = HandleFrame(next.start, next.length); !fault.empty()) return fault;
      CheckKept(keep);
    }
    if (refusing) incoming.Clear();  // what came behind the refused call
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

  IncomingFrames incoming;
  OutgoingFrames outgoing;
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
