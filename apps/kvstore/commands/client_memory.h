// What clients make the server keep besides what they store: requests that have not ended,
// transactions, watched keys. Bounded for each and for all together; part of the replicated state
// machine, so the same client is ended on both nodes. What they are to read, and the bytes of
// requests themselves, the framework bounds (framework/limits.h); but a reply only when it is there
// as a whole, so that one of them is bounded here.
#ifndef UNDERSTUDY_APPS_KVSTORE_COMMANDS_CLIENT_MEMORY_H_
#define UNDERSTUDY_APPS_KVSTORE_COMMANDS_CLIENT_MEMORY_H_

#include <cstddef>

#include "apps/kvstore/instance.h"
#include "apps/kvstore/session.h"

namespace kvstore {

// In bytes, about.
size_t MemoryOf(const Session& session);
// Whether the client has more than one may have, `unread` bytes of its request counted as well. If
// so, it is told to leave (`closing`), and the log says why.
bool IsOverOwnLimit(const Instance& instance, Session& session, size_t unread = 0);
// Bytes that the reply to one request may have.
size_t LargestReply(const Instance& instance);
// The reply to its last command is longer than that: the client is ended, and the log says why.
void EndOverReply(const Instance& instance, Session& session);
// To be called when what the client keeps may have changed. While all have more than they may have
// together, the one that has most is ended, as Redis evicts clients (maxmemory-clients): this one,
// or another.
void CountMemory(Instance& instance, Session& session);
// It keeps nothing any more.
void ForgetMemory(Instance& instance, Session& session);

}  // namespace kvstore

#endif  // UNDERSTUDY_APPS_KVSTORE_COMMANDS_CLIENT_MEMORY_H_
