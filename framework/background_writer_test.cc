#include "framework/background_writer.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
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

// Lines of a pipe, each with its newline.
class LineReader {
 public:
  explicit LineReader(int fd) : fd_(fd) {}

  std::string Next() {
    size_t end;
    while ((end = read_.find('\n')) == std::string::npos) {
      char buffer[1 << 16];
      const ssize_t size = read(fd_, buffer, sizeof buffer);
      if (size <= 0) return std::exchange(read_, {});
      read_.append(buffer, static_cast<size_t>(size));
    }
    const std::string line = read_.substr(0, end + 1);
    read_.erase(0, end + 1);
    return line;
  }

 private:
  const int fd_;
  std::string read_;
};

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
  // The reader wakes up: what was kept comes, and how much was not: in two lines, if the thread looked in
  // between.
  LineReader reader(ends[0]);
  uint64_t kept = 0, said = 0;
  while (kept + said < kLines) {
    const std::string got = reader.Next();
    if (got == line) {
      ++kept;
      continue;
    }
    uint64_t gap = 0;
    ASSERT_TRUE(absl::EndsWith(got, " lines of the log were dropped here\n") &&
                absl::SimpleAtoi(got.substr(0, got.find(' ')), &gap))
        << got.substr(0, 100);
    said += gap;
  }
  EXPECT_EQ(said, dropped);
  writer->Write("after\n");
  EXPECT_EQ(reader.Next(), "after\n");
  writer.reset();
  close(ends[0]);
  close(ends[1]);
}

TEST(BackgroundWriterTest, EndsThoughAWriteHangs) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  auto writer = BackgroundWriter::ToDescriptor(ends[1]);
  for (int i = 0; i < 200; ++i) writer->Write(std::string(1000, 'x') + "\n");
  writer.reset();  // would hang here
  close(ends[0]);  // the thread's write fails (EPIPE; the signal is blocked there), and it ends
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
