// Where LOG lines go: to a background writer, nowhere else (no files of glog's own, no direct stderr).
#ifndef UNDERSTUDY_FRAMEWORK_LOG_SINK_H_
#define UNDERSTUDY_FRAMEWORK_LOG_SINK_H_

#include <atomic>
#include <memory>

#include "framework/background_writer.h"
#include "glog/logging.h"

namespace understudy {

// While one lives, it has all of the process's LOG lines. Make it after InitGoogleLogging.
class LogSink final : public google::LogSink {
 public:
  explicit LogSink(std::unique_ptr<BackgroundWriter> writer);
  ~LogSink() override;

  BackgroundWriter& writer() { return *writer_; }

  // --- google::LogSink ---
  using google::LogSink::send;
  void send(google::LogSeverity severity, const char* full_filename, const char* base_filename, int line,
            const google::LogMessageTime& time, const char* message, size_t message_len) override;
  // A fatal message is the process's last: worth a short wait.
  void WaitTillSent() override;

 private:
  const std::unique_ptr<BackgroundWriter> writer_;
  std::atomic<bool> fatal_ = false;
};

}  // namespace understudy

#endif  // UNDERSTUDY_FRAMEWORK_LOG_SINK_H_
