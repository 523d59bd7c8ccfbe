// Histories of concurrent clients through power cuts: is there for each key one order that explains every
// answer?
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/kvstore/failover/kv_pair_fixture.h"
#include "tests/kvstore/failover/linearizable.h"

namespace kvstore {
namespace {

using understudy::lab::Host;
using understudy::lab::PairTest;
using understudy::lab::TestSeed;

constexpr int kPowerCuts = 20;
constexpr int kClients = 8;
constexpr int kKeys = 4;
// Answers, of all clients together, before the cut and behind the takeover.
constexpr int kAnswersBefore = 1500;
constexpr int kAnswersBehind = 1500;

struct KeyedOperation {
  std::string key;
  Operation operation;
};

int64_t NowNs() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
}

// Clients, each on a thread of its own with one request at a time, until they are told to stop.
class Crowd {
 public:
  Crowd(understudy::lab::Namespace& where, uint64_t seed) {
    for (int i = 0; i < kClients; ++i) clients_.push_back(std::make_unique<KvClient>(where));
    for (int i = 0; i < kClients; ++i) threads_.emplace_back([this, i, seed] { Talk(i, seed); });
  }
  ~Crowd() { Stop(); }

  // Waits until so many answers have come in all; false: not in time.
  bool AwaitAnswers(int count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, KvClient::kPatience, [&] { return answers_ >= count; });
  }
  int answers() {
    std::lock_guard lock(mutex_);
    return answers_;
  }
  // Every client's last answer has come when it returns.
  void Stop() {
    stop_ = true;
    for (std::thread& thread : threads_) {
      if (thread.joinable()) thread.join();
    }
  }
  std::string errors() const {
    std::string text;
    for (const auto& client : clients_) text += client->error();
    return text;
  }
  // By key. After Stop.
  std::map<std::string, std::vector<Operation>> Histories() const {
    std::map<std::string, std::vector<Operation>> histories;
    for (const KeyedOperation& each : log_) histories[each.key].push_back(each.operation);
    return histories;
  }

 private:
  void Talk(int number, uint64_t seed) {
    std::mt19937_64 random(seed * kClients + static_cast<uint64_t>(number));
    KvClient& client = *clients_[static_cast<size_t>(number)];
    for (int i = 0; !stop_ && client.error().empty(); ++i) {
      KeyedOperation one;
      one.key = absl::StrCat("register", random() % kKeys);
      const std::string unique = absl::StrCat(number, "-", i);
      const std::vector<std::vector<std::string>> choices = {{"GET"},
                                                             {"GET"},
                                                             {"GET"},
                                                             {"SET", unique},
                                                             {"SET", absl::StrCat(random() % 1000)},
                                                             {"GETSET", unique},
                                                             {"SETNX", unique},
                                                             {"GETDEL"},
                                                             {"APPEND", "x"},
                                                             {"INCR"}};
      one.operation.client = number;
      one.operation.request = choices[random() % choices.size()];
      std::vector<std::string> words = one.operation.request;
      words.insert(words.begin() + 1, one.key);
      one.operation.sent_ns = NowNs();
      one.operation.reply = client.Ask(words);
      one.operation.answered_ns = NowNs();
      if (!client.error().empty()) return;
      std::lock_guard lock(mutex_);
      log_.push_back(std::move(one));
      ++answers_;
      changed_.notify_all();
    }
  }

  std::vector<std::unique_ptr<KvClient>> clients_;
  std::atomic<bool> stop_{false};
  std::mutex mutex_;
  std::condition_variable changed_;
  int answers_ = 0;
  std::vector<KeyedOperation> log_;
  std::vector<std::thread> threads_;
};

class LinearizabilityTest : public PairTest, public testing::WithParamInterface<int> {
 protected:
  LinearizabilityTest() {
    binary_ = "apps/kvstore/kvstore";
    flags_ = {"--protected_mode=false"};
  }
};

TEST_P(LinearizabilityTest, ThroughAPowerCut) {
  StartPair();
  const uint64_t seed = TestSeed() + static_cast<uint64_t>(GetParam());
  std::mt19937_64 random(seed);
  Crowd crowd(client(), seed);
  ASSERT_TRUE(crowd.AwaitAnswers(static_cast<int>(kAnswersBefore + random() % 300))) << crowd.errors();
  pair_->PowerCut(primary());
  ExpectTakenOverBy(Other(primary()));
  EXPECT_TRUE(crowd.AwaitAnswers(crowd.answers() + kAnswersBehind)) << crowd.errors();
  crowd.Stop();
  EXPECT_EQ(crowd.errors(), "");
  for (const auto& [key, history] : crowd.Histories()) {
    const Judgement judgement = Judge(history);
    EXPECT_TRUE(judgement.linearizable) << key << ", " << history.size() << " operations: " << judgement.why;
  }
}

INSTANTIATE_TEST_SUITE_P(, LinearizabilityTest, testing::Range(1, kPowerCuts + 1));

}  // namespace
}  // namespace kvstore
