// What the Server is working on right now, for whoever has to say what it died of: plain data that a signal
// handler may read.
#ifndef UNDERSTUDY_FRAMEWORK_CURRENT_CALL_H_
#define UNDERSTUDY_FRAMEWORK_CURRENT_CALL_H_

#include <cstddef>
#include <cstdint>

namespace understudy {

struct CurrentCall {
  uint64_t lsn = 0;            // 0: no record is being executed
  const char* kind = nullptr;  // of the record
  uint64_t connection = 0;     // 0: none
  const char* peer = nullptr;
  const char* bytes = nullptr;  // what OnData was given
  size_t size = 0;
  bool ending = false;  // the call is OnClosed
};

// Of this thread.
extern thread_local CurrentCall current_call;

// "record 17 (Received), connection 3 of 198.18.0.9:40000, which begins 47 45 54": at most kDescribed
// letters, and a zero behind them. Async-signal-safe. Returns the length.
inline constexpr size_t kDescribed = 512;
size_t Describe(const CurrentCall& call, char* out);

}  // namespace understudy

#endif  // UNDERSTUDY_FRAMEWORK_CURRENT_CALL_H_
