// The disk is full: of a pair that runs, of the heir, through a takeover. Changes are refused, everything
// that was answered can be read, and when there is room it goes on by itself.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/kvstore/failover/kv_pair_fixture.h"
#include "tests/lab/process.h"

namespace kvstore {
namespace {

using understudy::lab::FaultKind;
using understudy::lab::Host;
using understudy::lab::kPatience;
using understudy::lab::Other;

constexpr uint64_t kMegabyte = 1 << 20;
constexpr uint64_t kDiskMegabytes = 160, kMinFree = 64;

// A disk of its own for one node. Mounted in the mount namespace of this process, so that the kernel takes it
// away when this process and the nodes are gone, however they go.
class SmallDisk {
 public:
  SmallDisk() {
    const std::string size = absl::StrCat("size=", kDiskMegabytes, "m");
    if (mount("tmpfs", folder_.path().c_str(), "tmpfs", 0, size.c_str()) != 0)
      ADD_FAILURE() << "cannot mount";
  }
  ~SmallDisk() { umount2(folder_.path().c_str(), MNT_DETACH); }

  std::string data_dir() const { return folder_.path() + "/data"; }
  uint64_t free() const {
    struct statvfs about {};
    EXPECT_EQ(statvfs(folder_.path().c_str(), &about), 0);
    return about.f_bavail * about.f_frsize;
  }
  // Bytes of the node's data.
  uint64_t used() const {
    uint64_t bytes = 0;
    std::error_code gone;  // LevelDB removes files as it likes
    for (const auto& file : std::filesystem::directory_iterator(data_dir(), gone)) {
      const uint64_t size = file.file_size(gone);
      if (!gone) bytes += size;
    }
    return bytes;
  }
  // Somebody else writes to the disk, until only `left` bytes are free.
  void FillUpTo(uint64_t left) {
    const int fd = open(other().c_str(), O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
    const std::string block(64 << 10, 'x');
    while (free() > left && write(fd, block.data(), std::min<uint64_t>(block.size(), free() - left)) > 0) {
    }
    close(fd);
    EXPECT_LE(free(), left);
  }
  void MakeRoom() { EXPECT_EQ(unlink(other().c_str()), 0); }

 private:
  std::string other() const { return folder_.path() + "/other"; }

  understudy::lab::TempDir folder_;
};

class FullDiskTest : public KvPairTest {
 protected:
  static void SetUpTestSuite() {
    ASSERT_EQ(unshare(CLONE_NEWNS), 0);
    ASSERT_EQ(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
  }

  // Writes are a second behind, as by default.
  void SetUp() override {
    with_secondary_ = false;
    flags_.push_back(absl::StrCat("--min_free_disk_mb=", kMinFree));
    flags_.push_back("--data_dir=" + disk(primary()).data_dir());
    ASSERT_NO_FATAL_FAILURE(StartPair());
    const Host heir = Other(primary());
    const absl::Status started = pair_->StartNode(heir, "secondary", {"--data_dir=" + disk(heir).data_dir()});
    ASSERT_TRUE(started.ok()) << started;
    ExpectState(primary(), "protected");
    one_ = std::make_unique<KvClient>(client());
  }

  SmallDisk& disk(Host host) { return disks_[static_cast<int>(host)]; }

  // Asks again and again, until the answer begins with `wanted`.
  void ExpectSoon(const std::vector<std::string>& request, const std::string& wanted) {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    std::string reply;
    do {
      reply = one_->Ask(request);
    } while (one_->error().empty() && !absl::StartsWith(reply, wanted) &&
             std::chrono::steady_clock::now() < deadline);
    ASSERT_TRUE(absl::StartsWith(reply, wanted)) << reply << one_->error();
  }
  // Some megabytes that cannot be compressed, and both disks have them.
  void WriteData() {
    std::mt19937_64 random(understudy::lab::TestSeed());
    for (int i = 0; i < kValues; ++i) {
      std::string& value = values_.emplace_back();
      while (value.size() < kMegabyte / 8) value.push_back(static_cast<char>(random()));
      ASSERT_EQ(one_->Ask({"SET", absl::StrCat("key", i), value}), "+OK\r\n") << one_->error();
    }
    ASSERT_EQ(one_->Ask({"SET", "counter", "1"}), "+OK\r\n");
    ASSERT_EQ(one_->Ask({"SET", "passing", "1", "PX", "300"}), "+OK\r\n");
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    for (const Host host : {Host::kA, Host::kB}) {
      while (disk(host).used() < kValues * kMegabyte / 8 && std::chrono::steady_clock::now() < deadline) {
        one_->Ask({"PING"});
      }
      ASSERT_GE(disk(host).used(), kValues * kMegabyte / 8);
    }
  }
  void ExpectDataAreRead() {
    for (int i = 0; i < kValues; ++i) {
      ASSERT_TRUE(one_->Ask({"GET", absl::StrCat("key", i)}) == BulkBytes(values_[i])) << i << one_->error();
    }
  }
  // In every kind of request that changes something, and nothing of them is done.
  void ExpectWritesAreRefused() {
    EXPECT_TRUE(absl::StartsWith(one_->Ask({"SET", "key0", "other"}), "-MISCONF "));
    EXPECT_TRUE(absl::StartsWith(one_->Ask({"INCR", "counter"}), "-MISCONF "));
    EXPECT_TRUE(absl::StartsWith(one_->Ask({"DEL", "key1"}), "-MISCONF "));
    EXPECT_EQ(one_->Ask({"GET", "counter"}), BulkBytes("1"));
    EXPECT_EQ(one_->error(), "");
  }

  static constexpr int kValues = 32;
  std::vector<std::string> values_;
  SmallDisk disks_[2];
  std::unique_ptr<KvClient> one_;
};

TEST_P(FullDiskTest, OfBothThroughATakeover) {
  ASSERT_NO_FATAL_FAILURE(WriteData());
  for (const Host host : {Host::kA, Host::kB}) disk(host).FillUpTo(kMinFree * kMegabyte - 1);
  ASSERT_NO_FATAL_FAILURE(ExpectSoon({"INCRBY", "counter", "0"}, "-MISCONF "));
  // To the last byte: nothing of what goes on needs any.
  for (const Host host : {Host::kA, Host::kB}) disk(host).FillUpTo(0);
  ExpectWritesAreRefused();
  ASSERT_NO_FATAL_FAILURE(ExpectDataAreRead());
  ASSERT_NO_FATAL_FAILURE(ExpectSoon({"GET", "passing"}, "$-1"));  // its time has come
  ExpectState(primary(), "protected");

  Fault();
  ExpectWritesAreRefused();
  ASSERT_NO_FATAL_FAILURE(ExpectDataAreRead());
  ExpectTakenOver();

  disk(Other(primary())).MakeRoom();
  ASSERT_NO_FATAL_FAILURE(ExpectSoon({"SET", "after", "1"}, "+OK"));
  EXPECT_EQ(one_->Ask({"INCR", "counter"}), ":2\r\n");
  EXPECT_EQ(one_->Ask({"GET", "passing"}), "$-1\r\n");
  ASSERT_NO_FATAL_FAILURE(ExpectDataAreRead());
  EXPECT_EQ(one_->error(), "");
}

// A node that has room alone is no use: what it takes the other one could not keep.
TEST_P(FullDiskTest, OfTheSecondaryAlone) {
  ASSERT_NO_FATAL_FAILURE(WriteData());
  SmallDisk& full = disk(Other(primary()));
  full.FillUpTo(kMinFree * kMegabyte - 1);
  ASSERT_NO_FATAL_FAILURE(ExpectSoon({"INCRBY", "counter", "0"}, "-MISCONF "));
  full.FillUpTo(0);
  ExpectWritesAreRefused();
  ASSERT_NO_FATAL_FAILURE(ExpectDataAreRead());
  full.MakeRoom();
  ASSERT_NO_FATAL_FAILURE(ExpectSoon({"INCRBY", "counter", "0"}, ":1"));
  ExpectState(primary(), "protected");

  // And it is as good an heir as ever.
  Fault();
  EXPECT_EQ(one_->Ask({"INCR", "counter"}), ":2\r\n") << one_->error();
  ASSERT_NO_FATAL_FAILURE(ExpectDataAreRead());
  ExpectTakenOver();
}

INSTANTIATE_TEST_SUITE_P(, FullDiskTest, testing::Values(FaultKind::kKilled, FaultKind::kPowerCut),
                         NameOfFault);

}  // namespace
}  // namespace kvstore
