// Says on stderr what the Server was working on when a signal (SIGSEGV, SIGABRT, ...) ends the process: see
// current_call.h.
#ifndef UNDERSTUDY_FRAMEWORK_CRASH_HANDLER_H_
#define UNDERSTUDY_FRAMEWORK_CRASH_HANDLER_H_

#include "replication/last_word.h"

namespace understudy {

// Once, before other handlers of the same signals. The process ends of the signal all the same.
// `fatal`: where the call is written down for who speaks for the dead (witness.h); nullptr: nobody does.
void InstallCrashHandler(replication::FatalCall* fatal);

}  // namespace understudy

#endif  // UNDERSTUDY_FRAMEWORK_CRASH_HANDLER_H_
