#include "apps/kvstore/commands/client_memory.h"

#include <algorithm>

#include "apps/kvstore/commands/transactions.h"
#include "glog/logging.h"

namespace kvstore {
namespace {

// A value that is allowed must fit, whatever the other limit says.
size_t OrOneValue(const Instance& instance, size_t limit) {
  return std::max(limit, instance.limits.max_bulk + (1 << 20));
}

size_t OwnLimit(const Instance& instance) { return OrOneValue(instance, instance.settings.max_query_buffer); }

Session& Largest(Instance& instance) {
  // In order of id: of two that have as much, the older one.
  return *std::max_element(instance.sessions.begin(), instance.sessions.end(),
                           [](const auto& a, const auto& b) { return a.second->memory < b.second->memory; })
              ->second;
}

void Evict(Instance& instance, Session& session) {
  LOG(WARNING) << "ending connection " << session.id << " of " << session.peer
               << ": its request, transaction and "
               << "watched keys take " << session.memory
               << " bytes, the most of all, where all clients' take " << instance.clients_memory
               << " (--maxmemory_clients_mb)";
  DiscardTransaction(instance, session);
  session.parser = RequestParser();
  ForgetMemory(instance, session);
  instance.sessions.erase(session.id);
  session.closing = true;
  session.connection->Abort();
}

}  // namespace

size_t MemoryOf(const Session& session) {
  return session.parser.memory() + session.queued_bytes + session.watcher.bytes;
}

bool IsOverOwnLimit(const Instance& instance, Session& session, size_t unread) {
  const size_t bytes = MemoryOf(session) + unread;
  if (bytes <= OwnLimit(instance)) return false;
  session.closing = true;
  LOG(WARNING) << "closing connection " << session.id << " of " << session.peer
               << ": its request, transaction and "
               << "watched keys take " << bytes << " bytes (--client_query_buffer_limit_mb)";
  return true;
}

size_t LargestReply(const Instance& instance) { return OrOneValue(instance, instance.settings.max_reply); }

void EndOverReply(const Instance& instance, Session& session) {
  LOG(WARNING) << "ending connection " << session.id << " of " << session.peer << ": the reply to its "
               << session.last_command << " is longer than " << LargestReply(instance)
               << " bytes (--max_pending_output_mb)";
  session.closing = true;
  session.connection->Abort();
}

void CountMemory(Instance& instance, Session& session) {
  const size_t bytes = MemoryOf(session);
  if (bytes == session.memory) return;
  instance.clients_memory += bytes - session.memory;
  session.memory = bytes;
  while (instance.clients_memory > instance.settings.max_clients_memory) Evict(instance, Largest(instance));
}

void ForgetMemory(Instance& instance, Session& session) {
  instance.clients_memory -= session.memory;
  session.memory = 0;
}

}  // namespace kvstore
