#include "tests/kvstore/resp_value.h"

#include <charconv>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace kvstore::test {
namespace {

constexpr int kMaxDepth = 32;
constexpr std::string_view kLineTypes = "+-:_#,(";
constexpr std::string_view kAggregates = "*~%";

std::optional<int64_t> ToInteger(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  if (std::to_string(value) != text) return std::nullopt;
  return value;
}

absl::Status NotResp(std::string_view bytes) {
  return absl::InvalidArgumentError(absl::StrCat("no RESP: ", Quoted(bytes)));
}

class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}

  size_t position() const { return position_; }

  // False: more has to come.
  absl::StatusOr<bool> Read(RespValue* value, int depth = 0) {
    std::string_view line;
    if (!Line(&line)) return false;
    if (line.empty() || depth > kMaxDepth) return NotResp(bytes_);
    value->type = line[0];
    line.remove_prefix(1);
    if (kLineTypes.find(value->type) != std::string_view::npos) {
      value->text = std::string(line);
      value->null = value->type == '_';
      if (value->type == ':' && !ToInteger(line)) return NotResp(bytes_);
      return true;
    }
    const std::optional<int64_t> size = ToInteger(line);
    if (!size || *size < -1) return NotResp(bytes_);
    if (value->type == '$' || value->type == '=') return Bulk(*size, value);
    if (kAggregates.find(value->type) == std::string_view::npos) return NotResp(bytes_);
    return Aggregate(*size, value, depth);
  }

 private:
  bool Line(std::string_view* line) {
    const size_t end = bytes_.find("\r\n", position_);
    if (end == std::string_view::npos) return false;
    *line = bytes_.substr(position_, end - position_);
    position_ = end + 2;
    return true;
  }

  absl::StatusOr<bool> Bulk(int64_t size, RespValue* value) {
    value->null = size < 0;
    if (value->null) return true;
    const size_t bytes = static_cast<size_t>(size);
    if (bytes_.size() - position_ < bytes + 2) return false;
    if (bytes_.substr(position_ + bytes, 2) != "\r\n") return NotResp(bytes_.substr(position_ + bytes));
    value->text = std::string(bytes_.substr(position_, bytes));
    position_ += bytes + 2;
    return true;
  }

  absl::StatusOr<bool> Aggregate(int64_t size, RespValue* value, int depth) {
    value->null = size < 0;
    if (value->null) return true;
    const int64_t count = value->type == '%' ? size * 2 : size;
    for (int64_t i = 0; i < count; ++i) {
      auto read = Read(&value->elements.emplace_back(), depth + 1);
      if (!read.ok() || !*read) return read;
    }
    return true;
  }

  const std::string_view bytes_;
  size_t position_ = 0;
};

void AppendReadable(const RespValue& value, size_t limit, std::string* out) {
  if (out->size() > limit) return;
  if (!value.is_aggregate() || value.null) {
    absl::StrAppend(out, std::string(1, value.type), value.null ? "null" : Quoted(value.text, 200));
    return;
  }
  absl::StrAppend(out, std::string(1, value.type), value.elements.size(), "[");
  for (size_t i = 0; i < value.elements.size() && out->size() <= limit; ++i) {
    if (i > 0) out->append(", ");
    AppendReadable(value.elements[i], limit, out);
  }
  out->append(out->size() > limit ? " ..." : "]");
}

void AppendEncoded(const RespValue& value, std::string* out) {
  out->push_back(value.type);
  if (kLineTypes.find(value.type) != std::string_view::npos) {
    absl::StrAppend(out, value.text, "\r\n");
  } else if (value.null) {
    out->append("-1\r\n");
  } else if (!value.is_aggregate()) {
    absl::StrAppend(out, value.text.size(), "\r\n", value.text, "\r\n");
  } else {
    absl::StrAppend(out, value.elements.size() / (value.type == '%' ? 2 : 1), "\r\n");
    for (const RespValue& element : value.elements) AppendEncoded(element, out);
  }
}

}  // namespace

std::optional<int64_t> RespValue::integer() const { return type == ':' ? ToInteger(text) : std::nullopt; }

absl::StatusOr<size_t> ReadResp(std::string_view bytes, RespValue* value) {
  *value = RespValue();
  Reader reader(bytes);
  auto complete = reader.Read(value);
  if (!complete.ok()) return complete.status();
  return *complete ? reader.position() : 0;
}

std::string Encode(const RespValue& value) {
  std::string out;
  AppendEncoded(value, &out);
  return out;
}

RespValue WithoutSignOfZero(RespValue value) {
  if (value.text == "-0") value.text = "0";
  for (RespValue& element : value.elements) element = WithoutSignOfZero(std::move(element));
  return value;
}

std::string Readable(const RespValue& value, size_t limit) {
  std::string out;
  AppendReadable(value, limit, &out);
  return out;
}

std::string Quoted(std::string_view bytes, size_t limit) {
  const auto escaped = [](std::string_view part) {
    return absl::CHexEscape(absl::string_view(part.data(), part.size()));
  };
  if (bytes.size() <= limit) return absl::StrCat("'", escaped(bytes), "'");
  return absl::StrCat("'", escaped(bytes.substr(0, limit / 2)), "' ...", bytes.size() - limit, " bytes... '",
                      escaped(bytes.substr(bytes.size() - limit / 2)), "'");
}

}  // namespace kvstore::test
