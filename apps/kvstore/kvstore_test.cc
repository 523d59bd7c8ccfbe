#include "apps/kvstore/kvstore.h"

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "apps/kvstore/store/store_for_test.h"
#include "gtest/gtest.h"

namespace kvstore {
namespace {

using understudy::CloseReason;
using understudy::Connection;

std::string Bulk(std::string_view bytes) {
  return "$" + std::to_string(bytes.size()) + "\r\n" + std::string(bytes) + "\r\n";
}

std::string Request(const std::vector<std::string>& words) {
  std::string request = "*" + std::to_string(words.size()) + "\r\n";
  for (const std::string& word : words) request += Bulk(word);
  return request;
}

// A connection that treats the Server as the framework does (framework/executor.cc): what is left unread is
// given again together with new bytes, and after OnWritable. The test says when the client reads.
class FakeConnection : public Connection {
 public:
  FakeConnection(understudy::Server* server, uint64_t id, std::string peer)
      : server_(server), id_(id), peer_(std::move(peer)) {
    server_->OnConnect(*this);
  }
  ~FakeConnection() override { server_->OnClosed(*this, CloseReason::kDone); }

  // The client sends.
  void Receive(std::string_view bytes) {
    if (closed_) return;
    unread_.append(bytes);
    Give();
  }
  void PeerClosed() { server_->OnPeerClosed(*this); }
  // The client reads everything that is there.
  std::string Read() {
    std::string read = std::exchange(output_, "");
    if (writable_wanted_ && !closed_) {
      writable_wanted_ = false;
      server_->OnWritable(*this);
      if (!unread_.empty()) Give();
    }
    return read;
  }
  std::string Ask(std::string_view bytes) {
    Receive(bytes);
    return Read();
  }

  bool closed() const { return closed_; }
  bool aborted() const { return aborted_; }
  size_t unread() const { return unread_.size(); }
  size_t sends() const { return sends_; }

  understudy::ConnectionId id() const override { return id_; }
  const std::string& peer() const override { return peer_; }
  const std::string& local() const override { return local_; }
  void Send(std::string_view bytes) override {
    EXPECT_TRUE(!closed_ || aborted_);
    if (closed_) return;
    ++sends_;
    output_.append(bytes);
    if (output_.size() >= high_water_) writable_wanted_ = true;
  }
  size_t pending_output() const override { return output_.size(); }
  size_t high_water() const override { return high_water_; }
  void SetHighWater(size_t bytes) override { high_water_ = bytes; }
  void HalfClose() override { ADD_FAILURE(); }
  void Close() override { closed_ = true; }
  void Abort() override { closed_ = aborted_ = true; }
  void SetTimer(uint32_t, std::chrono::microseconds) override { ADD_FAILURE(); }
  void CancelTimer(uint32_t) override { ADD_FAILURE(); }
  void set_context(std::unique_ptr<Context> context) override { context_ = std::move(context); }
  Context* context() const override { return context_.get(); }
  understudy::LoggedTime Now() const override {
    return understudy::LoggedTime(std::chrono::microseconds(1'700'000'000'000'000));
  }
  uint64_t Random() override { return 4; }

 private:
  void Give() {
    // In a block of its own, so that asan sees a view that outlives the call.
    const std::string given = unread_;
    unread_.erase(0, server_->OnData(*this, given));
  }

  understudy::Server* const server_;
  const uint64_t id_;
  const std::string peer_, local_ = "198.18.0.100:6379";
  std::unique_ptr<Context> context_;
  std::string unread_, output_;
  size_t sends_ = 0;
  size_t high_water_ = kDefaultHighWater;
  bool closed_ = false, aborted_ = false;
  bool writable_wanted_ = false;
};

class KvStoreTest : public testing::Test {
 protected:
  KvStoreTest() : server_(Open({})) {}

  static std::unique_ptr<understudy::Server> Open(KvStore::Options options) {
    options.settings.protected_mode = false;
    return OpenAsItIs(options);
  }
  static std::unique_ptr<understudy::Server> OpenAsItIs(const KvStore::Options& options) {
    auto opened = KvStore::Open(options);
    EXPECT_TRUE(opened.ok()) << opened.status();
    return *std::move(opened);
  }

  std::unique_ptr<FakeConnection> Connect(const std::string& peer = "198.18.0.9:40000") {
    return std::make_unique<FakeConnection>(server_.get(), ++last_id_, peer);
  }

  std::unique_ptr<understudy::Server> server_;
  uint64_t last_id_ = 0;
};

TEST_F(KvStoreTest, APipelineIsAnsweredTogether) {
  const auto client = Connect();
  client->Receive(Request({"SET", "a", "1"}) + Request({"GET", "a"}) + "PING\r\n\r\n" + Request({"FOO"}));
  EXPECT_EQ(client->sends(), 1u);
  EXPECT_EQ(client->Read(),
            "+OK\r\n$1\r\n1\r\n+PONG\r\n-ERR unknown command 'FOO', with args beginning with: \r\n");
  EXPECT_EQ(client->unread(), 0u);
}

TEST_F(KvStoreTest, SplitAnywhere) {
  std::string requests, replies;
  for (int i = 0; i < 3; ++i) {
    const std::string value(5 + 3000 * i, 'x');
    requests += Request({"SET", "k", value}) + Request({"GET", "k"}) + "STRLEN k\r\n" + Request({"MULTI"}) +
                Request({"DEL", "k"}) + Request({"EXEC"});
    replies +=
        "+OK\r\n" + Bulk(value) + ":" + std::to_string(value.size()) + "\r\n+OK\r\n+QUEUED\r\n*1\r\n:1\r\n";
  }
  const auto client = Connect();
  for (size_t at = 0; at <= requests.size(); ++at) {
    client->Receive(std::string_view(requests).substr(0, at));
    client->Receive(std::string_view(requests).substr(at));
    ASSERT_TRUE(client->Read() == replies) << "split at " << at;
    ASSERT_EQ(client->unread(), 0u);
  }
  for (const char byte : requests) client->Receive(std::string_view(&byte, 1));
  EXPECT_TRUE(client->Read() == replies);
}

TEST_F(KvStoreTest, RandomPieces) {
  const char* given = std::getenv("UNDERSTUDY_TEST_SEED");
  const uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device()();
  std::cout << "UNDERSTUDY_TEST_SEED=" << seed << std::endl;
  std::mt19937_64 random(seed);
  const auto client = Connect();
  std::string requests, replies, read;
  for (int i = 0; i < 300; ++i) {
    const std::string value(random() % (random() % 10 == 0 ? 100'000 : 20), static_cast<char>('a' + i % 26));
    requests += Request({"SET", "k", value}) + Request({"GET", "k"});
    replies += "+OK\r\n" + Bulk(value);
  }
  for (size_t at = 0; at < requests.size();) {
    const size_t size = std::min(random() % (random() % 4 == 0 ? 200'000 : 30) + 1, requests.size() - at);
    client->Receive(std::string_view(requests).substr(at, size));
    at += size;
    if (random() % 8 == 0) read += client->Read();
  }
  while (client->pending_output() > 0) read += client->Read();
  EXPECT_TRUE(read == replies);
  EXPECT_EQ(client->unread(), 0u);
}

// A client that does not read is not served beyond high_water(), and nothing is lost.
TEST_F(KvStoreTest, WaitsForAClientThatDoesNotRead) {
  const auto client = Connect();
  const std::string value(100'000, 'x');
  client->Ask(Request({"SET", "a", value}));
  std::string requests;
  constexpr int kGets = 100;
  for (int i = 0; i < kGets; ++i) requests += Request({"GET", "a"});
  client->Receive(requests);
  EXPECT_GE(client->pending_output(), Connection::kDefaultHighWater);
  EXPECT_LE(client->pending_output(), Connection::kDefaultHighWater + value.size() + 100);
  EXPECT_GT(client->unread(), 0u);
  const size_t pending = client->pending_output();
  client->Receive("PING\r\n");  // new bytes do not push more out
  EXPECT_EQ(client->pending_output(), pending);

  std::string read;
  int rounds = 0;
  while (client->pending_output() > 0) {
    read += client->Read();
    ASSERT_LT(++rounds, kGets);
  }
  std::string expected;
  for (int i = 0; i < kGets; ++i) expected += Bulk(value);
  EXPECT_TRUE(read == expected + "+PONG\r\n");
  EXPECT_EQ(client->unread(), 0u);
}

// But whoever sends all of a pipeline before it reads would wait for ever for a server that waits for it.
TEST_F(KvStoreTest, RepliesAreKeptForAClientThatSendsFirst) {
  const auto client = Connect();
  const std::string value(1000, 'x');
  client->Ask(Request({"SET", "a", value}));
  std::string piece, read, expected;
  for (int i = 0; i < 500; ++i) {
    piece += Request({"GET", "a"});
    expected += Bulk(value);
  }
  constexpr int kPieces = 200;  // two megabytes of requests
  for (int i = 0; i < kPieces; ++i) {
    client->Receive(piece);
    ASSERT_LT(client->unread(), 1u << 20);  // where the framework would not read on
  }
  for (int rounds = 0; client->pending_output() > 0; ++rounds) {
    read += client->Read();
    ASSERT_LT(rounds, 1000);
  }
  ASSERT_EQ(read.size(), kPieces * expected.size());
  for (int i = 0; i < kPieces; ++i)
    ASSERT_TRUE(read.compare(i * expected.size(), expected.size(), expected) == 0);
  EXPECT_EQ(client->unread(), 0u);
  // And it is as before.
  for (int i = 0; i < 4; ++i) client->Receive(piece);
  EXPECT_LE(client->pending_output(), Connection::kDefaultHighWater + value.size() + 100);
}

TEST_F(KvStoreTest, ProtocolErrorsClose) {
  const auto client = Connect(), other = Connect();
  EXPECT_EQ(client->Ask("PING\r\n*1\r\n!4\r\nPING\r\nPING\r\n"),
            "+PONG\r\n-ERR Protocol error: expected '$', got '!'\r\n");
  EXPECT_TRUE(client->closed());
  EXPECT_EQ(other->Ask("PING\r\n"), "+PONG\r\n");
}

TEST_F(KvStoreTest, Quit) {
  const auto client = Connect();
  EXPECT_EQ(client->Ask(Request({"PING"}) + Request({"QUIT"}) + Request({"SET", "a", "1"})),
            "+PONG\r\n+OK\r\n");
  EXPECT_TRUE(client->closed());
  EXPECT_EQ(Connect()->Ask(Request({"EXISTS", "a"})), ":0\r\n");
}

TEST_F(KvStoreTest, WhoLeavesIsNoClientAnyMore) {
  const auto watcher = Connect(), half_closed = Connect(), other = Connect();
  watcher->Ask("WATCH a\r\n");
  watcher->Receive("QUIT\r\n");
  half_closed->PeerClosed();
  EXPECT_TRUE(half_closed->closed());
  const std::string list = other->Ask("CLIENT LIST\r\n");
  EXPECT_EQ(std::count(list.begin(), list.end(), '\n'), 3) << list;  // its own line, the bulk string's
  EXPECT_EQ(other->Ask("SET a 1\r\n"), "+OK\r\n");                   // nobody is told
}

TEST_F(KvStoreTest, TooLongARequest) {
  server_ = Open({.data_dir = "", .max_bulk = 2 << 20, .settings = {.max_query_buffer = 1 << 20}});
  const auto client = Connect();
  // A value of the size that is allowed fits though the limit is below it.
  const std::string value(2 << 20, 'x');
  EXPECT_EQ(client->Ask(Request({"SET", "a", value})), "+OK\r\n");
  EXPECT_EQ(client->Ask("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$2097153\r\n"),
            "-ERR Protocol error: invalid bulk length\r\n");
  EXPECT_TRUE(client->closed());

  // Several, each within bounds, that make one request without end.
  const auto greedy = Connect();
  greedy->Receive("*100\r\n$4\r\nMSET\r\n");
  int arguments = 0;
  while (!greedy->closed() && arguments < 99) {
    greedy->Receive(Bulk(value));
    ++arguments;
  }
  EXPECT_TRUE(greedy->closed());
  EXPECT_EQ(arguments, 2);
  EXPECT_EQ(greedy->Read(), "");
}

TEST_F(KvStoreTest, ATransactionThatIsTooLong) {
  server_ = Open({.data_dir = "", .max_bulk = 1 << 20, .settings = {.max_query_buffer = 1 << 20}});
  const auto client = Connect();
  client->Ask(Request({"MULTI"}));
  const std::string value(600'000, 'x');
  for (int i = 0; i < 3; ++i) EXPECT_EQ(client->Ask(Request({"SET", "a", value})), "+QUEUED\r\n");
  EXPECT_EQ(client->Ask(Request({"SET", "a", value})), "");
  EXPECT_TRUE(client->closed());
}

// What is queued before counts together with what is still to come.
TEST_F(KvStoreTest, ARequestThatIsTooLongForATransaction) {
  server_ = Open({.data_dir = "", .max_bulk = 1 << 20, .settings = {.max_query_buffer = 1 << 20}});
  const auto client = Connect();
  client->Ask("MULTI\r\n" +
              Request({"MSET", "a", std::string(750'000, 'x'), "b", std::string(750'000, 'x')}));
  client->Receive("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1000000\r\n");
  for (int i = 0; i < 4; ++i) {
    EXPECT_FALSE(client->closed());
    client->Receive(std::string(100'000, 'x'));
  }
  client->Receive(std::string(300'000, 'x'));
  EXPECT_TRUE(client->closed());
}

TEST_F(KvStoreTest, TooManyWatchedKeys) {
  server_ = Open({.data_dir = "", .max_bulk = 1 << 20, .settings = {.max_query_buffer = 1 << 20}});
  const auto client = Connect();
  int watched = 0;
  while (!client->closed() && watched < 100'000) {
    const std::string reply = client->Ask(Request({"WATCH", "key" + std::to_string(watched++)}));
    EXPECT_EQ(reply, client->closed() ? "" : "+OK\r\n");
  }
  EXPECT_GT(watched, 1'000);
  EXPECT_LT(watched, 20'000);
  EXPECT_EQ(Connect()->Ask("SET key1 1\r\n"), "+OK\r\n");  // nobody is told

  // In one request as well, before it has cost more than is allowed.
  std::vector<std::string> many = {"WATCH"};
  for (int i = 0; i < 20'000; ++i) many.push_back(std::to_string(i));
  const auto another = Connect();
  EXPECT_EQ(another->Ask(Request(many)), "");
  EXPECT_TRUE(another->closed());
  // UNWATCH gives it back.
  const auto modest = Connect();
  for (int i = 0; i < 20'000; ++i) {
    ASSERT_EQ(modest->Ask(Request({"WATCH", std::to_string(i)}) + "UNWATCH\r\n"), "+OK\r\n+OK\r\n");
  }
}

// Of many, each within its own bounds, the one that has most goes: not who comes last.
TEST_F(KvStoreTest, AllTransactionsTogether) {
  server_ = Open({.data_dir = "", .settings = {.max_clients_memory = 4 << 20}});
  const std::string value(1'000'000, 'x');
  const auto queue = [&](FakeConnection& client) { return client.Ask(Request({"SET", "a", value})); };
  const auto large = Connect(), middle = Connect(), small = Connect();
  for (const auto& client : {large.get(), middle.get(), small.get()}) client->Ask("MULTI\r\n");
  for (const auto& client : {large.get(), large.get(), middle.get(), small.get()}) {
    EXPECT_EQ(queue(*client), "+QUEUED\r\n");
  }
  EXPECT_FALSE(large->aborted());
  EXPECT_EQ(queue(*small), "+QUEUED\r\n");  // of two that have as much the older one goes
  EXPECT_TRUE(large->aborted());
  EXPECT_EQ(middle->Ask("EXEC\r\n"), "*1\r\n+OK\r\n");
  EXPECT_EQ(small->Ask("EXEC\r\n"), "*2\r\n+OK\r\n+OK\r\n");

  // Who is the largest himself.
  const auto greedy = Connect();
  greedy->Ask("MULTI\r\n");
  for (int i = 0; i < 10 && !greedy->closed(); ++i) queue(*greedy);
  EXPECT_TRUE(greedy->aborted());
  // What they had is free again.
  for (int i = 0; i < 10; ++i) {
    const auto client = Connect();
    client->Ask("MULTI\r\n");
    EXPECT_EQ(queue(*client), "+QUEUED\r\n");
    EXPECT_EQ(queue(*client), "+QUEUED\r\n");
  }
}

// Arguments that are nearly nothing on the wire are something in memory.
TEST_F(KvStoreTest, ManyTinyArguments) {
  server_ = Open({.data_dir = "", .settings = {.max_clients_memory = 4 << 20}});
  const auto client = Connect();
  client->Receive("*1000000\r\n");
  std::string some;
  for (int i = 0; i < 1000; ++i) some += "$0\r\n\r\n";
  size_t sent = 0;
  for (; sent < 500 && !client->closed(); ++sent) client->Receive(some);
  EXPECT_TRUE(client->aborted());
  EXPECT_GT(sent, 50u);
  EXPECT_LT(sent, 200u);
  // When it has ended it counts no more.
  for (int i = 0; i < 10; ++i) {
    std::string request = "*50000\r\n$3\r\nDEL\r\n";
    for (int k = 1; k < 50'000; ++k) request += "$0\r\n\r\n";
    ASSERT_EQ(Connect()->Ask(request), ":0\r\n");
  }
}

// What the process has needed at most, in bytes.
size_t PeakMemory() {
  rusage usage = {};
  EXPECT_EQ(getrusage(RUSAGE_SELF, &usage), 0);
  return static_cast<size_t>(usage.ru_maxrss) << 10;
}

// Small requests whose replies would be far larger than a client may have pending.
class HugeReplyTest : public KvStoreTest {
 protected:
  static constexpr size_t kTimes = 3000, kValue = 100'000;  // 300 MB
  static constexpr size_t kAllowed = 4 << 20;

  HugeReplyTest() {
    server_ = Open({.max_bulk = 1 << 20, .settings = {.max_reply = kAllowed}});
    const std::string value(kValue, 'x');
    EXPECT_EQ(Connect()->Ask(Request({"SET", "k", value}) + Request({"HSET", "h", "f", value}) +
                             Request({"SADD", "s", value}) + Request({"ZADD", "z", "1", value})),
              "+OK\r\n:1\r\n:1\r\n:1\r\n");
  }

  // That the client is ended by `requests`, nobody else is, and they take no more memory than they may.
  void ExpectEnded(const std::string& requests) {
    const auto client = Connect(), other = Connect();
    const size_t before = PeakMemory();
    client->Receive(requests);
    EXPECT_LT(PeakMemory() - before, 16 * kAllowed);
    EXPECT_TRUE(client->aborted());
    EXPECT_LT(client->pending_output(), kAllowed);
    EXPECT_EQ(other->Ask("STRLEN k\r\n"), ":100000\r\n");
    const std::string list = other->Ask("CLIENT LIST\r\n");
    EXPECT_EQ(std::count(list.begin(), list.end(), '\n'), 3) << list;
  }

  static std::string Repeated(std::vector<std::string> words, const std::string& last) {
    words.insert(words.end(), kTimes, last);
    return Request(words);
  }
};

TEST_F(HugeReplyTest, OneKeyManyTimes) { ExpectEnded(Repeated({"MGET"}, "k")); }

TEST_F(HugeReplyTest, OneFieldManyTimes) { ExpectEnded(Repeated({"HMGET", "h"}, "f")); }

TEST_F(HugeReplyTest, OneClientManyTimes) {
  const auto named = Connect();
  EXPECT_EQ(named->Ask(Request({"CLIENT", "SETNAME", std::string(kValue, 'x')})), "+OK\r\n");
  const std::string id = named->Ask("CLIENT ID\r\n");
  const auto client = Connect();
  const size_t before = PeakMemory();
  client->Receive(Repeated({"CLIENT", "LIST", "ID"}, id.substr(1, id.size() - 3)));
  EXPECT_LT(PeakMemory() - before, 16 * kAllowed);
  EXPECT_TRUE(client->aborted());
}

TEST_F(HugeReplyTest, OneMemberManyTimes) {
  const std::string count = "-" + std::to_string(kTimes);
  ExpectEnded(Request({"SRANDMEMBER", "s", count}));
  ExpectEnded(Request({"ZRANDMEMBER", "z", count}));
  ExpectEnded(Request({"HELLO", "3"}) + Request({"ZRANDMEMBER", "z", count, "WITHSCORES"}));
}

// What a transaction changes is changed all the same: there is never half of one.
TEST_F(HugeReplyTest, ATransaction) {
  std::string requests = Request({"MULTI"}) + Request({"SET", "first", "1"});
  for (size_t i = 0; i < kTimes; ++i) requests += Request({"GET", "k"});
  ExpectEnded(requests + Request({"SET", "last", "1"}) + Request({"EXEC"}));
  EXPECT_EQ(Connect()->Ask(Request({"EXISTS", "first", "last"})), ":2\r\n");
}

// The limit is for a reply, not for those of a pipeline together.
TEST_F(HugeReplyTest, WhatIsAllowedIsAnswered) {
  const auto client = Connect();
  std::vector<std::string> words = {"MGET"};
  words.insert(words.end(), 40, "k");
  const std::string one = client->Ask(Request(words));
  EXPECT_EQ(one.size(), 5 + 40 * Bulk(std::string(kValue, 'x')).size());
  std::string two = client->Ask(Request(words) + Request(words));
  two += client->Read();  // the second is made when the first has been read
  EXPECT_TRUE(two == one + one);
  EXPECT_FALSE(client->closed());
}

TEST_F(KvStoreTest, OneValueAlwaysFitsIntoAReply) {
  server_ = Open({.max_bulk = 2 << 20, .settings = {.max_reply = 1 << 20}});
  const std::string value(2 << 20, 'x');
  const std::string read = Connect()->Ask(Request({"SET", "k", value}) + Request({"GET", "k"}));
  EXPECT_TRUE(read == "+OK\r\n" + Bulk(value));
}

TEST_F(KvStoreTest, ProtectedMode) {
  server_ = OpenAsItIs({});
  const auto remote = Connect();
  const std::string denied = remote->Read();
  EXPECT_TRUE(denied.starts_with("-DENIED ")) << denied;
  EXPECT_NE(denied.find("--protected_mode=false "), std::string::npos) << denied;
  EXPECT_TRUE(remote->closed());
  const auto local = Connect("127.0.0.1:40000");
  EXPECT_EQ(local->Ask("PING\r\n"), "+PONG\r\n");
  const std::string list = local->Ask("CLIENT LIST\r\n");
  EXPECT_EQ(std::count(list.begin(), list.end(), '\n'), 3) << list;  // who was refused is no client
}

// With a password whoever has it may come.
TEST_F(KvStoreTest, WhoHasThePasswordMayCome) {
  server_ = OpenAsItIs({.settings = {.password = "secret"}});
  EXPECT_EQ(Connect()->Ask("PING\r\nAUTH secret\r\nPING\r\n"),
            "-NOAUTH Authentication required.\r\n+OK\r\n+PONG\r\n");
}

TEST_F(KvStoreTest, SoManyClientsAtOnce) {
  server_ = Open({.settings = {.max_clients = 2}});
  auto first = Connect();
  const auto second = Connect();
  const auto third = Connect();
  EXPECT_EQ(third->Read(), "-ERR max number of clients reached\r\n");
  EXPECT_TRUE(third->closed());
  EXPECT_EQ(second->Ask("PING\r\n"), "+PONG\r\n");
  first.reset();
  EXPECT_EQ(Connect()->Ask("PING\r\n"), "+PONG\r\n");
}

TEST_F(KvStoreTest, NodesOfAPairMustAgree) {
  const understudy::Settings usual = Open({})->MustAgree();
  for (const Configuration& other :
       {Configuration{.password = "a"}, Configuration{.debug = DebugCommand::kLocal},
        Configuration{.max_clients = 1}, Configuration{.max_query_buffer = 1 << 20},
        Configuration{.max_clients_memory = 1 << 20}}) {
    EXPECT_NE(Open({.settings = other})->MustAgree(), usual);
  }
  EXPECT_NE(OpenAsItIs({})->MustAgree(), usual);
  const understudy::Settings secret = Open({.settings = {.password = "the secret"}})->MustAgree();
  for (const auto& [name, value] : secret) EXPECT_EQ(value.find("the secret"), std::string::npos) << name;
  EXPECT_NE(secret, Open({.settings = {.password = "another secret"}})->MustAgree());
}

TEST_F(KvStoreTest, WithoutRoomOnTheDiskNothingIsCommitted) {
  server_ = Open({.min_free_disk = uint64_t{1} << 62});
  EXPECT_TRUE(absl::IsResourceExhausted(server_->Commit({.executed = 1, .stable = 1, .alone = true})));
  const auto client = Connect();
  server_->OnStorage(false);
  EXPECT_TRUE(client->Ask("SET a 1\r\n").starts_with("-MISCONF "));
  EXPECT_EQ(client->Ask("GET a\r\n"), "$-1\r\n");
  server_->OnStorage(true);
  EXPECT_EQ(client->Ask("SET a 1\r\n"), "+OK\r\n");
}

TEST_F(KvStoreTest, BeginsWithWhatItWasLeftWith) {
  const TestDirectory directory;
  server_ = Open({.data_dir = directory.path()});
  const std::string empty = server_->InitialState();
  EXPECT_EQ(empty, Open({})->InitialState());
  Connect()->Ask(Request({"SET", "a", "1"}) + Request({"RPUSH", "l", "1", "2"}));
  EXPECT_TRUE(server_->Commit({.executed = 1, .stable = 1, .alone = true}).ok());
  server_.reset();

  server_ = Open({.data_dir = directory.path()});
  EXPECT_NE(server_->InitialState(), empty);
  EXPECT_EQ(Connect()->Ask(Request({"GET", "a"}) + Request({"LLEN", "l"})), "$1\r\n1\r\n:2\r\n");
  const auto second = KvStore::Open({.data_dir = directory.path()});  // LevelDB's lock
  EXPECT_FALSE(second.ok());
}

TEST_F(KvStoreTest, TemporaryDataGoAway) {
  const TestDirectory directory;
  const char* const usual = std::getenv("TMPDIR");
  const std::string kept = usual == nullptr ? "/tmp" : usual;
  ASSERT_EQ(setenv("TMPDIR", directory.path().c_str(), /*overwrite=*/1), 0);
  server_ = Open({});
  ASSERT_EQ(setenv("TMPDIR", kept.c_str(), /*overwrite=*/1), 0);  // for the tests after this one
  EXPECT_FALSE(std::filesystem::is_empty(directory.path()));
  server_.reset();
  EXPECT_TRUE(std::filesystem::is_empty(directory.path()));
}

}  // namespace
}  // namespace kvstore
