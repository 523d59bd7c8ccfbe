// When keys expire: EXPIRE, TTL, PERSIST, ...
#include <algorithm>
#include <string>

#include "apps/kvstore/commands/command.h"

namespace kvstore {
namespace {

struct Conditions {
  bool nx = false, xx = false, gt = false, lt = false;
};

// False: the error is written.
bool GetConditions(Call& call, Conditions* c) {
  for (const std::string_view word : call.args.subspan(3)) {
    if (Is(word, "nx")) {
      c->nx = true;
    } else if (Is(word, "xx")) {
      c->xx = true;
    } else if (Is(word, "gt")) {
      c->gt = true;
    } else if (Is(word, "lt")) {
      c->lt = true;
    } else {
      // The word as far as C would print it.
      call.reply.Error("ERR Unsupported option " + std::string(word.substr(0, word.find('\0'))));
      return false;
    }
  }
  if (c->nx && (c->xx || c->gt || c->lt)) {
    call.reply.Error("ERR NX and XX, GT or LT options at the same time are not compatible");
    return false;
  }
  if (c->gt && c->lt) {
    call.reply.Error("ERR GT and LT options at the same time are not compatible");
    return false;
  }
  return true;
}

// Never is later than any time.
bool Allows(const Conditions& c, int64_t old_ms, int64_t new_ms) {
  if (c.nx && old_ms != 0) return false;
  if (c.xx && old_ms == 0) return false;
  if (c.gt && (old_ms == 0 || new_ms <= old_ms)) return false;
  return !(c.lt && old_ms != 0 && new_ms >= old_ms);
}

void ExpireIn(Call& call, TimeForm form) {
  const std::string_view key = call.args[1];
  Conditions conditions;
  if (!GetConditions(call, &conditions)) return;
  int64_t expire_ms = 0;
  if (!GetTime(call, call.args[2], form, &expire_ms)) return;
  Entry entry = call.keys.Find(key);
  if (!entry || !Allows(conditions, entry.expire_ms, expire_ms)) return call.reply.Integer(0);
  if (expire_ms <= call.keys.now_ms()) {
    call.keys.Remove(key);
  } else {
    entry.expire_ms = expire_ms;
    call.keys.Store(key, entry);
  }
  call.reply.Integer(1);
}

void Expire(Call& call) { ExpireIn(call, {}); }
void PExpire(Call& call) { ExpireIn(call, {.milliseconds = true}); }
void ExpireAt(Call& call) { ExpireIn(call, {.absolute = true}); }
void PExpireAt(Call& call) { ExpireIn(call, {.milliseconds = true, .absolute = true}); }

// TTL and EXPIRETIME, and the same in milliseconds: -2, there is no such key; -1, it does not expire.
void ReplyTime(Call& call, TimeForm form) {
  const Entry entry = call.keys.Find(call.args[1]);
  if (!entry) return call.reply.Integer(-2);
  if (entry.expire_ms == 0) return call.reply.Integer(-1);
  const int64_t from = form.absolute ? 0 : call.keys.now_ms();
  // Unsigned, for what is added to the largest there is.
  const auto time_ms = static_cast<uint64_t>(std::max<int64_t>(entry.expire_ms - from, 0));
  call.reply.Integer(static_cast<int64_t>(form.milliseconds ? time_ms : (time_ms + 500) / 1000));
}

void Ttl(Call& call) { ReplyTime(call, {}); }
void PTtl(Call& call) { ReplyTime(call, {.milliseconds = true}); }
void ExpireTime(Call& call) { ReplyTime(call, {.absolute = true}); }
void PExpireTime(Call& call) { ReplyTime(call, {.milliseconds = true, .absolute = true}); }

void Persist(Call& call) {
  Entry entry = call.keys.Find(call.args[1]);
  const bool expires = entry && entry.expire_ms != 0;
  if (expires) {
    entry.expire_ms = 0;
    call.keys.Store(call.args[1], entry);
  }
  call.reply.Integer(expires);
}

// --- The table -----------------------------------------------------------------------------------

constexpr Command Row(std::string_view name, int arity, uint32_t flags, void (*run)(Call&),
                      std::string_view since, std::string_view summary) {
  return {.name = name,
          .arity = arity,
          .flags = flags | kFast,
          .first_key = 1,
          .last_key = 1,
          .key_step = 1,
          .run = run,
          .group = "generic",
          .since = since,
          .complexity = "O(1)",
          .summary = summary};
}

constexpr Command kCommands[] = {
    Row("expire", -3, kWrite, Expire, "1.0.0", "Let a key expire in so many seconds"),
    Row("expireat", -3, kWrite, ExpireAt, "1.2.0", "Let a key expire at a Unix time"),
    Row("expiretime", 2, kReadonly, ExpireTime, "7.0.0", "The Unix time at which a key expires"),
    Row("persist", 2, kWrite, Persist, "2.2.0", "Let a key not expire any more"),
    Row("pexpire", -3, kWrite, PExpire, "2.6.0", "Let a key expire in so many milliseconds"),
    Row("pexpireat", -3, kWrite, PExpireAt, "2.6.0", "Let a key expire at a Unix time in milliseconds"),
    Row("pexpiretime", 2, kReadonly, PExpireTime, "7.0.0",
        "The Unix time in milliseconds at which a key expires"),
    Row("pttl", 2, kReadonly, PTtl, "2.6.0", "The milliseconds until a key expires"),
    Row("ttl", 2, kReadonly, Ttl, "1.0.0", "The seconds until a key expires"),
};

}  // namespace

absl::Span<const Command> ExpiryCommands() { return kCommands; }

}  // namespace kvstore
