// Transactions: MULTI, EXEC, DISCARD, WATCH, UNWATCH. The dispatcher does the queueing.
#include "apps/kvstore/commands/transactions.h"

#include <string>
#include <string_view>
#include <vector>

#include "apps/kvstore/commands/client_memory.h"
#include "apps/kvstore/commands/command.h"
#include "apps/kvstore/commands/dispatcher.h"

namespace kvstore {

void DiscardTransaction(Instance& instance, Session& session) {
  session.in_multi = false;
  session.multi_failed = false;
  std::vector<std::vector<std::string>>().swap(session.queued);  // gives its memory back
  session.queued_bytes = 0;
  instance.watches.Unwatch(&session.watcher);
}

namespace {

void Multi(Call& call) {
  if (call.session.in_multi) return call.reply.Error("ERR MULTI calls can not be nested");
  call.session.in_multi = true;
  call.reply.Ok();
}

void Discard(Call& call) {
  if (!call.session.in_multi) return call.reply.Error("ERR DISCARD without MULTI");
  DiscardTransaction(call.instance, call.session);
  call.reply.Ok();
}

void Watch(Call& call) {
  if (call.session.in_multi) return call.reply.Error("ERR WATCH inside MULTI is not allowed");
  for (std::string_view key : call.args.subspan(1)) {
    call.instance.watches.Watch(key, static_cast<bool>(call.keys.Find(key)), &call.session.watcher);
    if (IsOverOwnLimit(call.instance, call.session)) return;  // no answer, as to any request that is too long
  }
  call.reply.Ok();
}

void Unwatch(Call& call) {
  call.instance.watches.Unwatch(&call.session.watcher);
  call.reply.Ok();
}

bool WatchedChanged(Call& call) {
  const Watcher& watcher = call.session.watcher;
  if (watcher.touched) return true;
  for (const Watcher::Key& key : watcher.keys) {
    // Nobody has changed it, so its time has come.
    if (key.existed && !call.keys.Find(key.name)) return true;
  }
  return false;
}

void Exec(Call& call) {
  Session& session = call.session;
  if (!session.in_multi) return call.reply.Error("ERR EXEC without MULTI");
  if (session.multi_failed) {
    call.reply.Error("EXECABORT Transaction discarded because of previous errors.");
  } else if (WatchedChanged(call)) {
    call.reply.NullArray();
  } else {
    // What could change the queue meanwhile (EXEC, DISCARD, RESET) is never in it.
    call.reply.Array(session.queued.size());
    std::vector<std::string_view> args;
    for (const std::vector<std::string>& request : session.queued) {
      args.assign(request.begin(), request.end());
      // Was in the table when it was queued, and the table does not change.
      const Command& command = *FindCommand(args[0]);
      // Nobody will see what it reads any more. What it changes is changed, or half a transaction would be.
      if (call.reply.full() && (command.flags & kWrite) == 0) continue;
      Execute(call.instance, session, call.connection, call.reply, command, args);
    }
  }
  DiscardTransaction(call.instance, session);
}

constexpr Command Row(std::string_view name, int arity, uint32_t flags, void (*run)(Call&),
                      std::string_view since, std::string_view complexity, std::string_view summary) {
  return {.name = name,
          .arity = arity,
          .flags = flags | kNoScript | kLoading | kStale,
          .run = run,
          .group = "transactions",
          .since = since,
          .complexity = complexity,
          .summary = summary};
}

constexpr Command WatchRow() {
  Command row = Row("watch", -2, kFast | kAllowBusy, Watch, "2.2.0", "O(N) for N keys",
                    "EXEC does nothing if one of these keys changes before it");
  row.first_key = 1;
  row.last_key = -1;
  row.key_step = 1;
  return row;
}

constexpr Command kCommands[] = {
    Row("discard", 1, kFast | kAllowBusy, Discard, "2.0.0", "O(N) for N queued commands",
        "Forgets what was queued since MULTI"),
    Row("exec", 1, kSkipSlowlog, Exec, "1.2.0", "That of the queued commands",
        "Executes what was queued since MULTI, nothing else in between"),
    Row("multi", 1, kFast | kAllowBusy, Multi, "1.2.0", "O(1)", "What follows is queued until EXEC"),
    Row("unwatch", 1, kFast | kAllowBusy, Unwatch, "2.2.0", "O(N) for N watched keys", "Watches no key"),
    WatchRow(),
};

}  // namespace

absl::Span<const Command> TransactionCommands() { return kCommands; }

}  // namespace kvstore
