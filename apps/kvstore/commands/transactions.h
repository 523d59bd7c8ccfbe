// Transactions: what others do to them.
#ifndef UNDERSTUDY_APPS_KVSTORE_COMMANDS_TRANSACTIONS_H_
#define UNDERSTUDY_APPS_KVSTORE_COMMANDS_TRANSACTIONS_H_

#include "apps/kvstore/instance.h"
#include "apps/kvstore/session.h"

namespace kvstore {

// As DISCARD does: what is queued is gone, nothing is watched any more. Also without MULTI. For RESET, and
// for an EXEC that is refused.
void DiscardTransaction(Instance& instance, Session& session);

}  // namespace kvstore

#endif  // UNDERSTUDY_APPS_KVSTORE_COMMANDS_TRANSACTIONS_H_
