#include "replication/wire_frame.h"

#include <arpa/inet.h>
#include <thrift/protocol/TProtocol.h>

#include <cstdint>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace understudy::replication {
namespace {

namespace protocol = apache::thrift::protocol;

constexpr char kNoMessage[] = "a frame that is no Thrift message";
// The deepest there is: the arguments of a call, and the request in them.
constexpr int kMaxDepth = 4;

class Walker {
 public:
  explicit Walker(std::string_view rest) : rest_(rest) {}

  std::string_view rest() const { return rest_; }

  bool Skip(size_t bytes) {
    if (bytes > rest_.size()) return false;
    rest_.remove_prefix(bytes);
    return true;
  }

  bool Read32(uint32_t* value) {
    if (rest_.size() < sizeof(*value)) return false;
    std::memcpy(value, rest_.data(), sizeof(*value));
    *value = ntohl(*value);
    return Skip(sizeof(*value));
  }

  bool ReadString(std::string_view* value) {
    uint32_t size = 0;
    if (!Read32(&size) || size > rest_.size()) return false;
    *value = rest_.substr(0, size);
    return Skip(size);
  }

  bool SkipStruct(int depth) {
    if (depth > kMaxDepth) return false;
    while (!rest_.empty()) {
      const int type = static_cast<unsigned char>(rest_.front());
      rest_.remove_prefix(1);
      if (type == protocol::T_STOP) return true;
      if (!Skip(sizeof(int16_t)) || !SkipValue(type, depth)) return false;
    }
    return false;
  }

 private:
  bool SkipValue(int type, int depth) {
    std::string_view ignored;
    switch (type) {
      case protocol::T_BOOL:
      case protocol::T_BYTE: return Skip(1);
      case protocol::T_I16: return Skip(2);
      case protocol::T_I32: return Skip(4);
      case protocol::T_I64:
      case protocol::T_DOUBLE: return Skip(8);
      case protocol::T_STRING: return ReadString(&ignored);
      case protocol::T_STRUCT: return SkipStruct(depth + 1);
      case protocol::T_MAP: return SkipMapOfStrings();
      case protocol::T_LIST: return SkipListOfHashes(depth);
      default: return false;
    }
  }

  // OutputHash, of which each has two fields of eight bytes: what is announced is there, and takes not much
  // more room than it did on the wire.
  bool SkipListOfHashes(int depth) {
    constexpr size_t kHash = 2 * (1 + sizeof(int16_t) + sizeof(int64_t)) + 1;
    if (rest_.empty() || rest_[0] != protocol::T_STRUCT) return false;
    uint32_t count = 0;
    if (!Skip(1) || !Read32(&count) || count > rest_.size() / kHash) return false;
    for (uint32_t i = 0; i < count; ++i) {
      if (!SkipStruct(depth + 1)) return false;
    }
    return true;
  }

  // The other container that the messages have.
  bool SkipMapOfStrings() {
    if (rest_.size() < 2 || rest_[0] != protocol::T_STRING || rest_[1] != protocol::T_STRING) return false;
    uint32_t pairs = 0;
    if (!Skip(2) || !Read32(&pairs) || pairs > rest_.size() / (2 * sizeof(uint32_t))) return false;
    std::string_view ignored;
    for (uint32_t i = 0; i < 2 * pairs; ++i) {
      if (!ReadString(&ignored)) return false;
    }
    return true;
  }

  std::string_view rest_;
};

}  // namespace

std::string OpenFrame(std::string_view frame, WireFrame* out) {
  Walker walker(frame);
  uint32_t version = 0;
  if (!walker.Read32(&version) || (version & 0xffffff00u) != 0x80010000u) return kNoMessage;
  if (!walker.ReadString(&out->method)) return kNoMessage;
  if (!walker.Skip(sizeof(int32_t))) return kNoMessage;  // the sequence number: answers are in order
  if (!walker.SkipStruct(1)) return kNoMessage;
  if (!walker.rest().empty()) {
    return absl::StrCat(walker.rest().size(), " bytes too many in a frame");
  }
  out->type = static_cast<int>(version & 0xff);
  return "";
}

}  // namespace understudy::replication
