#include "replication/frames.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace understudy::replication {
namespace {

using testing::IsEmpty;

std::string Framed(const std::string& body) {
  OutgoingFrames out;
  out.BeginFrame();
  out.transport()->write(reinterpret_cast<const uint8_t*>(body.data()), static_cast<uint32_t>(body.size()));
  out.EndFrame(nullptr);
  return std::string(out.Next());
}

void Feed(IncomingFrames& in, std::string_view bytes) {
  while (!bytes.empty()) {
    const auto [room, size] = in.Room();
    const size_t part = std::min(size, bytes.size());
    std::memcpy(room, bytes.data(), part);
    in.Filled(part);
    bytes.remove_prefix(part);
  }
}

TEST(FramesTest, ALengthAndSoManyBytes) {
  EXPECT_EQ(Framed("abc"), std::string("\0\0\0\x03"
                                       "abc",
                                       7));
  EXPECT_EQ(Framed(""), std::string(4, '\0'));
}

TEST(FramesTest, WhateverThePartsAreTheFramesAreTheSame) {
  const uint32_t seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  for (int run = 0; run < 50; ++run) {
    std::vector<std::string> sent;
    std::string bytes;
    for (int n = random() % 20; n >= 0; --n) {
      sent.emplace_back(random() % 8 == 0 ? random() % (1 << 20) : random() % 300, 'a' + n % 26);
      bytes += Framed(sent.back());
    }
    IncomingFrames in;
    std::vector<std::string> got;
    for (std::string_view rest = bytes; !rest.empty();) {
      const size_t part = std::min<size_t>(rest.size(), 1 + random() % 200'000);
      Feed(in, rest.substr(0, part));
      rest.remove_prefix(part);
      for (IncomingFrames::Next next; (next = in.TakeFrame(kMaxFrame)).start != nullptr;) {
        got.emplace_back(next.start, next.length);
      }
    }
    EXPECT_EQ(got, sent);
  }
}

TEST(FramesTest, OneThatIsTooLongIsRefusedWhenItIsAnnounced) {
  IncomingFrames in;
  Feed(in, Framed(std::string(101, 'x')).substr(0, 4));
  EXPECT_EQ(in.TakeFrame(100).fault, "announces a frame of 101 bytes, at most 100");
  EXPECT_THAT(in.TakeFrame(101).fault, IsEmpty());
  EXPECT_EQ(in.TakeFrame(101).start, nullptr) << "not whole";
}

TEST(FramesTest, WhatTheKernelDoesNotTakeIsWrittenNext) {
  OutgoingFrames out;
  const auto queue = [&out](const std::string& body) {
    out.BeginFrame();
    out.transport()->write(reinterpret_cast<const uint8_t*>(body.data()), static_cast<uint32_t>(body.size()));
    out.EndFrame(nullptr);
  };
  queue("one");
  queue("two");
  const std::string all(out.Next());
  EXPECT_EQ(out.unsent(), all.size());
  out.Written(5);
  EXPECT_EQ(out.Next(), all.substr(5));
  queue("three");
  EXPECT_EQ(out.Next(), all.substr(5)) << "in order";
  EXPECT_EQ(out.Hold(), all.substr(5));
  out.Written(all.size() - 5);
  EXPECT_EQ(out.Hold(), Framed("three"));
  queue("four");
  EXPECT_EQ(out.Next(), Framed("three")) << "does not move while it is being written";
  out.Written(Framed("three").size());
  out.Written(out.Next().size());
  EXPECT_EQ(out.unsent(), 0u);
  EXPECT_THAT(out.Next(), IsEmpty());
}

}  // namespace
}  // namespace understudy::replication
