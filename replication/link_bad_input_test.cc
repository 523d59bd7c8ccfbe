// SocketLink: whatever the other end sends (I8).
#include "replication/link_fixture_for_test.h"

namespace understudy::replication {
namespace {

using testing::ElementsAre;
using testing::StartsWith;

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

}  // namespace
}  // namespace understudy::replication
