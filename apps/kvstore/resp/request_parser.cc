#include "apps/kvstore/resp/request_parser.h"

#include <algorithm>
#include <cctype>
#include <cstring>
#include <optional>

#include "apps/kvstore/resp/number.h"

namespace kvstore {

namespace {

constexpr size_t kNone = std::string_view::npos;
// Room for this many arguments is kept from request to request.
constexpr size_t kArgsKept = 1024;

// The first `c` in [from, to).
size_t Find(std::string_view text, char c, size_t from, size_t to) {
  if (from >= to) return kNone;
  const void* found = std::memchr(text.data() + from, c, to - from);
  return found == nullptr ? kNone : static_cast<size_t>(static_cast<const char*>(found) - text.data());
}

// Where a line that ends with `c` ends; nowhere when a zero byte is before. Redis looks for the end as for
// one in a C string, so that such a line only ever becomes too long. `scanned`: what is before need not be
// looked at again.
size_t FindLineEnd(std::string_view text, char c, size_t* scanned) {
  if (*scanned < text.size() && text[*scanned] == '\0') return kNone;
  const size_t found = Find(text, c, *scanned, text.size());
  const size_t end = std::min(found, text.size());
  const size_t zero = Find(text, '\0', *scanned, end);
  *scanned = std::min(zero, end);
  return zero == kNone ? found : kNone;
}

bool IsBlank(char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; }

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// Behind a backslash between double quotes.
char Unescaped(char c) {
  switch (c) {
    case 'n': return '\n';
    case 'r': return '\r';
    case 't': return '\t';
    case 'b': return '\b';
    case 'a': return '\a';
    default: return c;
  }
}

// Reads what is between quotes, from behind the opening one; returns the position behind the closing one,
// nothing when there is none, or when a word goes on behind it.
std::optional<size_t> ReadQuoted(std::string_view line, size_t at, char quote, std::string* word) {
  for (; at < line.size(); ++at) {
    const char c = line[at];
    if (c == quote) {
      if (at + 1 < line.size() && !IsBlank(line[at + 1])) return std::nullopt;
      return at + 1;
    }
    const bool more = c == '\\' && at + 1 < line.size();
    if (more && quote == '"' && line[at + 1] == 'x' && at + 3 < line.size() && HexDigit(line[at + 2]) >= 0 &&
        HexDigit(line[at + 3]) >= 0) {
      word->push_back(static_cast<char>(HexDigit(line[at + 2]) * 16 + HexDigit(line[at + 3])));
      at += 3;
    } else if (more && quote == '"') {
      word->push_back(Unescaped(line[++at]));
    } else if (more && line[at + 1] == '\'') {
      word->push_back(line[++at]);
    } else {
      word->push_back(c);
    }
  }
  return std::nullopt;
}

// Splits an inline command into words. False: quotes that are not balanced.
bool SplitWords(std::string_view line, std::vector<std::string>* words) {
  size_t at = 0;
  while (true) {
    while (at < line.size() && IsBlank(line[at])) ++at;
    if (at >= line.size()) return true;
    std::string word;
    while (at < line.size() && line[at] != ' ' && line[at] != '\n' && line[at] != '\r' && line[at] != '\t') {
      if (line[at] != '"' && line[at] != '\'') {
        word.push_back(line[at++]);
        continue;
      }
      const auto end = ReadQuoted(line, at + 1, line[at], &word);
      if (!end.has_value()) return false;
      at = *end;
      break;
    }
    words->push_back(std::move(word));
  }
}

}  // namespace

RequestParser::Result RequestParser::Fail(std::string text) {
  error_ = "ERR Protocol error: " + std::move(text);
  return Result::kError;
}

RequestParser::Result RequestParser::Parse(std::string_view unread, const Limits& limits) {
  if (unread.empty()) return Result::kIncomplete;
  return unread[0] == '*' ? ParseArray(unread, limits) : ParseInline(unread, limits);
}

void RequestParser::Forget() {
  bounds_.clear();
  args_.clear();
  if (bounds_.capacity() > kArgsKept) bounds_.shrink_to_fit();
  if (args_.capacity() > kArgsKept) args_.shrink_to_fit();
}

RequestParser::Result RequestParser::ParseInline(std::string_view unread, const Limits& limits) {
  const size_t newline = FindLineEnd(unread, '\n', &scanned_);
  // The limit holds for what comes in one piece too: pieces must not matter.
  if (std::min(newline, unread.size()) > limits.max_inline) return Fail("too big inline request");
  if (newline == kNone) return Result::kIncomplete;
  scanned_ = 0;
  size_ = newline + 1;
  std::string_view line = unread.substr(0, newline);
  if (line.ends_with('\r')) line.remove_suffix(1);
  words_.clear();
  if (!SplitWords(line, &words_)) return Fail("unbalanced quotes in request");
  args_.assign(words_.begin(), words_.end());
  return Result::kRequest;
}

// The number on the line that begins at position_ with one byte of type. The byte behind the CR is taken for
// LF.
RequestParser::Found RequestParser::ReadLength(std::string_view unread, const Limits& limits,
                                               int64_t* length) {
  scanned_ = std::max(scanned_, position_);
  const size_t end = FindLineEnd(unread, '\r', &scanned_);
  const bool complete = end != kNone && end + 1 < unread.size();
  const size_t seen = (complete ? end + 1 : unread.size()) - position_;
  if (seen > limits.max_inline) return Found::kTooLong;
  if (!complete) return Found::kIncomplete;
  const auto number = ParseInteger(unread.substr(position_ + 1, end - position_ - 1));
  scanned_ = end + 2;
  line_end_ = end + 2;
  if (!number.has_value()) return Found::kNoNumber;
  *length = *number;
  return Found::kNumber;
}

RequestParser::Result RequestParser::ParseArray(std::string_view unread, const Limits& limits) {
  if (args_wanted_ < 0) {
    position_ = 0;
    bounds_.clear();
    int64_t length = 0;
    switch (ReadLength(unread, limits, &length)) {
      case Found::kIncomplete: return Result::kIncomplete;
      case Found::kTooLong: return Fail("too big mbulk count string");
      case Found::kNoNumber: return Fail("invalid multibulk length");
      case Found::kNumber: break;
    }
    if (length > limits.max_args) return Fail("invalid multibulk length");
    args_wanted_ = std::max<int64_t>(length, 0);
    position_ = line_end_;
  }
  while (bounds_.size() < static_cast<size_t>(args_wanted_)) {
    const Result result = ParseBulk(unread, limits);
    if (result != Result::kRequest) return result;
  }
  args_.clear();
  args_.reserve(bounds_.size());
  for (const auto& [offset, size] : bounds_) args_.push_back(unread.substr(offset, size));
  size_ = position_;
  position_ = scanned_ = 0;
  args_wanted_ = bulk_length_ = -1;
  return Result::kRequest;
}

RequestParser::Result RequestParser::ParseBulk(std::string_view unread, const Limits& limits) {
  if (bulk_length_ < 0) {
    int64_t length = 0;
    const Found found = ReadLength(unread, limits, &length);
    if (found == Found::kIncomplete) return Result::kIncomplete;
    if (found == Found::kTooLong) return Fail("too big bulk count string");
    if (unread[position_] != '$') return Fail(std::string("expected '$', got '") + unread[position_] + "'");
    if (found == Found::kNoNumber || length < 0 || static_cast<uint64_t>(length) > limits.max_bulk) {
      return Fail("invalid bulk length");
    }
    bulk_length_ = length;
    position_ = line_end_;
  }
  const auto size = static_cast<size_t>(bulk_length_);
  if (unread.size() - position_ < size + 2) return Result::kIncomplete;
  bounds_.emplace_back(position_, size);
  position_ += size + 2;
  scanned_ = position_;
  bulk_length_ = -1;
  return Result::kRequest;
}

}  // namespace kvstore
