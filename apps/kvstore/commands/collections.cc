#include "apps/kvstore/commands/collections.h"

#include <string>

#include "apps/kvstore/resp/glob.h"
#include "apps/kvstore/resp/number.h"
#include "apps/kvstore/store/elements.h"
#include "apps/kvstore/store/sorted_set.h"

namespace kvstore {

void ReplyCount(Call& call, Type type) {
  Entry entry;
  if (FindTyped(call, call.args[1], type, &entry)) call.reply.Integer(static_cast<int64_t>(entry.count));
}

void EraseElements(Call& call, Type type) {
  Entry entry;
  if (!FindTyped(call, call.args[1], type, &entry)) return;
  Elements elements(call.keys, call.args[1], entry, type);
  int64_t erased = 0;
  for (std::string_view name : call.args.subspan(2)) {
    if (elements.Erase(name)) ++erased;
  }
  call.reply.Integer(erased);
}

void ReplyContains(Call& call, Type type) {
  Entry entry;
  if (!FindTyped(call, call.args[1], type, &entry)) return;
  call.reply.Integer(Elements(call.keys, call.args[1], entry, type).Contains(call.args[2]));
}

void ScanElements(Call& call, Type type) {
  // The order of the checks is Redis's: the cursor, the key, the options; and those only when there is
  // something to scan.
  if (!ParseCursor(call.args[2])) return call.reply.Error("ERR invalid cursor");
  Entry entry;
  if (!FindTyped(call, call.args[1], type, &entry)) return;
  ScanOptions options;
  if (entry && !GetScanOptions(call, 2, /*with_type=*/false, &options)) return;

  uint64_t next = 0;
  size_t count = 0;
  call.reply.Array(2);
  const size_t mark = call.reply.mark();  // the elements come behind the next cursor, which is known last
  if (entry) {
    const bool all = options.match == "*";
    next = Elements(call.keys, call.args[1], entry, type)
               .Scan(options.cursor, options.count, [&](std::string_view name, std::string_view value) {
                 if (!all && !GlobMatches(options.match, name)) return;
                 call.reply.Bulk(name);
                 if (type == Type::kHash) call.reply.Bulk(value);
                 if (type == Type::kZSet) call.reply.Bulk(FormatDouble(DecodeScore(value)));
                 count += type == Type::kSet ? 1 : 2;
               });
  }
  call.reply.InsertArray(mark, count);
  call.reply.InsertBulk(mark, std::to_string(next));
}

}  // namespace kvstore
