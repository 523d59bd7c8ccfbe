#include "framework/current_call.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>

namespace understudy {
namespace {

std::string Described(const CurrentCall& call) {
  char out[kDescribed];
  const size_t size = Describe(call, out);
  EXPECT_EQ(out[size], 0);
  return std::string(out, size);
}

TEST(CurrentCallTest, SaysTheRecordTheConnectionAndTheFirstBytes) {
  EXPECT_EQ(Described({17, "Received", 3, "198.18.0.9:40000", "GET\xff\n", 5}),
            "record 17 (Received), connection 3 of 198.18.0.9:40000, 5 bytes, which begin 47 45 54 ff 0a");
}

TEST(CurrentCallTest, LeavesOutWhatThereIsNot) {
  EXPECT_EQ(Described({17, "Storage", 0, nullptr, nullptr, 0}), "record 17 (Storage)");
}

TEST(CurrentCallTest, OfManyBytesTheFirstAreSaid) {
  const std::string many(100'000, 'A');
  const std::string said =
      Described({std::numeric_limits<uint64_t>::max(), "Received", 1, "p", many.data(), many.size()});
  EXPECT_EQ(said.substr(0, 27), "record 18446744073709551615");
  EXPECT_EQ(std::count(said.begin(), said.end(), '4'), 32 + 4);
}

TEST(CurrentCallTest, NeverLongerThanItsRoom) {
  const std::string peer(10'000, 'p');
  EXPECT_EQ(Described({1, "Received", 2, peer.c_str(), "x", 1}).size(), kDescribed - 1);
}

}  // namespace
}  // namespace understudy
