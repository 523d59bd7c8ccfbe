#include "apps/kvstore/commands/command_fixture_for_test.h"

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <utility>

#include "apps/kvstore/commands/dispatcher.h"
#include "glog/logging.h"

namespace kvstore {
namespace {

std::unique_ptr<Session> MakeSession(uint64_t id, int64_t now_ms) {
  auto session = std::make_unique<Session>();
  session->id = id;
  session->peer = "198.18.0.9:" + std::to_string(40000 + id);
  session->local = "198.18.0.100:6379";
  session->connected_ms = session->last_command_ms = now_ms;
  return session;
}

// The number behind a type's letter, and the line's end.
size_t TakeHeader(std::string_view* bytes, char type) {
  const size_t end = bytes->find("\r\n");
  if (end == bytes->npos || bytes->front() != type) {
    ADD_FAILURE() << "not a '" << type << "': " << bytes->substr(0, 100);
    return 0;
  }
  const size_t number = std::strtoull(std::string(bytes->substr(1, end - 1)).c_str(), nullptr, 10);
  bytes->remove_prefix(end + 2);
  return number;
}

}  // namespace

TestClient::TestClient(Instance* instance, uint64_t id, const int64_t* now_us, std::mt19937_64* random)
    : instance_(instance), now_us_(now_us), random_(random), session_(MakeSession(id, *now_us / 1000)) {
  session_->connection = this;
  instance_->sessions[id] = session_.get();
}

TestClient::~TestClient() {
  instance_->watches.Unwatch(&session_->watcher);
  instance_->sessions.erase(session_->id);
}

std::string TestClient::RunArgs(const std::vector<std::string_view>& args) {
  std::string out;
  Reply reply(&out, session_->protocol);
  Dispatch(*instance_, *session_, *this, reply, args);
  return out;
}

CommandTest::CommandTest() {
  const char* given = std::getenv("UNDERSTUDY_TEST_SEED");
  const uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device()();
  std::cout << "UNDERSTUDY_TEST_SEED=" << seed << std::endl;
  random_.seed(seed);

  auto table = Table::Open({.directory = directory_.path()});
  CHECK(table.ok()) << table.status();
  table_ = *std::move(table);
  auto keys = Keyspace::Open(table_.get(), &instance_.watches);
  CHECK(keys.ok()) << keys.status();
  keys_ = *std::move(keys);
  instance_.keys = keys_.get();
  instance_.settings.debug = DebugCommand::kYes;
  client_ = Connect();
}

CommandTest::~CommandTest() {
  client_.reset();
  EXPECT_TRUE(keys_->Commit().ok());
}

std::unique_ptr<TestClient> CommandTest::Connect() {
  return std::make_unique<TestClient>(&instance_, ++last_id_, &now_us_, &random_);
}

std::string Bulk(std::string_view bytes) {
  return "$" + std::to_string(bytes.size()) + "\r\n" + std::string(bytes) + "\r\n";
}

std::string Bulks(const std::vector<std::string>& elements, char type) {
  std::string bytes = type + std::to_string(elements.size()) + "\r\n";
  for (const std::string& element : elements) bytes += Bulk(element);
  return bytes;
}

std::vector<std::string> SortedBulks(std::string_view reply, char type) {
  std::vector<std::string> elements;
  const size_t count = TakeHeader(&reply, type);
  while (elements.size() < count && !testing::Test::HasFailure()) {
    const size_t size = TakeHeader(&reply, '$');
    elements.emplace_back(reply.substr(0, size));
    reply.remove_prefix(std::min(reply.size(), size + 2));
  }
  EXPECT_EQ(reply, "");
  std::sort(elements.begin(), elements.end());
  return elements;
}

}  // namespace kvstore
