// SocketLink: calls and their answers, how a link ends, listening and dialing.
#include "replication/link_fixture_for_test.h"

namespace understudy::replication {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

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

// As a node is sent that catches up.
TEST_F(LinkTest, AnAppendOfManyTurns) {
  Pair();
  wire::AppendRequest request = Append(7);
  for (int64_t lsn = 7; lsn < 2007; ++lsn) {
    wire::OutputHash hash;
    hash.lsn = lsn;
    hash.hash = -lsn;
    request.earlier_hashes.push_back(hash);
  }
  request.__isset.earlier_hashes = true;
  primary_link_->Append(request);
  ASSERT_TRUE(Until([this] { return secondary_.appends == 1 || secondary_.closed.has_value(); }));
  EXPECT_EQ(secondary_.closed, std::nullopt);
  EXPECT_EQ(secondary_.last_append.earlier_hashes, request.earlier_hashes);
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

}  // namespace
}  // namespace understudy::replication
