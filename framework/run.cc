#include "framework/run.h"

#include <malloc.h>
#include <poll.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/host_name.hpp>
#include <boost/asio/signal_set.hpp>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "framework/clock.h"
#include "framework/crash_handler.h"
#include "framework/log_sink.h"
#include "framework/node.h"
#include "framework/node_config.h"
#include "framework/release.h"
#include "framework/status_server.h"
#include "framework/system_host.h"
#include "framework/witness.h"
#include "gflags/gflags.h"
#include "glog/logging.h"
#include "tcpshim/firewall.h"

DEFINE_string(
    log_file, "",
    "File that the log is appended to; SIGHUP and SIGUSR1 open it anew, for rotation. Empty: stderr. "
    "Either way a write that hangs holds nobody up: what cannot be written is dropped and counted.");

// Exported by gflags, declared in none of its headers.
namespace google {
extern void (*gflags_exitfunc)(int);
}

namespace understudy {
namespace {

constexpr int kWrongFlags = 2;
constexpr int kCannotRun = 1;
constexpr int kUseless = 3;

int Complain(const char* program, const absl::Status& status, int exit_code) {
  // Where nobody reads, the exit must not wait for it.
  pollfd ready{STDERR_FILENO, POLLOUT, 0};
  if (poll(&ready, 1, 200) == 1) {
    std::fprintf(stderr, "%s: %s\n", program, std::string(status.message()).c_str());
  }
  return exit_code;
}

absl::StatusOr<std::unique_ptr<LogSink>> OpenLog() {
  if (FLAGS_log_file.empty()) {
    return std::make_unique<LogSink>(BackgroundWriter::ToDescriptor(STDERR_FILENO));
  }
  auto writer = BackgroundWriter::ToFile(FLAGS_log_file);
  if (!writer.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("--log_file: ", std::string(writer.status().message())));
  }
  return std::make_unique<LogSink>(*std::move(writer));
}

// SIGHUP and SIGUSR1: what log rotation sends.
void ReopenOnSignal(boost::asio::signal_set& signals, LogSink& log) {
  signals.async_wait([&](boost::system::error_code error, int signal) {
    if (error) return;
    LOG(INFO) << "signal " << signal << ": "
              << (FLAGS_log_file.empty() ? "the log goes to stderr" : "reopening " + FLAGS_log_file);
    log.writer().Reopen();
    ReopenOnSignal(signals, log);
  });
}

// Each connection is an open file, and what is given to everybody at first is seldom enough.
void RaiseOpenFiles() {
  rlimit files;
  if (getrlimit(RLIMIT_NOFILE, &files) != 0) return;
  files.rlim_cur = files.rlim_max;
  (void)setrlimit(RLIMIT_NOFILE, &files);
}

// How many connections may be open; the rest is for the node itself.
uint64_t MaxConnections() {
  constexpr rlim_t kOwn = 100;
  rlimit files;
  if (getrlimit(RLIMIT_NOFILE, &files) != 0) return 0;
  const uint64_t connections = files.rlim_cur > kOwn ? files.rlim_cur - kOwn : 0;
  LOG(INFO) << "up to " << files.rlim_cur << " open files: " << connections << " connections";
  return connections;
}

// What people may call this node in a URL.
HostPolicy HostsOf(const NodeConfig& config) {
  boost::system::error_code ignored;
  return {config.status_allow_any_host, {config.node, boost::asio::ip::host_name(ignored)}};
}

// What is found about the host that does not keep the node from running.
std::vector<std::string> WarningsOf(const NodeConfig& config) {
  if (config.role == Role::kStandalone) return {};  // restores nothing
  std::vector<std::string> warnings = tcpshim::FirewallWarnings(tcpshim::ReadFirewall(), config.service);
  for (const std::string& warning : warnings) LOG(WARNING) << warning;
  return warnings;
}

// nullptr: there shall be none.
absl::StatusOr<std::unique_ptr<Witness>> WitnessFor(const NodeConfig& config) {
  if (config.role == Role::kStandalone || !config.witness) return nullptr;
  return StartWitness();
}

// It would be known anyhow, but not that a folder is all that is missing.
absl::Status FindArbiterFolder(const NodeConfig& config) {
  constexpr char kFile[] = "file:";
  if (config.arbiter.rfind(std::string(kFile) + "/", 0) != 0) return absl::OkStatus();
  const std::string path = config.arbiter.substr(sizeof(kFile) - 1);
  const std::string folder = path.substr(0, std::max<size_t>(1, path.rfind('/')));
  if (access(folder.c_str(), F_OK) == 0 || errno != ENOENT) return absl::OkStatus();
  return absl::NotFoundError(
      absl::StrCat("--arbiter=", config.arbiter, ": there is no folder ", folder, ": make it"));
}

int RunNode(const char* program, const NodeConfig& config, const ServerFactory& make_server, Witness* witness,
            LogSink& log) {
  boost::asio::io_context loop(1);
  boost::asio::signal_set reopen(loop, SIGHUP, SIGUSR1);
  ReopenOnSignal(reopen, log);
  const SystemClock clock;
  SystemHost host(loop, &clock);
  absl::Status failed;
  auto made = Node::Make(&host, config, make_server, witness, [&](absl::Status status) {
    failed = std::move(status);
    loop.stop();
  });
  if (!made.ok()) return Complain(program, made.status(), kCannotRun);
  const std::unique_ptr<Node> node = *std::move(made);
  // Before there are clients that would wait for it.
  const std::vector<std::string> warnings = WarningsOf(config);
  if (absl::Status started = node->Start(); !started.ok()) {
    return Complain(program, started, absl::IsInvalidArgument(started) ? kWrongFlags : kCannotRun);
  }

  std::unique_ptr<StatusServer> status_server;
  if (config.status.has_value()) {
    auto opened = StatusServer::Open(loop, *config.status, HostsOf(config), [&] {
      NodeStatus status = node->Status();
      status.warnings.insert(status.warnings.end(), warnings.begin(), warnings.end());
      status.counters.emplace_back("log_lines_dropped_total", log.writer().dropped());
      return status;
    });
    if (!opened.ok()) return Complain(program, opened.status(), kCannotRun);
    status_server = *std::move(opened);
    LOG(INFO) << "status on http://" << status_server->local();
  }
  boost::asio::signal_set signals(loop, SIGINT, SIGTERM);
  signals.async_wait([&](boost::system::error_code error, int signal) {
    if (error) return;
    LOG(INFO) << "signal " << signal << ": stopping";
    node->Stop([&loop] { loop.stop(); });
    signals.async_wait([&](boost::system::error_code aborted, int again) {
      if (aborted) return;
      LOG(WARNING) << "signal " << again << " again: stopping at once";
      loop.stop();
    });
  });
  loop.run();
  if (failed.ok()) return EXIT_SUCCESS;
  return Complain(program, failed, absl::IsAborted(failed) ? kUseless : kCannotRun);
}

// --help: what a node is told with, not the hundred flags of glog and gflags. Those lie in folders of their
// own.
void Help() {
  std::vector<gflags::CommandLineFlagInfo> all;
  gflags::GetAllFlags(&all);  // sorted by file
  std::string own, framework;
  for (const gflags::CommandLineFlagInfo& flag : all) {
    const std::string& file = flag.filename;
    if (file.rfind("framework/", 0) == 0) {
      framework += gflags::DescribeOneFlag(flag);
    } else if (file.find("src/gflags") == std::string::npos && file.rfind("./src/", 0) != 0) {
      own += gflags::DescribeOneFlag(flag);
    }
  }
  const char* program = gflags::ProgramInvocationShortName();
  std::printf("%s: %s\n", program, gflags::ProgramUsage());
  if (!own.empty()) std::printf("\n  Of %s:\n%s", program, own.c_str());
  std::printf(
      "\n  Of every server on Understudy:\n%s\n--helpfull: all others, of glog (what is logged) and gflags\n",
      framework.c_str());
}

// gflags prints one line and ends the process with status 1 on an unknown flag or an unreadable value.
// Here wrong flags are 2, and having been helped is no failure.
void ParseFlags(int* argc, char*** argv) {
  google::gflags_exitfunc = [](int) {
    std::fprintf(stderr, "%s --help lists the flags\n", gflags::ProgramInvocationShortName());
    std::exit(kWrongFlags);
  };
  gflags::ParseCommandLineNonHelpFlags(argc, argv, /*remove_flags=*/true);
  if (gflags::GetCommandLineFlagInfoOrDie("help").current_value == "true") {
    Help();
    std::exit(EXIT_SUCCESS);
  }
  google::gflags_exitfunc = [](int) { std::exit(EXIT_SUCCESS); };
  gflags::HandleCommandLineHelpFlags();
}

}  // namespace

Settings ValuesOfFlags(std::initializer_list<const char*> names) {
  Settings values;
  for (const char* name : names)
    values[std::string("--") + name] = gflags::GetCommandLineFlagInfoOrDie(name).current_value;
  return values;
}

int RunMain(int argc, char** argv, const ServerFactory& make_server) {
  gflags::SetUsageMessage(
      "a server on Understudy. --role=standalone --service=IP:PORT runs it alone; the other roles make it "
      "one of a pair.");
  gflags::SetVersionString("0.1");
  ParseFlags(&argc, &argv);
  google::InitGoogleLogging(argv[0]);
  const char* program = google::ProgramInvocationShortName();
  if (argc > 1) {
    return Complain(program,
                    absl::InvalidArgumentError(std::string("takes no argument, was given \"") + argv[1] +
                                               "\"; flags begin with --"),
                    kWrongFlags);
  }
  auto config = ConfigFromFlags();
  if (!config.ok()) return Complain(program, config.status(), kWrongFlags);
  RaiseOpenFiles();  // the witness's socket gets the highest number
  // Before there are threads, or anything else that must not outlive this process.
  const auto witness = WitnessFor(*config);
  auto log = OpenLog();
  if (!log.ok()) return Complain(program, log.status(), kWrongFlags);
  if (config->release) {
    const absl::Status released = Release(*config);
    return released.ok() ? EXIT_SUCCESS : Complain(program, released, kCannotRun);
  }
  if (absl::Status found = FindArbiterFolder(*config); !found.ok())
    return Complain(program, found, kCannotRun);
  config->max_connections = MaxConnections();
  LOG_IF(WARNING, !witness.ok()) << witness.status().message()
                                 << "; the other node finds a death when the lease has run out";
  std::signal(SIGPIPE, SIG_IGN);
  InstallCrashHandler(witness.ok() && *witness != nullptr ? (*witness)->fatal_call() : nullptr);
  // Batches of records are large and come and go: memory that is handed back to the system each time is
  // faulted in anew each time (a fifth of the secondary's work in a bulk upload).
  mallopt(M_MMAP_THRESHOLD, 64 << 20);
  mallopt(M_TRIM_THRESHOLD, 256 << 20);
  return RunNode(program, *config, make_server, witness.ok() ? witness->get() : nullptr, **log);
}

}  // namespace understudy
