#include "tests/kvstore/servers.h"

#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <sstream>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace kvstore::test {

using understudy::lab::Process;

namespace {

constexpr std::chrono::seconds kStart(30);

absl::StatusOr<std::string> FindProgram(const std::string& name) {
  const char* path = std::getenv("PATH");
  std::stringstream folders(path == nullptr ? "" : path);
  for (std::string folder; std::getline(folders, folder, ':');) {
    const std::string file = absl::StrCat(folder, "/", name);
    if (access(file.c_str(), X_OK) == 0) return file;
  }
  return absl::NotFoundError(absl::StrCat("no ", name, " in PATH; scripts/setup installs it"));
}

// Out of "... serving 127.0.0.1:40000, standalone".
std::optional<uint16_t> PortOf(const std::string& log) {
  constexpr std::string_view kServing = "serving 127.0.0.1:";
  const size_t at = log.find(kServing);
  if (at == std::string::npos) return std::nullopt;
  const size_t begin = at + kServing.size();
  const size_t end = log.find(',', begin);
  uint32_t port = 0;
  if (end == std::string::npos || !absl::SimpleAtoi(log.substr(begin, end - begin), &port)) {
    return std::nullopt;
  }
  return static_cast<uint16_t>(port);
}

}  // namespace

absl::StatusOr<std::unique_ptr<TestServer>> TestServer::StartRedis(std::vector<std::string> flags,
                                                                   const std::string& password) {
  const auto program = FindProgram("redis-server");
  if (!program.ok()) return program.status();
  std::unique_ptr<TestServer> server(new TestServer());
  server->password_ = password;
  server->address_.path = absl::StrCat(server->folder_.path(), "/redis");
  server->flags_ = {*program, "--port", "0", "--unixsocket", server->address_.path, "--dir",
                    server->folder_.path(), "--save", "", "--appendonly", "no", "--databases", "1",
                    "--enable-debug-command", "yes", "--proto-max-bulk-len", absl::StrCat(kMaxBulk),
                    // The kvstore's defaults.
                    "--client-query-buffer-limit", "256mb", "--maxmemory-clients", "256mb"};
  server->flags_.insert(server->flags_.end(), flags.begin(), flags.end());
  if (absl::Status started = server->Start(); !started.ok()) return started;
  return server;
}

absl::StatusOr<std::unique_ptr<TestServer>> TestServer::StartKvStore(std::vector<std::string> flags,
                                                                     const std::string& password) {
  std::unique_ptr<TestServer> server(new TestServer());
  server->is_kvstore_ = true;
  server->password_ = password;
  server->flags_ = {understudy::lab::Runfile("apps/kvstore/kvstore"), "--role=standalone",
                    "--service=127.0.0.1:0", "--logtostderr", "--enable_debug_command=yes"};
  server->flags_.insert(server->flags_.end(), flags.begin(), flags.end());
  if (absl::Status started = server->Start(); !started.ok()) return started;
  return server;
}

absl::Status TestServer::StartAgainIfEnded() { return process_->running() ? absl::OkStatus() : Start(); }

absl::Status TestServer::Start() {
  Process::Options options;
  options.name = is_kvstore_ ? "kvstore" : "redis";
  options.argv = flags_;
  if (!is_kvstore_) std::filesystem::remove(address_.path);
  auto process = Process::Start(options);
  if (!process.ok()) return process.status();
  process_ = *std::move(process);
  const auto deadline = std::chrono::steady_clock::now() + kStart;
  while (process_->running() && std::chrono::steady_clock::now() < deadline) {
    if (is_kvstore_) address_.port = PortOf(process_->Log()).value_or(0);
    if (!is_kvstore_ || address_.port != 0) {
      auto wire = Wire::Connect(address_);
      if (wire.ok() && !password_.empty()) (*wire)->Ask({"AUTH", password_});
      if (wire.ok() && (*wire)->Ask({"PING"}).text == "PONG") return absl::OkStatus();
    }
    process_->Wait(std::chrono::milliseconds(5));  // until it ends, or a moment
  }
  return absl::UnavailableError(absl::StrCat(options.name, " does not start:\n", process_->LogTail(30)));
}

}  // namespace kvstore::test
