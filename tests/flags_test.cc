// What goes wrong at the start is said in one clear line, with the right exit status.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "tests/pair_fixture.h"

namespace understudy::lab {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;

struct Outcome {
  int exit_status = -1;  // -1: still running, or killed
  std::string output;
  int lines() const { return static_cast<int>(std::count(output.begin(), output.end(), '\n')); }
};

class StartTest : public testing::Test {
 protected:
  void SetUp() override {
    auto lab = Lab::Create();
    ASSERT_TRUE(lab.ok()) << lab.status().message();
    lab_ = *std::move(lab);
  }

  // The flags of a working primary, with changes: "" takes a flag away.
  std::vector<std::string> PrimaryWith(const std::vector<std::pair<std::string, std::string>>& changes) {
    std::vector<std::pair<std::string, std::string>> flags = {
        {"role", "primary"},
        {"service", Lab::service()},
        {"interface", Lab::kServiceInterface},
        {"node", "a"},
        {"replication", Lab::replication_ip(Host::kA) + ":7100"},
        {"peer", Lab::replication_ip(Host::kB) + ":7100"},
        {"replication_insecure", "true"},
        {"arbiter", absl::StrCat("file:", dir_.path(), "/arbiter")},
        {"status", "127.0.0.1:7200"},
    };
    for (auto& change : changes) {
      auto same = [&](auto& flag) { return flag.first == change.first; };
      flags.erase(std::remove_if(flags.begin(), flags.end(), same), flags.end());
      if (!change.second.empty()) flags.push_back(change);
    }
    std::vector<std::string> argv;
    for (auto& [name, value] : flags) argv.push_back(absl::StrCat("--", name, "=", value));
    return argv;
  }

  Outcome Run(const std::vector<std::string>& flags, Process::Options options = {}) {
    options.name = "start";
    // What is looked for is the one line that says why.
    options.argv = {Runfile("tests/apps/workbench"), "--minloglevel=2"};
    options.argv.insert(options.argv.end(), flags.begin(), flags.end());
    options.where = &lab_->host(Host::kA);
    auto process = Process::Start(options);
    EXPECT_TRUE(process.ok()) << process.status();
    Outcome outcome;
    auto status = (*process)->Wait(seconds(10));
    if (!status) (*process)->Kill();
    if (status && WIFEXITED(*status)) outcome.exit_status = WEXITSTATUS(*status);
    outcome.output = (*process)->Log();
    return outcome;
  }

  void ExpectOneLine(const Outcome& outcome, int exit_status, const std::string& regex) {
    EXPECT_EQ(outcome.exit_status, exit_status) << outcome.output;
    EXPECT_EQ(outcome.lines(), 1) << outcome.output;
    EXPECT_THAT(outcome.output, ContainsRegex(regex));
  }

  // A socket at ip:port of host a.
  int Occupy(const std::string& ip, uint16_t port, int type = SOCK_STREAM) {
    int fd = lab_->host(Host::kA).Socket(AF_INET, type);
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    EXPECT_EQ(inet_pton(AF_INET, ip.c_str(), &address.sin_addr), 1);
    EXPECT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0) << strerror(errno);
    EXPECT_TRUE(type != SOCK_STREAM || listen(fd, 1) == 0);
    return fd;
  }

  std::unique_ptr<Lab> lab_;
  TempDir dir_;
};

TEST_F(StartTest, WrongFlags) {
  struct Case {
    std::vector<std::pair<std::string, std::string>> changes;
    std::string says;
  };
  const Case cases[] = {
      {{{"role", "king"}}, "role.*king"},
      {{{"service", ""}}, "service"},
      {{{"service", "198.18.0.10"}}, "service.*198.18.0.10"},
      {{{"log_file", "/no/such/folder/log"}}, "log_file.*/no/such/folder/log"},
      {{{"service", "198.18.0.10:0"}}, "service"},
      {{{"service", "198.18.0.10:70000"}}, "service.*70000"},
      {{{"service", "198.18.0.300:7000"}}, "service.*198.18.0.300"},
      {{{"service", "localhost:7000"}}, "service.*localhost"},
      {{{"service", "0.0.0.0:7000"}}, "service"},
      {{{"service", "198.18.1.1:7000"}}, "service"},
      {{{"interface", ""}}, "interface"},
      {{{"interface", "lo"}}, "interface=lo.*no other host"},
      // Host a's own.
      {{{"service", "198.18.0.11:7000"}}, "198.18.0.11 is this host's own address"},
      {{{"interface", "a-name-that-is-far-too-long"}}, "interface"},
      {{{"node", ""}}, "node"},
      {{{"node", "two words"}}, "node"},
      {{{"replication", ""}}, "replication"},
      {{{"replication", "198.18.1.1"}}, "replication"},
      {{{"peer", ""}}, "peer"},
      {{{"peer", "198.18.1.1:7100"}}, "peer"},
      {{{"arbiter", ""}}, "arbiter"},
      {{{"arbiter", "crystal-ball:/"}}, "arbiter.*crystal-ball"},
      {{{"arbiter", "file:"}}, "arbiter"},
      {{{"arbiter", "etcd:x"}}, "arbiter=etcd:x.*not built in"},
      {{{"status", "7200"}}, "status.*7200"},
      {{{"heartbeat_ms", "0"}}, "heartbeat_ms"},
      {{{"heartbeat_ms", "-5"}}, "heartbeat_ms"},
      {{{"suspect_after_ms", "5"}}, "suspect_after_ms"},
      {{{"suspect_after_ms", "-1"}}, "suspect_after_ms"},
      {{{"max_stall_ms", "-1"}}, "max_stall_ms"},
      {{{"client_keepalive_s", "-1"}}, "client_keepalive_s"},
      {{{"log_to", "the_moon"}}, "log_to.*the_moon"},
      {{{"role", "standalone"}}, "interface|replication|peer|arbiter"},
      {{{"replication_insecure", ""}}, "replication_key_file is required"},
      {{{"replication_insecure", ""}, {"replication_key_file", "/nonexistent"}},
       "replication_key_file=/nonexist"},
      {{{"node", "n:1"}}, "node"},
  };
  for (const Case& wrong : cases) {
    SCOPED_TRACE(wrong.changes[0].first + "=" + wrong.changes[0].second);
    ExpectOneLine(Run(PrimaryWith(wrong.changes)), 2, wrong.says);
  }
  // These gflags finds, in a line of its own.
  for (const auto& [changed, says] : {std::pair{std::pair{"heartbeat_ms", "soon"}, "soon"},
                                      {std::pair{"no_such_flag", "1"}, "no_such_flag"}}) {
    const Outcome outcome = Run(PrimaryWith({changed}));
    EXPECT_EQ(outcome.exit_status, 2) << outcome.output;
    EXPECT_EQ(outcome.lines(), 2) << outcome.output;
    EXPECT_THAT(outcome.output, ContainsRegex(absl::StrCat(says, ".*\n.*workbench --help")));
  }
  std::vector<std::string> argument = PrimaryWith({});
  argument.push_back("stray");
  ExpectOneLine(Run(argument), 2, "stray");
  ExpectOneLine(Run({}), 2, "service");
}

TEST_F(StartTest, AServerThatCannotBeMade) {
  for (const auto& role : {std::pair<std::string, std::string>{"role", "primary"}, {"role", "secondary"}}) {
    ExpectOneLine(Run(PrimaryWith({role, {"cannot_start", "the database is locked"}})), 1,
                  "workbench: the database is locked");
  }
  ExpectOneLine(Run({"--role=standalone", "--service=127.0.0.1:7000", "--cannot_start=no disk"}), 1,
                "workbench: no disk");
}

TEST_F(StartTest, HelpAndVersionAreNoFailure) {
  Outcome help = Run({"--helpshort"});
  EXPECT_EQ(help.exit_status, 0);
  Outcome all = Run({"--help"});
  EXPECT_EQ(all.exit_status, 0);
  const size_t own = all.output.find("Of workbench:\n"),
               of_every = all.output.find("Of every server on Understudy:\n");
  ASSERT_NE(of_every, std::string::npos) << all.output;
  EXPECT_LT(own, all.output.find("-cannot_start "));
  EXPECT_LT(all.output.find("-cannot_start "), of_every);
  EXPECT_LT(of_every, all.output.find("-announce_every_s "));
  EXPECT_THAT(all.output, HasSubstr("--helpfull"));
  EXPECT_THAT(all.output, testing::Not(HasSubstr("-alsologtostderr")));
  EXPECT_THAT(Run({"--helpfull"}).output, HasSubstr("-alsologtostderr"));
  for (const char* flag : {"role", "service", "interface", "node", "replication", "peer", "arbiter", "status",
                           "heartbeat_ms", "suspect_after_ms", "max_stall_ms", "client_keepalive_s",
                           "witness", "exit_when_useless", "force_data_loss"}) {
    EXPECT_THAT(all.output, HasSubstr(absl::StrCat("-", flag, " ")));
  }
  EXPECT_EQ(Run({"--version"}).exit_status, 0);
}

// One line that says which privilege is missing and how to grant it.
TEST_F(StartTest, MissingPrivilege) {
  Process::Options nobody;
  nobody.as_nobody = true;
  for (const char* role : {"primary", "secondary"}) {
    SCOPED_TRACE(role);
    Outcome outcome = Run(PrimaryWith({{"role", role}}), nobody);
    ExpectOneLine(outcome, 1, "CAP_NET_ADMIN|CAP_BPF|CAP_NET_RAW");
    EXPECT_THAT(outcome.output, ContainsRegex("root|setcap|AmbientCapabilities|cap_add"));
  }
  // Some of it is not enough either.
  for (auto& [capability, name] :
       {std::pair{CAP_NET_ADMIN, "CAP_NET_ADMIN"}, std::pair{CAP_NET_RAW, "CAP_NET_RAW"}}) {
    SCOPED_TRACE(name);
    Process::Options without;
    without.drop_capabilities = {capability};
    ExpectOneLine(Run(PrimaryWith({}), without), 1, name);
  }
  // CAP_SYS_ADMIN contains CAP_BPF.
  Process::Options without;
  without.drop_capabilities = {CAP_BPF, CAP_SYS_ADMIN};
  ExpectOneLine(Run(PrimaryWith({}), without), 1, "CAP_BPF");
}

TEST_F(StartTest, PortInUse) {
  int fd = Occupy("198.18.1.1", 7100);
  ExpectOneLine(Run(PrimaryWith({})), 1, "198.18.1.1:7100.*in use");
  close(fd);
  fd = Occupy("198.18.1.1", 7100, SOCK_DGRAM);
  ExpectOneLine(Run(PrimaryWith({})), 1, "UDP.*198.18.1.1:7100.*in use");
  close(fd);
  fd = Occupy("127.0.0.1", 7200);
  ExpectOneLine(Run(PrimaryWith({})), 1, "127.0.0.1:7200.*in use");
  close(fd);
  fd = Occupy("127.0.0.1", 7000);
  ExpectOneLine(Run({"--role=standalone", "--service=127.0.0.1:7000"}), 1, "127.0.0.1:7000.*in use");
  close(fd);
  ExpectOneLine(Run({"--role=standalone", "--service=198.18.0.99:7000"}), 1, "198.18.0.99:7000");
}

TEST_F(StartTest, ThePlaceIsWrong) {
  ExpectOneLine(Run(PrimaryWith({{"interface", "nosuch0"}})), 1, "nosuch0");
  ExpectOneLine(Run(PrimaryWith({{"replication", "198.18.77.1:7100"}})), 1, "198.18.77.1");
  ExpectOneLine(Run(PrimaryWith({{"arbiter", "file:/no/such/folder/arbiter"}})), 1,
                "/no/such/folder/arbiter: there is no folder /no/such/folder: make it");
}

// A register that names another as the holder: that node must not serve, and says so.
TEST_F(StartTest, DamagedRegister) {
  FILE* file = fopen((dir_.path() + "/arbiter").c_str(), "w");
  ASSERT_NE(file, nullptr);
  fputs("these are not the words of a register\n", file);
  fclose(file);
  Outcome outcome = Run(PrimaryWith({}));
  EXPECT_EQ(outcome.exit_status, 1) << outcome.output;
  EXPECT_THAT(outcome.output, HasSubstr("arbiter"));
}

// A secondary without a primary waits for it, and says for whom.
TEST_F(StartTest, PeerUnreachable) {
  Process::Options options;
  options.name = "alone";
  options.argv = {Runfile("tests/apps/workbench")};
  auto flags = PrimaryWith({{"role", "secondary"}});
  options.argv.insert(options.argv.end(), flags.begin(), flags.end());
  options.where = &lab_->host(Host::kA);
  auto process = Process::Start(options);
  ASSERT_TRUE(process.ok()) << process.status();
  auto said = [&] { return (*process)->Log().find("198.18.1.2:7100") != std::string::npos; };
  auto deadline = std::chrono::steady_clock::now() + seconds(5);
  while (!said() && std::chrono::steady_clock::now() < deadline) usleep(5000);
  EXPECT_TRUE(said()) << (*process)->Log();
  StatusClient asked(&lab_->host(Host::kA), "127.0.0.1", 7200);
  if ((*process)->running()) {
    EXPECT_EQ(asked.State(), "joining");
  }
}

}  // namespace
}  // namespace understudy::lab
