// Sends the same streams to two servers and says where they differ.
#ifndef UNDERSTUDY_TESTS_KVSTORE_RUNNER_H_
#define UNDERSTUDY_TESTS_KVSTORE_RUNNER_H_

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "tests/kvstore/comparer.h"
#include "tests/kvstore/request.h"
#include "tests/kvstore/servers.h"
#include "tests/kvstore/wire.h"

namespace kvstore::test {

class Runner {
 public:
  // `ours` is on trial, `redis` is right. Both outlive this object.
  Runner(TestServer* ours, TestServer* redis) : servers_{ours, redis} {}

  // Empty data, new connections; starts a server again that has ended. Then every batch, then all data is
  // compared.
  // "" or the first difference, with its request.
  std::string Run(const Stream& stream);
  // Of the last Run that found no difference.
  size_t requests_done() const { return requests_done_; }

 private:
  static constexpr size_t kOurs = 0, kRedis = 1;
  struct Session {
    std::unique_ptr<Wire> wires[2];
    Comparer comparer;
  };

  absl::Status Begin();
  absl::Status Connect(Session* session);
  std::string RunBatch(const Batch& batch);
  std::string RunWalk(const Batch& batch);
  std::string CompareAnswers(const Batch& batch, const Answer& ours, const Answer& redis, Session& session);
  std::string SettlePick(const std::vector<std::string>& args, const RespValue& ours, const RespValue& redis);
  std::string SettlePop(const std::string& key, const std::vector<std::string>& ours,
                        const std::vector<std::string>& redis);
  std::string CompareData();

  TestServer* const servers_[2];
  Session control_;  // RESP2, outside of transactions
  std::map<size_t, Session> sessions_;
  size_t requests_done_ = 0;
};

// A part of `stream` that still differs, by leaving out whatever can be left out; `tries`: at most so many
// runs.
Stream Shrink(Stream stream, const std::function<bool(const Stream&)>& differs, int tries);

}  // namespace kvstore::test

#endif  // UNDERSTUDY_TESTS_KVSTORE_RUNNER_H_
