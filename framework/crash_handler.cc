#include "framework/crash_handler.h"

#include <unistd.h>

#include <cstring>

#include "absl/debugging/failure_signal_handler.h"
#include "framework/current_call.h"

namespace understudy {
namespace {

replication::FatalCall* fatal_call = nullptr;

void Say(const char* text, size_t size) {
  // Nothing can be done about what does not get through.
  if (write(STDERR_FILENO, text, size) < 0) return;
}

// In the signal handler: a piece of what it has to say, nullptr behind the last.
void Write(const char* text) {
  if (text != nullptr) return Say(text, std::strlen(text));
  if (current_call.lsn == 0) return;
  if (fatal_call != nullptr) {
    fatal_call->lsn = current_call.lsn;
    fatal_call->connection = current_call.connection;
    fatal_call->ending = current_call.ending;
  }
  constexpr char kPrefix[] = "the process died inside a call of the Server: ";
  char line[sizeof kPrefix + kDescribed];
  std::memcpy(line, kPrefix, sizeof kPrefix - 1);
  size_t size = sizeof kPrefix - 1;
  size += Describe(current_call, line + size);
  line[size++] = '\n';
  Say(line, size);
}

}  // namespace

void InstallCrashHandler(replication::FatalCall* fatal) {
  fatal_call = fatal;
  absl::FailureSignalHandlerOptions options;
  options.symbolize_stacktrace = false;  // that may take longer than a takeover
  options.writerfn = &Write;
  absl::InstallFailureSignalHandler(options);
}

}  // namespace understudy
