#include "framework/record_body.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace understudy {
namespace {

using testing::HasSubstr;

Opened SomeOpened() {
  Opened opened;
  opened.connection = 0x1122334455667788;
  opened.tuple = {{0xc6120001, 7000}, {0xc6120009, 40000}};
  opened.iss = 0xfffffffe;
  opened.irs = 0x80000001;
  opened.options = {.peer_mss = 1460,
                    .own_mss = 1448,
                    .window_scaling = true,
                    .snd_wscale = 9,
                    .rcv_wscale = 7,
                    .sack = true,
                    .timestamps = true};
  opened.window = 64240;
  opened.timestamp = 0x0a0b0c0d;
  opened.timestamp_echo = 0xdeadbeef;
  opened.timestamp_offset = 0x01020304;
  opened.ecn = true;
  return opened;
}

TEST(RecordBodyTest, EpochBeganComesBack) {
  const auto body =
      DecodeEpochBegan(Encode(EpochBegan{7, 0xfedcba9876543210, 0xffffff00, "alpha", "3 keys, crc 1234"}));
  ASSERT_TRUE(body.ok()) << body.status();
  EXPECT_EQ(body->epoch, 7u);
  EXPECT_EQ(body->seed, 0xfedcba9876543210u);
  EXPECT_EQ(body->timestamp_shift, 0xffffff00u);
  EXPECT_EQ(body->node, "alpha");
  EXPECT_EQ(body->initial_state, "3 keys, crc 1234");
}

TEST(RecordBodyTest, OpenedComesBack) {
  const Opened in = SomeOpened();
  const auto out = DecodeOpened(Encode(in));
  ASSERT_TRUE(out.ok()) << out.status();
  EXPECT_EQ(out->connection, in.connection);
  EXPECT_EQ(out->tuple, in.tuple);
  EXPECT_EQ(out->iss, in.iss);
  EXPECT_EQ(out->irs, in.irs);
  EXPECT_EQ(out->options, in.options);
  EXPECT_EQ(out->window, in.window);
  EXPECT_EQ(out->timestamp, in.timestamp);
  EXPECT_EQ(out->timestamp_echo, in.timestamp_echo);
  EXPECT_EQ(out->timestamp_offset, in.timestamp_offset);
  EXPECT_TRUE(out->ecn);
  EXPECT_FALSE(DecodeOpened(Encode(Opened{}))->ecn);
}

TEST(RecordBodyTest, AWindowScaleThatTcpDoesNotKnowIsRefused) {
  for (const bool own : {false, true}) {
    Opened in = SomeOpened();
    uint8_t& shift = own ? in.options.rcv_wscale : in.options.snd_wscale;
    shift = 14;
    EXPECT_TRUE(DecodeOpened(Encode(in)).ok());
    shift = 15;
    EXPECT_THAT(std::string(DecodeOpened(Encode(in)).status().message()), HasSubstr("window scale"));
  }
}

TEST(RecordBodyTest, StorageComesBackAndIsYesOrNo) {
  for (const uint8_t writable : {0, 1})
    EXPECT_EQ(DecodeStorage(Encode(Storage{writable}))->writable, writable);
  EXPECT_FALSE(DecodeStorage(std::string(1, '\2')).ok());
}

// Each option on its own: two that are mixed up would not show where all are the same.
TEST(RecordBodyTest, EachOptionHasItsPlace) {
  const std::vector<std::function<void(tcpshim::TcpOptions&)>> changes = {
      [](auto& o) { o.peer_mss = 1; },          [](auto& o) { o.own_mss = 1; },
      [](auto& o) { o.window_scaling = true; }, [](auto& o) { o.snd_wscale = 3; },
      [](auto& o) { o.rcv_wscale = 3; },        [](auto& o) { o.sack = true; },
      [](auto& o) { o.timestamps = true; }};
  for (size_t i = 0; i < changes.size(); ++i) {
    Opened in;
    changes[i](in.options);
    const auto out = DecodeOpened(Encode(in));
    ASSERT_TRUE(out.ok());
    EXPECT_EQ(out->options, in.options) << "change " << i;
  }
}

TEST(RecordBodyTest, ReceivedComesBackWithItsBytes) {
  const Received in{9, {1'000'000'000'000, 70'000, 123'456}, {}};
  const std::string head = EncodeHead(in);
  EXPECT_EQ(head.size(), kReceivedHeadSize);
  for (const std::string& bytes : {std::string(), std::string("x"), std::string(5000, '\0')}) {
    const std::string body = head + bytes;
    const auto out = DecodeReceived(body);
    ASSERT_TRUE(out.ok()) << out.status();
    EXPECT_EQ(out->connection, 9u);
    EXPECT_EQ(out->view.acked, 1'000'000'000'000u);
    EXPECT_EQ(out->view.window, 70'000u);
    EXPECT_EQ(out->view.offered, 123'456u);
    EXPECT_EQ(out->bytes, bytes);
  }
}

TEST(RecordBodyTest, TheOthersComeBack) {
  const auto progress = DecodeProgress(Encode(Progress{3, {4, 5, 6}}));
  ASSERT_TRUE(progress.ok());
  EXPECT_EQ(progress->connection, 3u);
  EXPECT_EQ(progress->view.acked, 4u);
  EXPECT_EQ(progress->view.window, 5u);
  EXPECT_EQ(progress->view.offered, 6u);
  const auto timer = DecodeTimerFired(Encode(TimerFired{3, 0xffffffff}));
  ASSERT_TRUE(timer.ok());
  EXPECT_EQ(timer->connection, 3u);
  EXPECT_EQ(timer->timer, 0xffffffffu);
  const auto broken = DecodeBroken(Encode(Broken{3, -104}));
  ASSERT_TRUE(broken.ok());
  EXPECT_EQ(broken->connection, 3u);
  EXPECT_EQ(broken->error, -104);
  const auto only = DecodeConnectionOnly(Encode(ConnectionOnly{3}));
  ASSERT_TRUE(only.ok());
  EXPECT_EQ(only->connection, 3u);
}

// The numbers reach the wire and the disk.
TEST(RecordBodyTest, TheNumbersOfTheKindsAreFixed) {
  EXPECT_EQ(static_cast<int>(RecordKind::kEpochBegan), 1);
  EXPECT_EQ(static_cast<int>(RecordKind::kOpened), 2);
  EXPECT_EQ(static_cast<int>(RecordKind::kConnected), 3);
  EXPECT_EQ(static_cast<int>(RecordKind::kReceived), 4);
  EXPECT_EQ(static_cast<int>(RecordKind::kPeerClosed), 5);
  EXPECT_EQ(static_cast<int>(RecordKind::kBroken), 6);
  EXPECT_EQ(static_cast<int>(RecordKind::kProgress), 7);
  EXPECT_EQ(static_cast<int>(RecordKind::kTimerFired), 8);
  EXPECT_EQ(static_cast<int>(RecordKind::kEnded), 9);
  EXPECT_EQ(static_cast<int>(RecordKind::kStorage), 10);
  EXPECT_EQ(static_cast<int>(RecordKind::kFault), 11);
}

TEST(RecordBodyTest, LittleEndianWithoutPadding) {
  EXPECT_EQ(Encode(TimerFired{0x0102030405060708, 0x090a0b0c}),
            std::string("\x08\x07\x06\x05\x04\x03\x02\x01\x0c\x0b\x0a\x09", 12));
  EXPECT_EQ(Encode(Progress{1, {2, 3, 4}}),
            std::string("\1\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0\3\0\0\0\4\0\0\0", 24));
}

struct Kind {
  const char* name;
  std::string whole;
  std::function<absl::Status(std::string_view)> decode;
  size_t least;     // bytes that must be there
  bool open_ended;  // what follows them belongs to the body
};

template <typename Decode>
std::function<absl::Status(std::string_view)> StatusOf(Decode decode) {
  return [decode](std::string_view body) { return decode(body).status(); };
}

std::vector<Kind> Kinds() {
  const auto closed = [](const char* name, std::string whole, auto decode) {
    const size_t size = whole.size();
    return Kind{name, std::move(whole), StatusOf(decode), size, false};
  };
  return {
      {"EpochBegan", Encode(EpochBegan{1, 2, 3, "node", "state"}), StatusOf(DecodeEpochBegan), 28, true},
      {"Received", EncodeHead(Received{1, {2, 3, 4}, {}}) + "bytes", StatusOf(DecodeReceived),
       kReceivedHeadSize, true},
      closed("Opened", Encode(SomeOpened()), DecodeOpened),
      closed("Progress", Encode(Progress{1, {2, 3, 4}}), DecodeProgress),
      closed("TimerFired", Encode(TimerFired{1, 2}), DecodeTimerFired),
      closed("Broken", Encode(Broken{1, 2}), DecodeBroken),
      closed("ConnectionOnly", Encode(ConnectionOnly{1}), DecodeConnectionOnly),
  };
}

TEST(RecordBodyTest, EveryTruncationIsRefused) {
  for (const Kind& kind : Kinds()) {
    for (size_t size = 0; size < kind.least; ++size) {
      const absl::Status status = kind.decode(std::string_view(kind.whole).substr(0, size));
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << kind.name << " of " << size;
      EXPECT_THAT(std::string(status.message()), HasSubstr("too short")) << kind.name;
    }
    EXPECT_TRUE(kind.decode(std::string_view(kind.whole).substr(0, kind.least)).ok()) << kind.name;
  }
}

TEST(RecordBodyTest, BytesTooManyAreRefused) {
  for (const Kind& kind : Kinds()) {
    if (kind.open_ended) continue;
    for (const size_t extra : {1, 2, 1000}) {
      const absl::Status status = kind.decode(kind.whole + std::string(extra, 'x'));
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << kind.name;
      EXPECT_THAT(std::string(status.message()), HasSubstr(std::to_string(extra) + " bytes too many"));
    }
  }
}

}  // namespace
}  // namespace understudy
