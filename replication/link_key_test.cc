// SocketLink with a shared key: who is believed.
#include "replication/link_fixture_for_test.h"

namespace understudy::replication {
namespace {

using testing::ElementsAre;

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
