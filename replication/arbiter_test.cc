#include "replication/arbiter.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <utility>
#include <vector>

namespace understudy::replication {
namespace {

const Register kPair{7, "a", "b"};
const Register kGivenBack = GivenBack(TakenOverBy(kPair, "b"), "a");

TEST(RegisterTest, ToString) {
  EXPECT_EQ(kPair.ToString(), "epoch 7: a serves, b is secondary");
  EXPECT_EQ((Register{8, "a", ""}).ToString(), "epoch 8: a serves, no secondary");
  EXPECT_EQ(Register().ToString(), "epoch 0: nobody has served yet");
}

TEST(RegisterTest, EncodeIsOneReadableLine) {
  EXPECT_EQ(kPair.Encode(), "understudy v=2 epoch=7 holder=a secondary=b keepers=a,b end");
  EXPECT_EQ((Register{8, "a", ""}).Encode(), "understudy v=2 epoch=8 holder=a secondary= keepers=a end");
  EXPECT_EQ(Register().Encode(), "understudy v=2 epoch=0 holder= secondary= keepers= end");
  EXPECT_EQ(kGivenBack.Encode(), "understudy v=2 epoch=9 holder= secondary= keepers=a,b end");
}

TEST(RegisterTest, ReadsWhatWasWrittenBeforeThereWereVersions) {
  for (const auto& [text, reg] :
       {std::pair{"understudy epoch=7 holder=a secondary=b end", kPair},
        std::pair{"understudy epoch=8 holder=a secondary= end", Register{8, "a", ""}},
        std::pair{"understudy epoch=0 holder= secondary= end", Register{}}}) {
    auto decoded = Register::Decode(text);
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    EXPECT_EQ(*decoded, reg);
  }
}

TEST(RegisterTest, SaysThatItIsOfANewerVersion) {
  const auto decoded =
      Register::Decode("understudy v=3 epoch=7 holder=a secondary=b keepers=a,b witness=c end");
  EXPECT_EQ(decoded.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(decoded.status().message().find("newer"), std::string::npos) << decoded.status();
}

TEST(RegisterTest, KeepersHaveTheNewestData) {
  EXPECT_EQ(kPair.Keepers(), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(TakenOverBy(kPair, "b").Keepers(), (std::vector<std::string>{"b"}));
  EXPECT_EQ(kGivenBack.Keepers(), (std::vector<std::string>{"a", "b"}));
  EXPECT_TRUE(Register().Keepers().empty());
  EXPECT_TRUE(kGivenBack.KeptBy("b"));
  EXPECT_FALSE(TakenOverBy(kPair, "b").KeptBy("a"));
}

TEST(RegisterTest, DecodesWhatWasEncoded) {
  for (const Register& reg :
       {kPair, kGivenBack, Register{}, Register{8, "a", ""}, Register{INT64_MAX, "node-1.example", "x_y"},
        Register{9, std::string(64, 'n'), "-._"}}) {
    auto decoded = Register::Decode(reg.Encode());
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    EXPECT_EQ(*decoded, reg);
    EXPECT_EQ(reg.Encode().find('\n'), std::string::npos);
    EXPECT_EQ(*Register::Decode(reg.Encode() + "\n"), reg);
  }
}

TEST(RegisterTest, RefusesDamage) {
  for (const char* text : {
           "",
           "\n",
           "7 a b",
           "understudy epoch=7 holder=a secondary=b",
           "understudy epoch=7 holder=a secondary=b end ",
           "understudy epoch=7 holder=a secondary=b end\n\n",
           "understudy epoch=07 holder=a secondary=b end",
           "understudy epoch=-7 holder=a secondary=b end",
           "understudy epoch= holder=a secondary=b end",
           "understudy epoch=7 holder=%6 secondary=b end",
           "understudy epoch=7 holder=%61 secondary=b end",
           "understudy epoch=7 holder= secondary=b end",
           "understudy epoch=7 holder=a secondary=a end",
           "understudy epoch=0 holder=a secondary= end",
           "understudy epoch=0 holder= secondary=b end",
           "understudy epoch=7 holder=a:1 secondary=b end",
           "understudy epoch=7 holder=a secondary=b\x01 end",
           "understudy epoch=7 holder=\xff secondary=b end",
           "understudy v=2 epoch=7 holder=a secondary=b end",
           "understudy v=2 epoch=7 holder=a secondary=b keepers=a end",
           "understudy v=2 epoch=7 holder=a secondary=b keepers=b,a end",
           "understudy v=2 epoch=7 holder=a secondary= keepers= end",
           "understudy v=2 epoch=7 holder= secondary= keepers= end",
           "understudy v=2 epoch=7 holder= secondary= keepers=a, end",
           "understudy v=2 epoch=7 holder= secondary=b keepers=a,b end",
           "understudy v=2 epoch=0 holder= secondary= keepers=a end",
           "understudy v=1 epoch=7 holder=a secondary=b keepers=a,b end",
           "understudy v=1 epoch=7 holder=a secondary=b end",
           "understudy v=0 epoch=7 holder=a secondary=b keepers=a,b end",
           "understudy v=02 epoch=7 holder=a secondary=b keepers=a,b end",
           "understudy v= epoch=7 holder=a secondary=b keepers=a,b end",
           "understudy epoch=9223372036854775808 holder=a secondary= end",
           "understudy epoch=99999999999999999999 holder=a secondary= end",
       }) {
    EXPECT_EQ(Register::Decode(text).status().code(), absl::StatusCode::kInvalidArgument) << text;
  }
}

// A register that was spoilt by hand, or by somebody else, is said to be so without spoiling the log.
TEST(RegisterTest, NamesAndDamageAreBounded) {
  const std::string longest(64, 'n');
  EXPECT_TRUE(Register::Decode(Register{7, longest, "b"}.Encode()).ok());
  EXPECT_FALSE(Register::Decode(Register{7, longest + "n", "b"}.Encode()).ok());
  EXPECT_FALSE(Register::Decode(Register{7, "a", std::string(5000, 'n')}.Encode()).ok());
  const std::string said(Register::Decode("a\nE1125 forged " + std::string(5000, 'x')).status().message());
  EXPECT_EQ(said.find('\n'), std::string::npos);
  EXPECT_LT(said.size(), 300u);
}

TEST(RegisterTest, EveryPrefixIsDamage) {
  const std::string text = kPair.Encode();
  for (size_t size = 0; size < text.size(); ++size) {
    EXPECT_FALSE(Register::Decode(text.substr(0, size)).ok()) << size;
  }
}

TEST(RegisterTest, RandomTextIsNeverTakenForSomethingElse) {
  const uint32_t seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 20000; ++round) {
    std::string text = kPair.Encode();
    text[random() % text.size()] = static_cast<char>(random());
    auto decoded = Register::Decode(text);
    if (decoded.ok()) {
      EXPECT_EQ(decoded->Encode(), text);
    }
  }
}

TEST(RegisterTest, TheChanges) {
  EXPECT_EQ(TakenOverBy(kPair, "b"), (Register{8, "b", ""}));
  EXPECT_EQ(kGivenBack, (Register{9, "", "", {"a", "b"}}));
  EXPECT_EQ(TakenUpBy(kGivenBack, "a"), (Register{10, "a", ""}));
  EXPECT_EQ(GoneSolo(kPair), (Register{8, "a", ""}));
  EXPECT_EQ(JoinedBy(Register{8, "a", ""}, "c"), (Register{9, "a", "c"}));
  EXPECT_EQ(FirstServedBy(Register{}, "a"), (Register{1, "a", ""}));
  EXPECT_EQ(FirstServedBy(Register{8, "a", ""}, "a"), (Register{9, "a", ""}));
}

}  // namespace
}  // namespace understudy::replication
