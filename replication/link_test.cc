#include "replication/socket_link.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <functional>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "replication/record.h"

namespace understudy::replication {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

constexpr std::chrono::seconds kPatience(20);
const asio::ip::address kHere = asio::ip::address_v4::loopback();

// Notes what it is told; what it answers can be set.
class Recorder : public Link::Handler {
 public:
  Verdict OnJoin(Link& link, const wire::JoinRequest& request, wire::JoinReply& reply) override {
    heard.push_back("join " + request.node);
    reply.node = "primary";
    reply.epoch = 3;
    reply.next_lsn = request.last_lsn + 1;
    reply.suspect_after_ms = 80;
    if (on_call) on_call(link);
    return verdict;
  }
  Verdict OnAppend(Link& link, wire::AppendRequest request, wire::AppendReply& reply) override {
    ++appends;
    bytes += request.records.size();
    last_append = std::move(request);
    reply.epoch = last_append.epoch;
    reply.stored_lsn = last_append.first_lsn;
    reply.sent_at_ns = last_append.sent_at_ns;
    reply.applied_lsn = 0;
    if (on_call) on_call(link);
    return verdict;
  }
  Verdict OnHandover(Link& link, const wire::HandoverRequest& request, wire::HandoverReply& reply) override {
    heard.push_back("handover " + request.why);
    reply.epoch = request.epoch;
    if (on_call) on_call(link);
    return verdict;
  }
  void OnJoinReply(Link& link, const wire::JoinReply& reply) override {
    heard.push_back("joined " + reply.node);
    if (on_reply) on_reply(link);
  }
  void OnAppendReply(Link& link, const wire::AppendReply& reply) override {
    replies.push_back(reply.stored_lsn);
    if (on_reply) on_reply(link);
  }
  void OnHandoverReply(Link& link, const wire::HandoverReply&) override {
    heard.push_back("handover answered");
    if (on_reply) on_reply(link);
  }
  void OnRefused(Link&, const wire::Refused& refused) override {
    heard.push_back("refused " + refused.detail);
  }
  void OnClosed(Link& link, const std::string& reason) override {
    EXPECT_FALSE(closed.has_value()) << "closed twice: " << reason;
    closed = reason;
    if (on_closed) on_closed(link);
  }
  void OnTurnDone(Link& link) override {
    ++turns;
    if (on_turn) on_turn(link);
  }

  std::vector<std::string> heard;
  std::vector<int64_t> replies;
  int appends = 0;
  int turns = 0;
  size_t bytes = 0;
  wire::AppendRequest last_append;
  std::optional<std::string> closed;
  Verdict verdict;
  std::function<void(Link&)> on_call, on_reply, on_closed, on_turn;
};

wire::AppendRequest Append(int64_t lsn, std::string records = "") {
  wire::AppendRequest request;
  request.epoch = 3;
  request.first_lsn = lsn;
  request.records = std::move(records);
  request.sent_at_ns = lsn * 1000;
  request.member = true;
  request.executed_lsn = 0;
  request.output_hash = -5;
  return request;
}

wire::JoinRequest JoinAs(const std::string& node) {
  wire::JoinRequest request;
  request.__set_settings({{"--one", "1"}, {"--two", ""}});
  request.protocol_version = 1;
  request.service_address = "10.0.0.1:80";
  request.node = node;
  request.epoch = 0;
  request.last_lsn = 0;
  return request;
}

class LinkTest : public testing::Test {
 protected:
  LinkTest() {
    auto made = LinkListener::Open(loop_, {kHere, 0}, kHere,
                                   [this](tcp::socket socket) { accepted_ = std::move(socket); });
    EXPECT_TRUE(made.ok()) << made.status();
    listener_ = *std::move(made);
  }

  // Runs the loop until something is so.
  bool Until(const std::function<bool()>& so) {
    const auto end = std::chrono::steady_clock::now() + kPatience;
    while (!so()) {
      loop_.restart();
      if (loop_.run_one_until(end) == 0) return so();
    }
    return true;
  }

  tcp::socket Dialed() {
    std::optional<tcp::socket> out;
    accepted_.reset();
    DialPeer(loop_, kHere, listener_->local(), kPatience, [&out](DialResult result, tcp::socket socket) {
      EXPECT_EQ(result, DialResult::kConnected);
      out = std::move(socket);
    });
    EXPECT_TRUE(Until([&] { return out.has_value() && accepted_.has_value(); }));
    return *std::move(out);
  }

  void Pair() {
    secondary_link_ = SocketLink::Start(Dialed(), &secondary_, secondary_security_);
    primary_link_ = SocketLink::Start(*std::move(accepted_), &primary_, primary_security_);
  }

  // A link on one end, bare bytes on the other.
  tcp::socket Bare(std::chrono::milliseconds timeout = std::chrono::seconds(20)) {
    tcp::socket socket = Dialed();
    primary_link_ = SocketLink::Start(*std::move(accepted_), &primary_, primary_security_, timeout);
    return socket;
  }

  std::string ClosedBy(const std::string& bytes) {
    tcp::socket socket = Bare();
    boost::system::error_code ignored;
    asio::write(socket, asio::buffer(bytes), ignored);
    EXPECT_TRUE(Until([this] { return primary_.closed.has_value(); }));
    std::string reason = primary_.closed.value_or("still open");
    primary_.closed.reset();
    return reason;
  }

  // What a real link sends first.
  std::string RealFrame(const std::function<void(Link&)>& send) {
    tcp::socket socket = Bare();
    send(*primary_link_);
    std::string bytes(4, '\0');
    asio::read(socket, asio::buffer(bytes));
    uint32_t length;
    memcpy(&length, bytes.data(), 4);
    bytes.resize(4 + ntohl(length));
    asio::read(socket, asio::buffer(bytes.data() + 4, bytes.size() - 4));
    primary_link_->Close();
    return bytes;
  }

  asio::io_context loop_;
  std::unique_ptr<LinkListener> listener_;
  std::optional<tcp::socket> accepted_;
  Recorder primary_, secondary_;
  LinkSecurity primary_security_, secondary_security_;
  std::shared_ptr<SocketLink> primary_link_, secondary_link_;
};

std::string Frame(const std::string& message) {
  const uint32_t length = htonl(static_cast<uint32_t>(message.size()));
  return std::string(reinterpret_cast<const char*>(&length), 4) + message;
}

std::string Message(uint8_t type, const std::string& method, const std::string& rest) {
  std::string out("\x80\x01\x00", 3);
  out += static_cast<char>(type);
  const uint32_t length = htonl(static_cast<uint32_t>(method.size()));
  out.append(reinterpret_cast<const char*>(&length), 4);
  return out + method + std::string(4, '\0') + rest;
}

TEST_F(LinkTest, EachCallAndItsAnswer) {
  Pair();
  secondary_link_->Join(JoinAs("b"));
  ASSERT_TRUE(Until([this] { return !secondary_.heard.empty(); }));
  EXPECT_THAT(primary_.heard, ElementsAre("join b"));
  EXPECT_THAT(secondary_.heard, ElementsAre("joined primary"));

  BatchBuilder builder(7);
  builder.Append(1, 2, "body");
  const std::string records = builder.Seal().bytes();
  primary_link_->Append(Append(7, records));
  wire::HandoverRequest handover;
  handover.epoch = 3;
  handover.last_lsn = 7;
  handover.why = "test";
  primary_link_->Handover(handover);
  ASSERT_TRUE(Until([this] { return primary_.heard.size() == 2; }));
  EXPECT_EQ(secondary_.last_append.records, records);
  EXPECT_EQ(secondary_.last_append.first_lsn, 7);
  EXPECT_EQ(secondary_.last_append.sent_at_ns, 7000);
  EXPECT_TRUE(secondary_.last_append.member);
  EXPECT_EQ(secondary_.last_append.output_hash, -5);
  EXPECT_THAT(primary_.replies, ElementsAre(7));
  EXPECT_THAT(secondary_.heard, ElementsAre("joined primary", "handover test"));
  EXPECT_THAT(primary_.heard, ElementsAre("join b", "handover answered"));
  EXPECT_GT(secondary_.turns, 0);
  EXPECT_FALSE(primary_.closed || secondary_.closed);
  EXPECT_THAT(primary_link_->remote(), testing::StartsWith("127.0.0.1:"));
}

TEST_F(LinkTest, TenThousandInFlight) {
  Pair();
  constexpr int kCalls = 10000;
  for (int i = 1; i <= kCalls; ++i) primary_link_->Append(Append(i, std::string(1000, 'x')));
  EXPECT_GT(primary_link_->unsent_bytes(), 0u);
  ASSERT_TRUE(Until([&] { return primary_.replies.size() == kCalls; }));
  for (int i = 0; i < kCalls; ++i) ASSERT_EQ(primary_.replies[i], i + 1);
  EXPECT_EQ(secondary_.appends, kCalls);
  EXPECT_EQ(primary_link_->unsent_bytes(), 0u);
}

TEST_F(LinkTest, LargeFrames) {
  Pair();
  primary_link_->Append(Append(1));
  const size_t large = kMaxFrame - 1000;
  primary_link_->Append(Append(2, std::string(large, 'y')));
  primary_link_->Append(Append(3, "small"));
  ASSERT_TRUE(Until([&] { return primary_.replies.size() == 3; }));
  EXPECT_EQ(secondary_.bytes, large + 5);
  EXPECT_EQ(secondary_.last_append.records, "small");
}

TEST_F(LinkTest, CallsInsideCallbacksGoOut) {
  Pair();
  int rounds = 0;
  primary_.on_reply = [&rounds](Link& link) {
    if (++rounds < 100) link.Append(Append(rounds + 1));
  };
  primary_link_->Append(Append(1));
  ASSERT_TRUE(Until([&] { return rounds == 100; }));
  EXPECT_EQ(secondary_.appends, 100);
}

TEST_F(LinkTest, RefusalArrivesAndThenTheLinkIsClosed) {
  Pair();
  secondary_.verdict.refuse = true;
  secondary_.verdict.refused.reason = wire::RefuseReason::OUT_OF_ORDER;
  secondary_.verdict.refused.detail = "not now";
  secondary_.verdict.refused.epoch = 9;
  // What is behind the refused call is not even looked at, and must not reset the connection.
  for (int i = 1; i <= 100; ++i) primary_link_->Append(Append(i, std::string(10000, 'x')));
  ASSERT_TRUE(Until([this] { return primary_.closed && secondary_.closed; }));
  EXPECT_EQ(secondary_.appends, 1);
  EXPECT_THAT(primary_.heard, ElementsAre("refused not now"));
  EXPECT_EQ(*secondary_.closed, "refused: not now");
  EXPECT_EQ(*primary_.closed, "closed by the other end");
}

TEST_F(LinkTest, ClosedByTheOtherEnd) {
  Pair();
  primary_link_->Close();
  ASSERT_TRUE(Until([this] { return secondary_.closed.has_value(); }));
  EXPECT_EQ(*secondary_.closed, "closed by the other end");
  EXPECT_FALSE(primary_.closed.has_value());
  primary_link_->Append(Append(1));
  secondary_link_->Append(Append(1));
}

TEST_F(LinkTest, DestroyedInsideEachCallback) {
  for (int which = 0; which < 5; ++which) {
    SCOPED_TRACE(which);
    primary_ = Recorder();
    secondary_ = Recorder();
    Pair();
    const auto destroy_secondary = [this](Link&) { secondary_link_.reset(); };
    const auto destroy_primary = [this](Link&) { primary_link_.reset(); };
    if (which == 0) secondary_.on_call = destroy_secondary;
    if (which == 1) primary_.on_reply = destroy_primary;
    if (which == 2) secondary_.on_turn = destroy_secondary;
    if (which == 3) {
      secondary_.on_call = [](Link& link) { link.Close(); };
      primary_.on_closed = destroy_primary;
    }
    if (which == 4) primary_.on_turn = [](Link& link) { link.Close(); };
    for (int i = 1; i <= 10; ++i) primary_link_->Append(Append(i));
    ASSERT_TRUE(Until([this] { return primary_.closed || secondary_.closed; }));
    if (which == 0 || which == 3) {
      EXPECT_EQ(secondary_.appends, 1);
    }
    if (which == 1) {
      EXPECT_EQ(primary_.replies.size(), 1u);
    }
    primary_link_.reset();
    secondary_link_.reset();
  }
}

TEST_F(LinkTest, OversizedFrame) {
  const std::string first_too_long("\x00\x01\x00\x01", 4);
  EXPECT_EQ(ClosedBy(first_too_long), "announces a frame of 65537 bytes, at most 65536");
  const std::string negative("\xff\xff\xff\xff", 4);
  EXPECT_EQ(ClosedBy(negative), "announces a frame of 4294967295 bytes, at most 65536");
  const std::string append = RealFrame([](Link& link) { link.Append(Append(1)); });
  const std::string too_long("\x02\x00\x00\x01", 4);
  EXPECT_EQ(ClosedBy(append + too_long), "announces a frame of 33554433 bytes, at most 33554432");
}

TEST_F(LinkTest, SilentStrangers) {
  for (const std::string& bytes :
       {std::string(), std::string("\0\0", 2), std::string("\0\0\0\x20half of it", 14)}) {
    tcp::socket socket = Bare(std::chrono::milliseconds(5));
    asio::write(socket, asio::buffer(bytes));
    ASSERT_TRUE(Until([this] { return primary_.closed.has_value(); }));
    EXPECT_EQ(*primary_.closed, "a stranger that says nothing, or not all of it");
    primary_.closed.reset();
  }
}

TEST_F(LinkTest, WhoHasSpokenMayBeSilent) {
  const std::string append = RealFrame([](Link& link) { link.Append(Append(1)); });
  tcp::socket socket = Bare(std::chrono::milliseconds(5));
  asio::write(socket, asio::buffer(append));
  ASSERT_TRUE(Until([this] { return primary_.appends == 1; }));
  bool later = false;
  asio::steady_timer timer(loop_, std::chrono::milliseconds(20));
  timer.async_wait([&later](boost::system::error_code) { later = true; });
  ASSERT_TRUE(Until([&] { return later; }));
  EXPECT_FALSE(primary_.closed.has_value());
}

TEST_F(LinkTest, MalformedMessages) {
  const std::string none(1, '\0');  // a struct without fields
  const std::string no_message = "a frame that is no Thrift message";
  EXPECT_EQ(ClosedBy(Frame("")), no_message);
  EXPECT_EQ(ClosedBy(Frame("GET / HTTP/1.1\r\n")), no_message);
  EXPECT_EQ(ClosedBy(Frame(std::string("\x80\x01\0\x01\xff\xff\xff\xff", 8))), no_message);
  EXPECT_EQ(ClosedBy(Frame(Message(1, "append", ""))), no_message);
  EXPECT_EQ(ClosedBy(Frame(Message(1, "append", std::string("\xec\0\x01\0", 4)))), no_message);
  EXPECT_EQ(ClosedBy(Frame(Message(1, "append", std::string("\x0f\0\x01\x08\0\0\0\0\0", 9)))),
            no_message);  // a list: there is none in the protocol
  // Maps of strings there are: one of something else, and one that says it has more than the frame.
  EXPECT_EQ(ClosedBy(Frame(Message(1, "append", std::string("\x0d\0\x01\x0b\x08\0\0\0\0\0", 10)))),
            no_message);
  EXPECT_EQ(ClosedBy(Frame(Message(1, "append", std::string("\x0d\0\x01\x0b\x0b\xff\xff\xff\xff\0", 10)))),
            no_message);
  EXPECT_EQ(ClosedBy(Frame(Message(1, "append", std::string("\x0d\0\x01\x0b\x0b\0\0\0\x01\0", 10)))),
            no_message);
  std::string deep;
  for (int i = 0; i < 1000; ++i) deep += std::string("\x0c\0\x01", 3);
  EXPECT_EQ(ClosedBy(Frame(Message(1, "append", deep + std::string(1001, '\0')))), no_message);
  EXPECT_EQ(ClosedBy(Frame(Message(1, "steal", none))), "a call of an unknown method \"steal\"");
  EXPECT_EQ(ClosedBy(Frame(Message(1, "\x01\xff", none))), "a call of an unknown method \"\\x01\\xff\"");
  for (uint8_t type : {0, 3, 4, 9, 255}) {
    EXPECT_EQ(ClosedBy(Frame(Message(type, "append", none))), "a message of type " + std::to_string(type));
  }
  EXPECT_EQ(ClosedBy(Frame(Message(2, "append", none))), "an answer to no call, \"append\"");
  EXPECT_EQ(primary_.appends, 0);
}

TEST_F(LinkTest, ArgumentsMissingOrOfAWrongSize) {
  // Field 1, a struct, empty: every required field is missing.
  const std::string empty("\x0c\x00\x01\x00\x00", 5);
  for (const char* method : {"append", "join", "handover"}) {
    EXPECT_THAT(ClosedBy(Frame(Message(1, method, empty))), StartsWith("a malformed message"));
  }
  const std::string append = RealFrame([](Link& link) { link.Append(Append(1, "abcd")); });
  std::string wrong = append;
  const size_t at =
      wrong.find(std::string("\0\0\0\x04"
                             "abcd",
                             8));
  ASSERT_NE(at, std::string::npos);
  for (char size : {'\xff', '\x80', '\x10', '\x01'}) {  // negative, and larger than the frame
    wrong[at] = size;
    EXPECT_EQ(ClosedBy(wrong), "a frame that is no Thrift message");
  }
  EXPECT_EQ(primary_.appends, 0);
}

TEST_F(LinkTest, BytesBehindAMessage) {
  const std::string append = RealFrame([](Link& link) { link.Append(Append(1)); });
  EXPECT_EQ(ClosedBy(Frame(append.substr(4) + "xyz")), "3 bytes too many in a frame");
}

TEST_F(LinkTest, AnswersThatDoNotFit) {
  const std::string none(1, '\0');
  const auto answered = [this](const std::string& bytes) {
    tcp::socket socket = Bare();
    primary_link_->Append(Append(1));
    asio::write(socket, asio::buffer(bytes));
    EXPECT_TRUE(Until([this] { return primary_.closed.has_value(); }));
    std::string reason = primary_.closed.value_or("still open");
    primary_.closed.reset();
    return reason;
  };
  EXPECT_EQ(answered(Frame(Message(2, "join", none))), "an answer to \"join\" instead of append");
  EXPECT_EQ(answered(Frame(Message(2, "append", none))),
            "no answer in an answer: append failed: unknown result");
  // A TApplicationException.
  EXPECT_EQ(answered(Frame(Message(3, "append", none))), "a message of type 3");
  // A Refused with a reason that has no name is still a Refused.
  const std::string refused(
      "\x0c\0\x01\x08\0\x01\x7f\0\0\x01\x0b\0\x02\0\0\0\x01"
      "x\x0a\0\x03\0\0\0\0\0\0\0\x09\0\0",
      31);
  EXPECT_EQ(answered(Frame(Message(2, "append", refused)) + "\xff\xff\xff\xff"),
            "announces a frame of 4294967295 bytes, at most 33554432");
  EXPECT_THAT(primary_.heard, ElementsAre("refused x"));
  EXPECT_TRUE(primary_.replies.empty());
}

TEST_F(LinkTest, RandomBytesAtWorstCloseTheLink) {
  const uint32_t seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  const std::string good = RealFrame([](Link& link) { link.Append(Append(1, "records")); }) +
                           RealFrame([](Link& link) { link.Join(JoinAs("x")); });
  for (int round = 0; round < 300; ++round) {
    std::string bytes;
    if (round % 3 == 0) {
      bytes.resize(random() % 2000);
      for (char& c : bytes) c = static_cast<char>(random());
    } else {
      bytes = good;
      for (uint32_t n = 1 + random() % 4; n > 0; --n) {
        bytes[random() % bytes.size()] = static_cast<char>(random());
      }
      if (round % 3 == 2) bytes.resize(random() % bytes.size());
    }
    tcp::socket socket = Bare();
    asio::write(socket, asio::buffer(bytes));
    boost::system::error_code ignored;
    socket.shutdown(tcp::socket::shutdown_send, ignored);
    ASSERT_TRUE(Until([this] { return primary_.closed.has_value(); }));
    primary_.closed.reset();
  }
}

TEST_F(LinkTest, ByteByByte) {
  const std::string good = RealFrame([](Link& link) { link.Append(Append(1, "records")); });
  tcp::socket socket = Bare();
  for (char c : good + good) {
    asio::write(socket, asio::buffer(&c, 1));
    loop_.poll();
    loop_.restart();
  }
  ASSERT_TRUE(Until([this] { return primary_.appends == 2; }));
  EXPECT_EQ(primary_.last_append.records, "records");
}

TEST_F(LinkTest, APeerThatDoesNotReadIsClosed) {
  tcp::socket socket = Bare();
  const wire::AppendRequest request = Append(1, std::string(16 << 20, 'x'));
  for (int i = 0; i < 20 && !primary_.closed; ++i) {
    primary_link_->Append(request);
    loop_.poll();
    loop_.restart();
  }
  ASSERT_TRUE(Until([this] { return primary_.closed.has_value(); }));
  EXPECT_THAT(*primary_.closed, StartsWith("the other end does not read"));
}

TEST_F(LinkTest, DialRefused) {
  const tcp::endpoint nobody = listener_->local();
  listener_.reset();
  std::optional<DialResult> result;
  DialPeer(loop_, kHere, nobody, kPatience, [&](DialResult r, tcp::socket) { result = r; });
  EXPECT_FALSE(result.has_value());
  ASSERT_TRUE(Until([&] { return result.has_value(); }));
  EXPECT_EQ(*result, DialResult::kRefused);
}

TEST_F(LinkTest, DialUnreachable) {
  // A listener whose queue is full does not answer: the dial has to give up by itself.
  tcp::acceptor full(loop_);
  full.open(tcp::v4());
  full.bind({asio::ip::address_v4::loopback(), 0});
  full.listen(0);
  tcp::socket first(loop_), second(loop_);
  first.connect(full.local_endpoint());
  second.open(tcp::v4());
  second.non_blocking(true);
  const tcp::endpoint address = full.local_endpoint();
  ::connect(second.native_handle(), address.data(), address.size());
  std::optional<DialResult> result;
  DialPeer(loop_, kHere, full.local_endpoint(), std::chrono::milliseconds(20),
           [&](DialResult r, tcp::socket) { result = r; });
  ASSERT_TRUE(Until([&] { return result.has_value(); }));
  EXPECT_EQ(*result, DialResult::kUnreachable);
}

TEST_F(LinkTest, ListenerNamesWhatIsWrong) {
  auto second = LinkListener::Open(loop_, listener_->local(), kHere, [](tcp::socket) {});
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(second.status().message()), HasSubstr("127.0.0.1:"));
  auto elsewhere =
      LinkListener::Open(loop_, {asio::ip::make_address("192.0.2.1"), 0}, kHere, [](tcp::socket) {});
  EXPECT_EQ(elsewhere.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(elsewhere.status().message()), HasSubstr("192.0.2.1:0"));
}

// --- Who may connect, and who is believed --------------------------------------------------------

TEST_F(LinkTest, OnlyThePeerMayConnect) {
  const asio::ip::address peer = asio::ip::make_address("127.0.0.2");
  std::vector<tcp::endpoint> came;
  auto listener = LinkListener::Open(loop_, {kHere, 0}, peer,
                                     [&](tcp::socket socket) { came.push_back(socket.remote_endpoint()); });
  ASSERT_TRUE(listener.ok()) << listener.status();
  int dialed = 0;
  const auto dial = [&](const asio::ip::address& from) {
    DialPeer(loop_, from, (*listener)->local(), kPatience, [&](DialResult, tcp::socket) { ++dialed; });
  };
  constexpr int kStrangers = 300;
  for (int i = 0; i < kStrangers; ++i) {
    dial(asio::ip::make_address("127.0.0.3"));
    if (i % 100 == 50) dial(peer);
  }
  ASSERT_TRUE(Until([&] { return (*listener)->turned_away() == kStrangers && came.size() == 3; }));
  for (const tcp::endpoint& from : came) EXPECT_EQ(from.address(), peer);
}

class KeyedLinkTest : public LinkTest {
 protected:
  KeyedLinkTest() {
    primary_security_ = {.key = std::string(32, 'k'), .service = "10.0.0.1:80", .node = "primary"};
    secondary_security_ = primary_security_;
    secondary_security_.node = "b";
    secondary_security_.dialed = true;
  }

  // Passes on what one end sends until it has been quiet for a while; what it was.
  std::string Heard(tcp::socket& from, size_t at_least) {
    std::string bytes;
    Until([&] {
      char some[4096];
      boost::system::error_code error;
      from.non_blocking(true);
      const size_t size = from.read_some(asio::buffer(some), error);
      bytes.append(some, size);
      if (bytes.size() < at_least) asio::post(loop_, [] {});
      return bytes.size() >= at_least || (error && error != asio::error::would_block);
    });
    return bytes;
  }

  void ExpectNobodyHeard() {
    EXPECT_THAT(primary_.heard, testing::IsEmpty());
    EXPECT_EQ(primary_.appends, 0);
    EXPECT_THAT(secondary_.heard, testing::Not(testing::Contains("joined primary")));
  }
};

TEST_F(KeyedLinkTest, EachCallAndItsAnswer) {
  Pair();
  secondary_link_->Join(JoinAs("b"));
  ASSERT_TRUE(Until([this] { return !secondary_.heard.empty(); }));
  EXPECT_THAT(primary_.heard, ElementsAre("join b"));
  EXPECT_THAT(secondary_.heard, ElementsAre("joined primary"));
  for (int i = 1; i <= 1000; ++i) primary_link_->Append(Append(i, std::string(i * 7, 'x')));
  wire::HandoverRequest handover;
  handover.epoch = 3;
  handover.last_lsn = 1000;
  handover.why = "a\nforged line " + std::string(5000, 'x');
  primary_link_->Handover(handover);
  ASSERT_TRUE(Until([this] { return primary_.heard.size() == 2; }));
  EXPECT_EQ(secondary_.appends, 1000);
  EXPECT_EQ(primary_.replies.size(), 1000u);
  EXPECT_EQ(secondary_.heard.back().find('\n'), std::string::npos);
  EXPECT_LT(secondary_.heard.back().size(), 300u);
  EXPECT_FALSE(primary_.closed || secondary_.closed);
}

TEST_F(KeyedLinkTest, AnotherKey) {
  secondary_security_.key.back() = 'l';
  Pair();
  secondary_link_->Join(JoinAs("b"));
  ASSERT_TRUE(Until([this] { return primary_.closed && secondary_.closed; }));
  EXPECT_EQ(*secondary_.closed, "the other end has another --replication_key_file");
  ExpectNobodyHeard();
}

TEST_F(KeyedLinkTest, NoKeyOnOneEnd) {
  primary_security_.key.clear();
  Pair();
  secondary_link_->Join(JoinAs("b"));
  ASSERT_TRUE(Until([this] { return primary_.closed && secondary_.closed; }));
  EXPECT_THAT(secondary_.heard,
              ElementsAre("refused the node that was dialed has no --replication_key_file"));
  secondary_.heard.clear();
  ExpectNobodyHeard();
  primary_.closed.reset();
  secondary_.closed.reset();
  std::swap(primary_security_.key, secondary_security_.key);
  primary_security_.key = std::string(32, 'k');
  secondary_security_.key.clear();
  Pair();
  secondary_link_->Join(JoinAs("b"));
  ASSERT_TRUE(Until([this] { return primary_.closed && secondary_.closed; }));
  EXPECT_THAT(secondary_.heard,
              ElementsAre("refused this node has a --replication_key_file, and wants it proven"));
  ExpectNobodyHeard();
}

TEST_F(KeyedLinkTest, AnotherNameThanInHello) {
  Pair();
  secondary_link_->Join(JoinAs("c"));
  ASSERT_TRUE(Until([this] { return primary_.closed && secondary_.closed; }));
  EXPECT_THAT(secondary_.heard, ElementsAre("refused another name than in hello"));
  ExpectNobodyHeard();
}

TEST_F(KeyedLinkTest, NamesThatAreNone) {
  for (const std::string& name : {std::string("a\nE1125 forged"), std::string(5000, 'x'), std::string()}) {
    primary_.closed.reset();
    secondary_.closed.reset();
    secondary_security_.node = name;
    Pair();
    secondary_link_->Join(JoinAs(name));
    ASSERT_TRUE(Until([this] { return primary_.closed && secondary_.closed; }));
    ExpectNobodyHeard();
    EXPECT_EQ(primary_.closed->find('\n'), std::string::npos);
    EXPECT_LT(primary_.closed->size(), 200u);
  }
}

// A handshake between the true nodes, recorded and said again to the primary.
TEST_F(KeyedLinkTest, AReplayedHandshake) {
  tcp::socket to_secondary = Dialed();
  secondary_link_ = SocketLink::Start(*std::move(accepted_), &secondary_, secondary_security_);
  secondary_link_->Join(JoinAs("b"));
  tcp::socket to_primary = Bare();
  std::string hello = Heard(to_secondary, 60);
  asio::write(to_primary, asio::buffer(hello));
  asio::write(to_secondary, asio::buffer(Heard(to_primary, 100)));
  const std::string join = Heard(to_secondary, 60);
  asio::write(to_primary, asio::buffer(join));
  ASSERT_TRUE(Until([this] { return primary_.heard.size() == 1; })) << "passed on, it is a join";
  primary_.heard.clear();
  primary_link_->Close();

  tcp::socket again = Bare();
  asio::write(again, asio::buffer(hello));
  Heard(again, 100);
  asio::write(again, asio::buffer(join));
  ASSERT_TRUE(Until([this] { return primary_.closed.has_value(); }));
  EXPECT_EQ(*primary_.closed, "a frame that the holder of the key has not sent");
  ExpectNobodyHeard();
}

// Whoever sits between the nodes: one bit of any frame, a frame twice, none of the first.
TEST_F(KeyedLinkTest, WhatIsTamperedWithIsFound) {
  for (int which = 0; which < 3; ++which) {
    SCOPED_TRACE(which);
    primary_ = Recorder();
    secondary_ = Recorder();
    tcp::socket to_secondary = Dialed();
    secondary_link_ = SocketLink::Start(*std::move(accepted_), &secondary_, secondary_security_);
    tcp::socket to_primary = Bare();
    asio::write(to_primary, asio::buffer(Heard(to_secondary, 60)));
    asio::write(to_secondary, asio::buffer(Heard(to_primary, 100)));
    secondary_link_->Join(JoinAs("b"));
    std::string join = Heard(to_secondary, 60);
    if (which == 0) join[join.size() / 2] ^= 1;
    if (which == 1) join += join;
    if (which == 2) {
      secondary_link_->Join(JoinAs("b"));
      join = Heard(to_secondary, 60);
    }
    asio::write(to_primary, asio::buffer(join));
    ASSERT_TRUE(Until([this] { return primary_.closed.has_value(); }));
    EXPECT_EQ(*primary_.closed, "a frame that the holder of the key has not sent");
    EXPECT_EQ(primary_.heard.size(), which == 1 ? 1u : 0u);
    secondary_link_->Close();
  }
}

TEST_F(KeyedLinkTest, WhoDoesNotProveTheKeyIsAStranger) {
  tcp::socket socket = Bare(std::chrono::milliseconds(50));
  secondary_link_.reset();
  // A good hello and then nothing: that much anybody can say.
  tcp::socket to_secondary = Dialed();
  secondary_link_ = SocketLink::Start(*std::move(accepted_), &secondary_, secondary_security_);
  asio::write(socket, asio::buffer(Heard(to_secondary, 60)));
  ASSERT_TRUE(Until([this] { return primary_.closed.has_value(); }));
  EXPECT_EQ(*primary_.closed, "a stranger that says nothing, or not all of it");
  ExpectNobodyHeard();
}

}  // namespace
}  // namespace understudy::replication
