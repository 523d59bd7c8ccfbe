#include "tests/kvstore/grammar.h"

#include "glog/logging.h"

namespace kvstore::test {
namespace {

// <s> <l> <t> <h> <z>: keys that mostly hold strings, lists, sets, hashes, sorted sets; <key>: any.
constexpr Form kForms[] = {
    // strings
    {"GET", "<s>", 20},
    {"SET", "<s> <value> {EX <ttl>|PX <pttl>|EXAT <later>|PXAT <plater>|NX|XX|KEEPTTL|GET}", 40},
    {"SET", "<key> <value>", 8},
    {"SETNX", "<s> <value>", 6},
    {"SETEX", "<s> <ttl> <value>", 5},
    {"PSETEX", "<s> <pttl> <value>", 5},
    {"GETSET", "<s> <value>", 5},
    {"GETDEL", "<s>", 4},
    {"GETEX", "<s> {EX <ttl>|PX <pttl>|EXAT <at>|PXAT <pat>|PERSIST}", 10},
    {"MGET", "<key>...", 6},
    {"MSET", "(<s> <value>)...", 6},
    {"MSETNX", "(<key> <value>)...", 4},
    {"APPEND", "<s> <value>", 10},
    {"STRLEN", "<s>", 6},
    {"GETRANGE", "<s> <index> <index>", 10},
    {"SUBSTR", "<s> <index> <index>", 4},
    {"SETRANGE", "<s> <offset> <value>", 10},
    {"INCR", "<s>", 8},
    {"DECR", "<s>", 8},
    {"INCRBY", "<s> <int>", 10},
    {"DECRBY", "<s> <int>", 10},
    {"INCRBYFLOAT", "<s> <float>", 14},
    // keys of any type
    {"DEL", "<key>...", 5},
    {"UNLINK", "<key>...", 3},
    {"EXISTS", "<key>...", 5},
    {"TOUCH", "<key>...", 3},
    {"TYPE", "<key>", 6},
    {"TTL", "<key>", 6},
    {"PTTL", "<key>", 6},
    {"EXPIRETIME", "<key>", 6},
    {"PEXPIRETIME", "<key>", 6},
    {"EXPIRE", "<key> <ttl> {NX|XX|GT|LT}", 8},
    {"PEXPIRE", "<key> <pttl> {NX|XX|GT|LT}", 8},
    {"EXPIREAT", "<key> <at> {NX|XX|GT|LT}", 8},
    {"PEXPIREAT", "<key> <pat> {NX|XX|GT|LT}", 8},
    {"PERSIST", "<key>", 6},
    {"RENAME", "<key> <key>", 5},
    {"RENAMENX", "<key> <key>", 5},
    {"COPY", "<key> <key> {DB <db>|REPLACE}", 8},
    {"KEYS", "<pattern>", 5},
    {"SCAN", "<cursor> {MATCH <pattern>|COUNT <count>|TYPE <type>}", 8},
    {"DBSIZE", "", 4},
    {"FLUSHDB", "[(ASYNC|SYNC|<junk>)]", 1},
    {"FLUSHALL", "[(ASYNC|SYNC|<junk>)]", 1},
    {"RANDOMKEY", "", 3},
    // hashes
    {"HSET", "<h> (<field> <value>)...", 30},
    {"HSETNX", "<h> <field> <value>", 8},
    {"HMSET", "<h> (<field> <value>)...", 8},
    {"HGET", "<h> <field>", 10},
    {"HMGET", "<h> <field>...", 8},
    {"HGETALL", "<h>", 8},
    {"HDEL", "<h> <field>...", 8},
    {"HEXISTS", "<h> <field>", 6},
    {"HLEN", "<h>", 6},
    {"HKEYS", "<h>", 6},
    {"HVALS", "<h>", 6},
    {"HINCRBY", "<h> <field> <int>", 10},
    {"HINCRBYFLOAT", "<h> <field> <float>", 10},
    {"HSTRLEN", "<h> <field>", 6},
    {"HSCAN", "<h> <cursor> {MATCH <pattern>|COUNT <count>}", 6},
    // lists
    {"LPUSH", "<l> <value>...", 16},
    {"RPUSH", "<l> <value>...", 16},
    {"LPUSHX", "<l> <value>...", 6},
    {"RPUSHX", "<l> <value>...", 6},
    {"LPOP", "<l> [<count>]", 8},
    {"RPOP", "<l> [<count>]", 8},
    {"LLEN", "<l>", 6},
    {"LINDEX", "<l> <index>", 8},
    {"LRANGE", "<l> <index> <index>", 10},
    {"LSET", "<l> <index> <value>", 10},
    {"LTRIM", "<l> <index> <index>", 5},
    {"LREM", "<l> <index> <value>", 8},
    {"LINSERT", "<l> (BEFORE|AFTER|<junk>) <value> <value>", 8},
    // sets
    {"SADD", "<t> <member>...", 24},
    {"SREM", "<t> <member>...", 8},
    {"SMEMBERS", "<t>", 8},
    {"SISMEMBER", "<t> <member>", 6},
    {"SMISMEMBER", "<t> <member>...", 6},
    {"SCARD", "<t>", 6},
    // A pop that takes not all is a batch of its own, see Batch::Kind::kPick.
    {"SPOP", "<t> (1000000|0|-1|<junk>)", 3},
    {"SRANDMEMBER", "<t> [<count>]", 4},
    {"SINTER", "<t>...", 6},
    {"SUNION", "<t>...", 6},
    {"SDIFF", "<t>...", 6},
    {"SSCAN", "<t> <cursor> {MATCH <pattern>|COUNT <count>}", 6},
    // sorted sets; those by member are for sets of one score only, see commands_test
    {"ZADD", "<z> {NX|XX|GT|LT|CH} (<score> <member>)...", 30},
    {"ZADD", "<z> {NX|XX|GT|LT|CH} INCR {NX|XX|GT|LT|CH} <score> <member>", 8},
    {"ZINCRBY", "<z> <score> <member>", 10},
    {"ZREM", "<z> <member>...", 8},
    {"ZCARD", "<z>", 6},
    {"ZSCORE", "<z> <member>", 8},
    {"ZMSCORE", "<z> <member>...", 6},
    {"ZRANK", "<z> <member>", 8},
    {"ZREVRANK", "<z> <member>", 8},
    {"ZPOPMIN", "<z> [<count>]", 4},
    {"ZPOPMAX", "<z> [<count>]", 4},
    {"ZRANDMEMBER", "<z> [<count>]", 4},
    {"ZRANGE", "<z> <index> <index> {REV|WITHSCORES}", 10},
    {"ZRANGE", "<z> <score_end> <score_end> BYSCORE {REV|WITHSCORES|LIMIT <index> <index>}", 8},
    {"ZRANGE", "<z> <lex_end> <lex_end> BYLEX {REV|LIMIT <index> <index>}", 0},
    {"ZRANGE", "<z> <index> <index> {REV|WITHSCORES|BYSCORE|LIMIT <index> <index>|<junk>}", 3},
    {"ZRANGESTORE", "<z> <z> <index> <index> {REV}", 4},
    {"ZRANGESTORE", "<z> <z> <score_end> <score_end> BYSCORE {REV|LIMIT <index> <index>}", 4},
    {"ZREVRANGE", "<z> <index> <index> [WITHSCORES]", 6},
    {"ZRANGEBYSCORE", "<z> <score_end> <score_end> {WITHSCORES|LIMIT <index> <index>}", 8},
    {"ZREVRANGEBYSCORE", "<z> <score_end> <score_end> {WITHSCORES|LIMIT <index> <index>}", 8},
    {"ZRANGEBYLEX", "<z> <lex_end> <lex_end> {LIMIT <index> <index>}", 0},
    {"ZREVRANGEBYLEX", "<z> <lex_end> <lex_end> {LIMIT <index> <index>}", 0},
    {"ZCOUNT", "<z> <score_end> <score_end>", 6},
    {"ZLEXCOUNT", "<z> <lex_end> <lex_end>", 0},
    {"ZREMRANGEBYRANK", "<z> <index> <index>", 3},
    {"ZREMRANGEBYSCORE", "<z> <score_end> <score_end>", 3},
    {"ZREMRANGEBYLEX", "<z> <lex_end> <lex_end>", 0},
    {"ZUNION", "2 <z> <z> {WITHSCORES|AGGREGATE (SUM|MIN|MAX|<junk>)|WEIGHTS <score> <score>}", 5},
    {"ZINTER", "2 <z> <z> {WITHSCORES|AGGREGATE (SUM|MIN|MAX|<junk>)|WEIGHTS <score> <score>}", 5},
    {"ZDIFF", "3 <z> <z> <t> [WITHSCORES]", 5},
    {"ZUNIONSTORE", "<z> 2 <z> <t> {AGGREGATE (SUM|MIN|MAX)|WEIGHTS <score> <score>}", 5},
    {"ZINTERSTORE", "<z> 2 <z> <z> {AGGREGATE (SUM|MIN|MAX)|WEIGHTS <score> <score>}", 5},
    {"ZDIFFSTORE", "<z> (0|1|3|-1|<junk>) <z> <z>", 4},
    {"ZDIFFSTORE", "<z> 2 <z> <z>", 4},
    {"ZINTERCARD", "2 <z> <t> {LIMIT <count>}", 5},
    {"ZSCAN", "<z> <cursor> {MATCH <pattern>|COUNT <count>}", 6},
    // transactions
    {"MULTI", "", 8},
    {"EXEC", "", 8},
    {"DISCARD", "", 4},
    {"WATCH", "<key>...", 6},
    {"UNWATCH", "", 3},
    // the connection
    {"PING", "[<value>]", 4},
    {"ECHO", "<value>", 4},
    {"HELLO", "[(2|3|<int>) {SETNAME <name>|AUTH <name> <value>}]", 4},
    {"QUIT", "", 1},
    {"RESET", "", 2},
    {"SELECT", "<db>", 3},
    {"AUTH", "[<name>] <value>", 2},
    {"CLIENT", "(ID|GETNAME|INFO|LIST|SETNAME <name>|NO-EVICT (ON|OFF|<junk>)|<junk>)", 6},
    // the server
    {"COMMAND", "(GETKEYS <request>|COUNT|<junk>)", 4},
    {"CONFIG", "(<junk>|GET <junk>...|SET <junk>|SET <junk> <junk>)", 3},
    {"DEBUG", "(DIGEST|SLEEP 0|<junk>)", 2},
    {"INFO", "[<junk>]", 1},
    {"TIME", "", 1},
};

class Expander {
 public:
  explicit Expander(const Choice& choice) : choice_(choice) {}

  void Sequence(std::string_view text, std::vector<std::string>* out) {
    while (!text.empty()) {
      if (text[0] == ' ') {
        text.remove_prefix(1);
        continue;
      }
      const size_t end = EndOfItem(text);
      const std::string_view item = text.substr(0, end);
      text.remove_prefix(end);
      uint64_t times = 1;
      if (text.substr(0, 3) == "...") {
        text.remove_prefix(3);
        times += choice_.below(4);
      }
      for (; times > 0; --times) Item(item, out);
    }
  }

 private:
  // Where the first item ends: a word, or what brackets hold.
  static size_t EndOfItem(std::string_view text) {
    constexpr std::string_view kOpen = "([{<", kClose = ")]}>";
    int depth = 0;
    for (size_t i = 0; i < text.size(); ++i) {
      if (depth == 0 && i > 0 && (text[i] == ' ' || text[i] == '.')) return i;
      if (kOpen.find(text[i]) != std::string_view::npos) ++depth;
      if (kClose.find(text[i]) != std::string_view::npos && --depth == 0) return i + 1;
    }
    CHECK_EQ(depth, 0) << text;
    return text.size();
  }

  static std::vector<std::string_view> Alternatives(std::string_view text) {
    std::vector<std::string_view> all(1);
    size_t begin = 0;
    int depth = 0;
    for (size_t i = 0; i <= text.size(); ++i) {
      const char c = i < text.size() ? text[i] : '|';
      if (c == '|' && depth == 0) {
        all.back() = text.substr(begin, i - begin);
        begin = i + 1;
        if (i < text.size()) all.emplace_back();
      }
      depth += c == '(' || c == '[' || c == '{' ? 1 : c == ')' || c == ']' || c == '}' ? -1 : 0;
    }
    return all;
  }

  void Item(std::string_view item, std::vector<std::string>* out) {
    const std::string_view inside = item.substr(1, item.size() < 2 ? 0 : item.size() - 2);
    switch (item[0]) {
      case '<':
        for (std::string& word : choice_.value(inside)) out->push_back(std::move(word));
        return;
      case '(': return OneOf(inside, out);
      case '[':
        if (choice_.below(2) == 1) Sequence(inside, out);
        return;
      case '{': {
        // None at all is as likely as any at all.
        uint64_t count = choice_.below(2) == 0 ? 0 : 1 + choice_.below(4) * choice_.below(2);
        for (; count > 0; --count) OneOf(inside, out);
        return;
      }
      default: out->emplace_back(item);
    }
  }

  void OneOf(std::string_view text, std::vector<std::string>* out) {
    const std::vector<std::string_view> all = Alternatives(text);
    Sequence(all[choice_.below(all.size())], out);
  }

  const Choice& choice_;
};

}  // namespace

absl::Span<const Form> Grammar() { return kForms; }

std::vector<std::string> Expand(const Form& form, const Choice& choice) {
  std::vector<std::string> args = {std::string(form.name)};
  Expander(choice).Sequence(form.arguments, &args);
  return args;
}

}  // namespace kvstore::test
