// What the failover tests share: the key-value store as a pair, in the lab of the system tests.
#ifndef UNDERSTUDY_TESTS_KVSTORE_FAILOVER_KV_PAIR_FIXTURE_H_
#define UNDERSTUDY_TESTS_KVSTORE_FAILOVER_KV_PAIR_FIXTURE_H_

#include <string>

#include "tests/kvstore/failover/kv_client.h"
#include "tests/pair_fixture.h"

namespace kvstore {

// One test for each way in which a primary may go.
class KvPairTest : public understudy::lab::PairTest,
                   public testing::WithParamInterface<understudy::lab::FaultKind> {
 protected:
  KvPairTest() {
    binary_ = "apps/kvstore/kvstore";
    flags_ = {"--protected_mode=false", "--enable_debug_command=yes"};
  }
  // The primary goes, by the test's way, and the other one serves. Not waited for: the clients' requests do
  // that.
  void Fault() { Inject(primary(), GetParam()); }
  // The one that serves now is the former secondary.
  void ExpectTakenOver() { ExpectTakenOverBy(understudy::lab::Other(primary())); }
};

inline std::string NameOfFault(const testing::TestParamInfo<understudy::lab::FaultKind>& info) {
  return understudy::lab::NameOf(info.param);
}

}  // namespace kvstore

#endif  // UNDERSTUDY_TESTS_KVSTORE_FAILOVER_KV_PAIR_FIXTURE_H_
