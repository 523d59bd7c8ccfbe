#include "tcpshim/firewall.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <fstream>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "tcpshim/unique_fd.h"

namespace understudy::tcpshim {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kPatience(2);
constexpr size_t kMostRules = 8 << 20;

// What the program prints; as much as it has until `deadline`.
std::string OutputOf(std::vector<std::string> command, Clock::time_point deadline) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return "";
  const UniqueFd out(ends[0]);
  UniqueFd in(ends[1]);
  std::vector<char*> argv;
  for (std::string& word : command) argv.push_back(word.data());
  argv.push_back(nullptr);
  char path[] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin", locale[] = "LC_ALL=C";
  char* environment[] = {path, locale, nullptr};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in.get(), STDOUT_FILENO);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  pid_t pid = 0;
  const int error = posix_spawn(&pid, argv[0], &actions, nullptr, argv.data(), environment);
  posix_spawn_file_actions_destroy(&actions);
  in.reset();
  if (error != 0) return "";
  std::string text;
  std::array<char, 65536> buffer;
  while (text.size() < kMostRules) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    pollfd wanted = {out.get(), POLLIN, 0};
    if (left <= 0 || poll(&wanted, 1, static_cast<int>(left)) <= 0) break;
    const ssize_t size = read(out.get(), buffer.data(), buffer.size());
    if (size <= 0) break;
    text.append(buffer.data(), static_cast<size_t>(size));
  }
  kill(pid, SIGKILL);  // has ended, or takes too long
  while (waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  return text;
}

std::string FirstExecutable(const std::string& name) {
  for (const char* folder : {"/usr/sbin/", "/sbin/", "/usr/bin/", "/bin/"}) {
    if (const std::string path = folder + name; access(path.c_str(), X_OK) == 0) return path;
  }
  return "";
}

bool HasWord(absl::string_view line, absl::string_view word) {
  for (absl::string_view one : absl::StrSplit(line, absl::ByAnyChar(" \t,{}!"))) {
    if (absl::EqualsIgnoreCase(one, word)) return true;
  }
  return false;
}

// A rule of nft (`ct state new ... drop`) or of iptables (`--ctstate NEW ... -j DROP`).
bool Drops(absl::string_view rule) { return HasWord(rule, "drop") || HasWord(rule, "reject"); }
bool IsForState(absl::string_view rule, absl::string_view state) {
  return (absl::StrContains(rule, "ct state") || absl::StrContains(rule, "--ctstate") ||
          absl::StrContains(rule, "--state")) &&
         HasWord(rule, state);
}
// "All but SYN": `tcp flags != syn`, `tcp flags & (fin|syn|rst|ack) != syn`, `! --tcp-flags FIN,SYN,RST,ACK
// SYN`.
bool IsForNoSyn(absl::string_view rule) {
  const bool nft = absl::StrContains(rule, "tcp flags") && absl::StrContains(rule, "!= syn");
  return nft || absl::StrContains(rule, "! --tcp-flags") || absl::StrContains(rule, "! --syn");
}
bool Exempts(absl::string_view rule, const SocketAddress& service) {
  const bool untracked = HasWord(rule, "notrack") || HasWord(rule, "--notrack");
  return untracked && HasWord(rule, absl::StrCat(service.port));
}

}  // namespace

Firewall ReadFirewall() {
  Firewall firewall;
  const auto deadline = Clock::now() + kPatience;
  for (const auto& [program, arguments] :
       {std::pair<const char*, std::vector<std::string>>{"nft", {"list", "ruleset"}},
        {"iptables-save", {}}}) {
    std::vector<std::string> command = {FirstExecutable(program)};
    if (command[0].empty()) continue;
    command.insert(command.end(), arguments.begin(), arguments.end());
    absl::StrAppend(&firewall.rules, OutputOf(std::move(command), deadline), "\n");
  }
  // Per network namespace; not there: this kernel has no connection tracking loaded.
  int value = 0;
  if (std::ifstream file("/proc/sys/net/netfilter/nf_conntrack_count"); file >> value)
    firewall.tracking = value > 0;
  if (std::ifstream file("/proc/sys/net/netfilter/nf_conntrack_tcp_loose"); file >> value)
    firewall.loose = value != 0;
  for (const char* sign :
       {"ct state", "--ctstate", "--state", "masquerade", "MASQUERADE", "dnat", "DNAT", "snat", "SNAT"}) {
    firewall.tracking = firewall.tracking || absl::StrContains(firewall.rules, sign);
  }
  return firewall;
}

std::vector<std::string> FirewallWarnings(const Firewall& firewall, const SocketAddress& service) {
  std::vector<std::string> warnings;
  const auto warn = [&warnings](absl::string_view what) {
    warnings.push_back(absl::StrCat(what,
                                    ": after a takeover clients lose their connections; exempt the service "
                                    "from connection tracking (docs/firewall.md)"));
  };
  const std::vector<std::string> rules = absl::StrSplit(firewall.rules, '\n');
  for (const std::string& rule : rules) {
    if (Exempts(rule, service)) return {};
  }
  if (firewall.tracking && !firewall.loose) {
    warn("connections are tracked here and net.netfilter.nf_conntrack_tcp_loose is 0");
  }
  for (const std::string& line : rules) {
    const absl::string_view rule = absl::StripAsciiWhitespace(line);
    const bool new_without_syn = IsForState(rule, "new") && IsForNoSyn(rule);
    const bool invalid = IsForState(rule, "invalid") && !firewall.loose;
    if (Drops(rule) && (new_without_syn || invalid)) {
      warn(absl::StrCat("the firewall rule \"", rule.substr(0, 200), "\" drops what is restored"));
    }
    if (warnings.size() >= 4) break;  // enough to begin with
  }
  return warnings;
}

}  // namespace understudy::tcpshim
