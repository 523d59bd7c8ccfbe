// Replies in RESP2 or RESP3, appended to a buffer, which takes no more than it is allowed.
#ifndef UNDERSTUDY_APPS_KVSTORE_RESP_REPLY_H_
#define UNDERSTUDY_APPS_KVSTORE_RESP_REPLY_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace kvstore {

class Reply {
 public:
  // `out` outlives this object. `protocol`: 2 or 3.
  Reply(std::string* out, int protocol) : out_(out), protocol_(protocol) {}

  int protocol() const { return protocol_; }
  void set_protocol(int protocol) { protocol_ = protocol; }

  // `bytes` may still be appended, what is put in at a mark included. Without it: as many as there are.
  void Allow(size_t bytes);
  bool HasRoomFor(size_t bytes) const { return !full_ && bytes <= most_ - out_->size(); }
  // Something was more than that: it, and everything after it, was left out, so what is in the buffer is no
  // reply. Whoever writes in a loop stops then; whoever changes data meanwhile goes on to the end.
  bool full() const { return full_; }

  void Ok() { Append("+OK\r\n"); }
  void Simple(std::string_view text);  // "+text"; no CR or LF inside
  // "-text", text with its code: "ERR no such key". CR and LF inside become spaces, and those at the end
  // go, as Redis does.
  void Error(std::string_view text);
  void Integer(int64_t value);
  void Bulk(std::string_view bytes);
  void BulkInteger(int64_t value);  // the decimal digits, as a bulk string
  void Double(double value);        // all its digits, as a bulk string; RESP3 ",1.5"
  void Null();                      // "$-1", RESP3 "_"
  void NullArray();                 // "*-1", RESP3 "_"
  // Headers: as many elements follow, by further calls. A map of n has 2n elements in RESP2's array.
  void Array(size_t elements);
  void Map(size_t pairs);
  void Set(size_t elements);
  // Text for people: a bulk string in RESP2, verbatim ("txt:") in RESP3.
  void Verbatim(std::string_view text);

  // For who does not know beforehand how many elements there are: everything behind mark() becomes the
  // elements of an array/map/set whose header is put in at the mark.
  size_t mark() const { return out_->size(); }
  void InsertArray(size_t mark, size_t elements);
  void InsertMap(size_t mark, size_t pairs);
  void InsertSet(size_t mark, size_t elements);
  void InsertBulk(size_t mark, std::string_view bytes);  // an element before those

  // Already in the wire's form.
  void Raw(std::string_view bytes) { Append(bytes); }

 private:
  void Header(char type, size_t count);
  // Whether there is room for so many bytes; if not, it is full.
  bool Take(size_t bytes);
  void Append(std::string_view bytes);
  void Insert(size_t mark, std::string_view bytes);

  std::string* out_;
  int protocol_;
  size_t most_ = SIZE_MAX;  // of *out_
  bool full_ = false;
};

}  // namespace kvstore

#endif  // UNDERSTUDY_APPS_KVSTORE_RESP_REPLY_H_
