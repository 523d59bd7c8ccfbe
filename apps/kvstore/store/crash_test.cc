// What is there after a death is what was there after some turn: whole turns, and none that was committed is
// missing.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "apps/kvstore/store/digest.h"
#include "apps/kvstore/store/store_for_test.h"
#include "apps/kvstore/store/turns_for_test.h"
#include "glog/logging.h"

namespace kvstore {
namespace {

namespace fs = std::filesystem;

constexpr size_t kCache = 100'000;

// What must be there after each turn. Never dies.
class Reference {
 public:
  explicit Reference(uint32_t seed) : seed_(seed) { digests_.push_back(DigestOf(store_.keys())); }

  const std::string& DigestAfter(uint64_t turn) {
    while (digests_.size() <= turn) {
      ApplyTurn(store_.keys(), seed_, digests_.size());
      CHECK(store_.keys().Commit().ok());
      digests_.push_back(DigestOf(store_.keys()));
    }
    return digests_[turn];
  }

 private:
  const uint32_t seed_;
  TestStore store_;
  std::vector<std::string> digests_;
};

// Opens what a death has left and looks whether it is the state after a turn; returns the turn.
uint64_t CheckWhatIsLeft(const std::string& directory, Reference* reference) {
  TestStore store(directory, kCache, nullptr);
  Keyspace& keys = store.keys();
  const uint64_t turn = LastTurn(keys);
  keys.SetNow(TimeOfTurn(turn));
  EXPECT_EQ(DigestOf(keys), reference->DigestAfter(turn)) << "turn " << turn;
  uint64_t scanned = 0, expiring = 0;
  keys.Scan(0, ~uint64_t{0}, [&](std::string_view, const Entry& entry) {
    ++scanned;
    expiring += entry.expire_ms != 0;
  });
  EXPECT_EQ(keys.size(), scanned);
  EXPECT_EQ(keys.expiring(), expiring);
  EXPECT_TRUE(store.table().status().ok()) << store.table().status();
  return turn;
}

// --- A process that is killed --------------------------------------------------------------------

// The other process: turn after turn, each told when it is committed.
[[noreturn]] void Write(const std::string& directory, uint32_t seed, std::chrono::milliseconds write_behind) {
  TestStore store(directory, kCache, nullptr, write_behind);
  store.keys().SetNow(TimeOfTurn(LastTurn(store.keys())));
  for (uint64_t turn = LastTurn(store.keys()) + 1;; ++turn) {
    ApplyTurn(store.keys(), seed, turn);
    CHECK(store.keys().Commit().ok());
    CHECK_EQ(write(STDOUT_FILENO, &turn, sizeof(turn)), static_cast<ssize_t>(sizeof(turn)));
  }
}

// Runs it until it has told of `turns` turns, kills it, and returns the last that it told of.
uint64_t WriteAndKill(const std::string& directory, uint32_t seed, uint64_t turns, int write_behind_ms = 0) {
  int told[2];
  CHECK_EQ(pipe(told), 0);
  const pid_t writer = fork();
  CHECK_GE(writer, 0);
  if (writer == 0) {
    dup2(told[1], STDOUT_FILENO);
    close(told[0]);
    close(told[1]);
    const std::string text = absl::StrCat(seed), behind = absl::StrCat(write_behind_ms);
    execl("/proc/self/exe", "crash_test", "--write", directory.c_str(), text.c_str(), behind.c_str(),
          nullptr);
    _exit(1);
  }
  close(told[1]);
  uint64_t turn = 0, last = 0;
  for (uint64_t i = 0; i < turns && read(told[0], &turn, sizeof(turn)) == sizeof(turn); ++i) last = turn;
  kill(writer, SIGKILL);
  while (read(told[0], &turn, sizeof(turn)) == sizeof(turn)) last = turn;
  close(told[0]);
  int status = 0;
  CHECK_EQ(waitpid(writer, &status, 0), writer);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << "it ended by itself: " << status;
  return last;
}

TEST(CrashTest, AKilledProcessLosesNothingThatWasCommitted) {
  const uint32_t seed = std::random_device()();
  std::cout << "seed " << seed << std::endl;
  std::mt19937 random(seed);
  TestDirectory directory;
  Reference reference(seed);
  for (int round = 0; round < 12; ++round) {
    const uint64_t told = WriteAndKill(directory.path(), seed, 1 + random() % 400);
    const uint64_t turn = CheckWhatIsLeft(directory.path(), &reference);
    EXPECT_GE(turn, told);
    EXPECT_LE(turn, told + 1) << "it tells of a turn before it begins the next";
    if (testing::Test::HasFailure()) return;
  }
}

TEST(CrashTest, WithWriteBehindItIsAWholeNumberOfTurnsStill) {
  const uint32_t seed = std::random_device()();
  std::cout << "seed " << seed << std::endl;
  std::mt19937 random(seed);
  TestDirectory directory;
  Reference reference(seed);
  uint64_t kept = 0;
  for (int round = 0; round < 12; ++round) {
    const uint64_t told = WriteAndKill(directory.path(), seed, 1 + random() % 400, 1 + random() % 5);
    const uint64_t turn = CheckWhatIsLeft(directory.path(), &reference);
    EXPECT_LE(turn, told + 1);
    EXPECT_GE(turn, kept) << "what was there once is there for good";
    kept = turn;
    if (testing::Test::HasFailure()) return;
  }
  EXPECT_GT(kept, 0u) << "nothing was ever written";
}

TEST(CrashTest, WithWriteBehindAnEndInOrderLosesNothing) {
  const uint32_t seed = std::random_device()();
  std::cout << "seed " << seed << std::endl;
  TestDirectory directory;
  Reference reference(seed);
  for (uint64_t end : {1, 2, 3, 50, 51, 120}) {
    {
      TestStore store(directory.path(), kCache, nullptr, std::chrono::milliseconds(3));
      store.keys().SetNow(TimeOfTurn(LastTurn(store.keys())));
      for (uint64_t turn = LastTurn(store.keys()) + 1; turn <= end; ++turn) {
        ApplyTurn(store.keys(), seed, turn);
        ASSERT_TRUE(store.keys().Commit().ok());
      }
      store.keys().SetNow(TimeOfTurn(end));
      EXPECT_EQ(DigestOf(store.keys()), reference.DigestAfter(end)) << "while some of it is late";
    }
    EXPECT_EQ(CheckWhatIsLeft(directory.path(), &reference), end);
  }
}

// --- A machine that dies: the end of the log is not on the disk ----------------------------------

void Copy(const std::string& from, const std::string& to) {
  fs::remove_all(to);
  fs::copy(from, to);
}

// The log that is being written.
fs::path LogIn(const std::string& directory) {
  fs::path log;
  for (const auto& file : fs::directory_iterator(directory)) {
    if (file.path().extension() == ".log" && (log.empty() || log < file.path())) log = file.path();
  }
  return log;
}

TEST(CrashTest, ALogCutOffAnywhereIsAWholeNumberOfTurns) {
  const uint32_t seed = std::random_device()();
  std::cout << "seed " << seed << std::endl;
  std::mt19937 random(seed);
  Reference reference(seed);
  TestDirectory directory, copy;
  const std::string data = directory.path() + "/data";
  {
    TestStore store(data, kCache, nullptr);
    for (uint64_t turn = 1; turn <= 150; ++turn) {
      ApplyTurn(store.keys(), seed, turn);
      ASSERT_TRUE(store.keys().Commit().ok());
    }
  }
  const uintmax_t size = fs::file_size(LogIn(data));
  ASSERT_GT(size, 100'000u);
  uintmax_t longest = 0;
  uint64_t last = 0;
  for (int i = 0; i < 30; ++i) {
    const uintmax_t length = i == 0 ? 0 : i == 1 ? size : random() % size;
    const std::string cut = copy.path() + "/data";
    Copy(data, cut);
    fs::resize_file(LogIn(cut), length);
    // Some file systems give the file its length before its bytes.
    if (random() % 2 == 0) fs::resize_file(LogIn(cut), std::min<uintmax_t>(size, length + random() % 10'000));
    const uint64_t turn = CheckWhatIsLeft(cut, &reference);
    if (length >= longest) {
      EXPECT_GE(turn, last);
      longest = length;
      last = turn;
    }
    if (length == size) {
      EXPECT_EQ(turn, 150u);
    }
    if (testing::Test::HasFailure()) return;
  }
}

}  // namespace
}  // namespace kvstore

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (argc == 5 && std::string(argv[1]) == "--write") {
    kvstore::Write(argv[2], static_cast<uint32_t>(std::strtoul(argv[3], nullptr, 10)),
                   std::chrono::milliseconds(std::atoi(argv[4])));
  }
  return RUN_ALL_TESTS();
}
