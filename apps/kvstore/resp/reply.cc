#include "apps/kvstore/resp/reply.h"

#include <charconv>

#include "apps/kvstore/resp/number.h"

namespace kvstore {

namespace {

// Room for a type, 20 characters of a number, and the line's end.
struct Line {
  char bytes[24];
  size_t size;
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

void Reply::Header(char type, size_t count) {
  const Line line = MakeLine(type, static_cast<int64_t>(count));
  out_->append(line.bytes, line.size);
}

void Reply::Simple(std::string_view text) {
  out_->push_back('+');
  out_->append(text).append("\r\n");
}

void Reply::Error(std::string_view text) {
  while (!text.empty() && (text.back() == '\r' || text.back() == '\n')) text.remove_suffix(1);
  out_->push_back('-');
  for (char c : text) out_->push_back(c == '\r' || c == '\n' ? ' ' : c);
  out_->append("\r\n");
}

void Reply::Integer(int64_t value) {
  const Line line = MakeLine(':', value);
  out_->append(line.bytes, line.size);
}

void Reply::Bulk(std::string_view bytes) {
  Header('$', bytes.size());
  out_->append(bytes).append("\r\n");
}

void Reply::BulkInteger(int64_t value) {
  char digits[20];
  const char* end = std::to_chars(digits, digits + sizeof digits, value).ptr;
  Bulk(std::string_view(digits, static_cast<size_t>(end - digits)));
}

void Reply::Double(double value) {
  const std::string text = FormatDouble(value);
  if (protocol_ != 3) return Bulk(text);
  out_->append(",").append(text).append("\r\n");
}

void Reply::Null() { out_->append(protocol_ == 3 ? "_\r\n" : "$-1\r\n"); }

void Reply::NullArray() { out_->append(protocol_ == 3 ? "_\r\n" : "*-1\r\n"); }

void Reply::Array(size_t elements) { Header('*', elements); }

void Reply::Map(size_t pairs) {
  if (protocol_ == 3) return Header('%', pairs);
  Header('*', 2 * pairs);
}

void Reply::Set(size_t elements) { Header(protocol_ == 3 ? '~' : '*', elements); }

void Reply::Verbatim(std::string_view text) {
  if (protocol_ != 3) return Bulk(text);
  Header('=', text.size() + 4);
  out_->append("txt:").append(text).append("\r\n");
}

void Reply::InsertArray(size_t mark, size_t elements) {
  const Line line = MakeLine('*', static_cast<int64_t>(elements));
  out_->insert(mark, line.bytes, line.size);
}

void Reply::InsertMap(size_t mark, size_t pairs) {
  const Line line = protocol_ == 3 ? MakeLine('%', static_cast<int64_t>(pairs))
                                   : MakeLine('*', static_cast<int64_t>(2 * pairs));
  out_->insert(mark, line.bytes, line.size);
}

void Reply::InsertSet(size_t mark, size_t elements) {
  const Line line = MakeLine(protocol_ == 3 ? '~' : '*', static_cast<int64_t>(elements));
  out_->insert(mark, line.bytes, line.size);
}

}  // namespace kvstore
