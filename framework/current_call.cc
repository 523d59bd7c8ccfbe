#include "framework/current_call.h"

#include <algorithm>

namespace understudy {

thread_local constinit CurrentCall current_call;

namespace {

constexpr size_t kBytesShown = 32;

class Text {
 public:
  explicit Text(char* out) : begin_(out), at_(out) {}
  Text& Add(const char* text) {
    while (text != nullptr && *text != 0 && size() + 1 < kDescribed) *at_++ = *text++;
    return *this;
  }
  Text& Add(uint64_t number) {
    char digits[21] = {};
    char* first = digits + 20;
    do *--first = static_cast<char>('0' + number % 10);
    while ((number /= 10) != 0);
    return Add(first);
  }
  Text& AddHex(unsigned char byte) {
    constexpr char kDigits[] = "0123456789abcdef";
    const char text[] = {' ', kDigits[byte >> 4], kDigits[byte & 15], 0};
    return Add(text);
  }
  size_t Finish() {
    *at_ = 0;
    return size();
  }

 private:
  size_t size() const { return static_cast<size_t>(at_ - begin_); }
  char* const begin_;
  char* at_;
};

}  // namespace

size_t Describe(const CurrentCall& call, char* out) {
  Text text(out);
  text.Add("record ").Add(call.lsn).Add(" (").Add(call.kind).Add(")");
  if (call.connection != 0) text.Add(", connection ").Add(call.connection).Add(" of ").Add(call.peer);
  if (call.size > 0) {
    text.Add(", ").Add(call.size).Add(" bytes, which begin");
    for (size_t i = 0; i < std::min(call.size, kBytesShown); ++i)
      text.AddHex(static_cast<unsigned char>(call.bytes[i]));
  }
  return text.Finish();
}

}  // namespace understudy
