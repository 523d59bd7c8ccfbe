#include "framework/background_writer.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "absl/strings/str_cat.h"

namespace understudy {
namespace {

constexpr std::chrono::seconds kPatience{30};

std::string Contents(const std::string& path) {
  std::ostringstream out;
  out << std::ifstream(path).rdbuf();
  return out.str();
}

std::string FreshPath(const std::string& name) {
  const std::string path = absl::StrCat(testing::TempDir(), "/", name);
  std::filesystem::remove(path);
  return path;
}

TEST(BackgroundWriterTest, LinesComeInOrder) {
  const std::string path = FreshPath("order");
  auto writer = BackgroundWriter::ToFile(path);
  ASSERT_TRUE(writer.ok()) << writer.status();
  std::string all;
  for (int i = 0; i < 1000; ++i) {
    const std::string line = absl::StrCat("line ", i, "\n");
    all += line;
    (*writer)->Write(line);
  }
  EXPECT_TRUE((*writer)->Flush(kPatience));
  EXPECT_EQ(Contents(path), all);
  EXPECT_EQ((*writer)->dropped(), 0u);
}

TEST(BackgroundWriterTest, AStalledReaderHoldsNobodyUp) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  auto writer = BackgroundWriter::ToDescriptor(ends[1]);
  const std::string line = std::string(999, 'x') + "\n";
  constexpr int kLines = 4 * BackgroundWriter::kMaxWaiting / 1000;
  // With the writes on this thread, the test would hang here: a pipe holds 64 KiB.
  for (int i = 0; i < kLines; ++i) writer->Write(line);
  EXPECT_FALSE(writer->Flush(std::chrono::milliseconds(1)));
  const uint64_t dropped = writer->dropped();
  EXPECT_GT(dropped, 0u);
  // The reader wakes up: what was kept comes, then how much was not, then what is said from there on.
  std::string got;
  char buffer[1 << 16];
  const auto read_until = [&](const std::string& end) {
    while (got.find(end) == std::string::npos) {
      const ssize_t size = read(ends[0], buffer, sizeof buffer);
      ASSERT_GT(size, 0);
      got.append(buffer, static_cast<size_t>(size));
    }
  };
  read_until(absl::StrCat(dropped, " lines of the log were dropped here\n"));
  EXPECT_EQ(std::count(got.begin(), got.end(), '\n'), kLines - static_cast<int64_t>(dropped) + 1);
  writer->Write("after\n");
  read_until("after\n");
  writer.reset();
  close(ends[0]);
  close(ends[1]);
}

TEST(BackgroundWriterTest, EndsThoughAWriteHangs) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  auto writer = BackgroundWriter::ToDescriptor(ends[1]);
  for (int i = 0; i < 200; ++i) writer->Write(std::string(1000, 'x') + "\n");
  writer.reset();   // would hang here
  close(ends[0]);   // the thread's write fails (EPIPE; the signal is blocked there), and it ends
}

TEST(BackgroundWriterTest, AFileThatWasMovedIsMadeAnew) {
  const std::string path = FreshPath("rotated");
  auto writer = BackgroundWriter::ToFile(path);
  ASSERT_TRUE(writer.ok()) << writer.status();
  (*writer)->Write("before\n");
  ASSERT_TRUE((*writer)->Flush(kPatience));
  std::filesystem::rename(path, path + ".1");
  (*writer)->Reopen();
  (*writer)->Write("after\n");
  ASSERT_TRUE((*writer)->Flush(kPatience));
  EXPECT_EQ(Contents(path + ".1"), "before\n");
  EXPECT_EQ(Contents(path), "after\n");
}

TEST(BackgroundWriterTest, WhereNoFileCanBeItSaysSo) {
  const auto writer = BackgroundWriter::ToFile("/nonexistent/log");
  EXPECT_TRUE(absl::IsUnavailable(writer.status()));
  EXPECT_THAT(std::string(writer.status().message()),
              testing::AllOf(testing::HasSubstr("/nonexistent/log"), testing::HasSubstr("No such file")));
}

}  // namespace
}  // namespace understudy
