// The reason of a refusal as what it is: the wire has a number.
#ifndef UNDERSTUDY_REPLICATION_REASON_FOR_TEST_H_
#define UNDERSTUDY_REPLICATION_REASON_FOR_TEST_H_

#include "replication/replication_types.h"  // generated from replication.thrift

namespace understudy::replication {

inline wire::RefuseReason::type ReasonOf(const wire::Refused& refused) {
  return static_cast<wire::RefuseReason::type>(refused.reason);
}

}  // namespace understudy::replication

#endif  // UNDERSTUDY_REPLICATION_REASON_FOR_TEST_H_
