#include "apps/kvstore/resp/reply.h"

#include <charconv>
#include <string>

#include "apps/kvstore/resp/number.h"

namespace kvstore {

namespace {

// Room for a type, 20 characters of a number, and the line's end.
struct Line {
  char bytes[24];
  size_t size;

  std::string_view text() const { return {bytes, size}; }
};

Line MakeLine(char type, int64_t number) {
  Line line;
  line.bytes[0] = type;
  char* end = std::to_chars(line.bytes + 1, line.bytes + sizeof line.bytes - 2, number).ptr;
  *end++ = '\r';
  *end++ = '\n';
  line.size = static_cast<size_t>(end - line.bytes);
  return line;
}

}  // namespace

void Reply::Allow(size_t bytes) {
  most_ = bytes > SIZE_MAX - out_->size() ? SIZE_MAX : out_->size() + bytes;
  full_ = false;
}

bool Reply::Take(size_t bytes) {
  if (!HasRoomFor(bytes)) full_ = true;
  return !full_;
}

void Reply::Append(std::string_view bytes) {
  if (Take(bytes.size())) out_->append(bytes);
}

void Reply::Insert(size_t mark, std::string_view bytes) {
  if (Take(bytes.size())) out_->insert(mark, bytes);
}

void Reply::Header(char type, size_t count) { Append(MakeLine(type, static_cast<int64_t>(count)).text()); }

void Reply::Simple(std::string_view text) {
  Append("+");
  Append(text);
  Append("\r\n");
}

void Reply::Error(std::string_view text) {
  while (!text.empty() && (text.back() == '\r' || text.back() == '\n')) text.remove_suffix(1);
  if (!Take(text.size() + 3)) return;
  out_->push_back('-');
  for (char c : text) out_->push_back(c == '\r' || c == '\n' ? ' ' : c);
  out_->append("\r\n");
}

void Reply::Integer(int64_t value) { Append(MakeLine(':', value).text()); }

void Reply::Bulk(std::string_view bytes) {
  Header('$', bytes.size());
  Append(bytes);
  Append("\r\n");
}

void Reply::BulkInteger(int64_t value) {
  char digits[20];
  const char* end = std::to_chars(digits, digits + sizeof digits, value).ptr;
  Bulk(std::string_view(digits, static_cast<size_t>(end - digits)));
}

void Reply::Double(double value) {
  const std::string text = FormatDouble(value);
  if (protocol_ != 3) return Bulk(text);
  Append(",");
  Append(text);
  Append("\r\n");
}

void Reply::Null() { Append(protocol_ == 3 ? "_\r\n" : "$-1\r\n"); }

void Reply::NullArray() { Append(protocol_ == 3 ? "_\r\n" : "*-1\r\n"); }

void Reply::Array(size_t elements) { Header('*', elements); }

void Reply::Map(size_t pairs) {
  if (protocol_ == 3) return Header('%', pairs);
  Header('*', 2 * pairs);
}

void Reply::Set(size_t elements) { Header(protocol_ == 3 ? '~' : '*', elements); }

void Reply::Verbatim(std::string_view text) {
  if (protocol_ != 3) return Bulk(text);
  Header('=', text.size() + 4);
  Append("txt:");
  Append(text);
  Append("\r\n");
}

void Reply::InsertArray(size_t mark, size_t elements) {
  Insert(mark, MakeLine('*', static_cast<int64_t>(elements)).text());
}

void Reply::InsertMap(size_t mark, size_t pairs) {
  const Line line = protocol_ == 3 ? MakeLine('%', static_cast<int64_t>(pairs))
                                   : MakeLine('*', static_cast<int64_t>(2 * pairs));
  Insert(mark, line.text());
}

void Reply::InsertSet(size_t mark, size_t elements) {
  Insert(mark, MakeLine(protocol_ == 3 ? '~' : '*', static_cast<int64_t>(elements)).text());
}

void Reply::InsertBulk(size_t mark, std::string_view bytes) {
  std::string bulk(MakeLine('$', static_cast<int64_t>(bytes.size())).text());
  Insert(mark, bulk.append(bytes).append("\r\n"));
}

}  // namespace kvstore
