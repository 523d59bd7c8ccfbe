#include "apps/kvstore/store/background.h"

#include <pthread.h>
#include <sched.h>

#include "glog/logging.h"

namespace kvstore {

void YieldToOthers() {
  const sched_param none = {};
  const int error = pthread_setschedparam(pthread_self(), SCHED_BATCH, &none);
  // It works as well without, only less smoothly.
  LOG_IF(WARNING, error != 0) << "SCHED_BATCH: error " << error;
}

}  // namespace kvstore
