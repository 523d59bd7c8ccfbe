#include "framework/log_sink.h"

#include <utility>

namespace understudy {

LogSink::LogSink(std::unique_ptr<BackgroundWriter> writer) : writer_(std::move(writer)) {
  for (int severity = 0; severity < google::NUM_SEVERITIES; ++severity) {
    google::SetLogDestination(severity, "");
  }
  FLAGS_logtostderr = false;
  FLAGS_alsologtostderr = false;
  FLAGS_stderrthreshold = google::NUM_SEVERITIES;
  google::AddLogSink(this);
}

// Later lines of this process go to stderr, as written.
LogSink::~LogSink() {
  google::RemoveLogSink(this);
  FLAGS_logtostderr = true;
}

void LogSink::send(google::LogSeverity severity, const char*, const char* base_filename, int line,
                   const google::LogMessageTime& time, const char* message, size_t message_len) {
  if (severity == google::GLOG_FATAL) fatal_ = true;
  writer_->Write(ToString(severity, base_filename, line, time, message, message_len) + "\n");
}

void LogSink::WaitTillSent() {
  if (fatal_) (void)writer_->Flush(BackgroundWriter::kLastWords);
}

}  // namespace understudy
