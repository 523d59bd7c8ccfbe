// Run: the one line of main.
#ifndef UNDERSTUDY_FRAMEWORK_RUN_H_
#define UNDERSTUDY_FRAMEWORK_RUN_H_

#include <functional>
#include <initializer_list>
#include <memory>

#include "absl/status/statusor.h"
#include "framework/server.h"

namespace understudy {

// Makes the Server of this process, once, before anything else begins (the flags are parsed). The error
// says in one line why there can be none: a database that does not open, say.
using ServerFactory = std::function<absl::StatusOr<std::unique_ptr<Server>>()>;

// Parses the flags (framework/node_config.cc), starts logging (to stderr or --log_file, never waiting for
// either; SIGHUP and SIGUSR1 open the file anew), runs a node in the role they name until SIGINT or SIGTERM,
// and returns the exit status; one line on stderr says why, except after a signal:
//   0  after a signal
//   1  the node could not start, or had to give up
//   2  wrong flags
//   3  this node can never serve again: the other has taken over, or this copy of the data has gone another
//      way. Start it anew, with --role=secondary. (--noexit_when_useless: it stays, silent, for its status to
//      be read.)
// Call it once, from main, without other threads.
int RunMain(int argc, char** argv, const ServerFactory& make_server);

// For Server::MustAgree: "--name" and value of these gflags. Each must exist.
Settings ValuesOfFlags(std::initializer_list<const char*> names);

template <typename ServerType>
int Run(int argc, char** argv) {
  return RunMain(argc, argv, []() -> std::unique_ptr<Server> { return std::make_unique<ServerType>(); });
}

}  // namespace understudy

#endif  // UNDERSTUDY_FRAMEWORK_RUN_H_
