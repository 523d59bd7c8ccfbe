#include "replication/frames.h"

#include <arpa/inet.h>
#include <glog/logging.h>

#include <cstdint>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace understudy::replication {
namespace {

using apache::thrift::transport::TMemoryBuffer;

constexpr size_t kPrefix = 4;
constexpr size_t kRead = 256u << 10;
// A buffer that once held something larger is not kept for ever.
constexpr size_t kKeepBuffer = 4u << 20;

uint32_t GetBigEndian32(const char* at) {
  uint32_t value;
  std::memcpy(&value, at, sizeof(value));
  return ntohl(value);
}

}  // namespace

// --- In ------------------------------------------------------------------------------------------

// A large frame gets its room as it arrives, not when it is announced.
std::pair<char*, size_t> IncomingFrames::Room() {
  if (begin_ == end_) {
    begin_ = end_ = 0;
    if (size_ > kKeepBuffer) {
      buffer_.reset();
      size_ = 0;
    }
  }
  if (size_ == 0) {
    buffer_.reset(new char[kRead]);
    size_ = kRead;
  }
  if (size_ - end_ < kRead / 2) {
    const size_t kept = end_ - begin_;
    if (size_ - kept >= kRead / 2) {
      std::memmove(buffer_.get(), buffer_.get() + begin_, kept);
    } else {
      const size_t size = size_ * 2;
      std::unique_ptr<char[]> larger(new char[size]);
      std::memcpy(larger.get(), buffer_.get() + begin_, kept);
      buffer_ = std::move(larger);
      size_ = size;
    }
    begin_ = 0;
    end_ = kept;
  }
  return {buffer_.get() + end_, size_ - end_};
}

IncomingFrames::Next IncomingFrames::TakeFrame(size_t limit) {
  if (end_ - begin_ < kPrefix) return {};
  const size_t length = GetBigEndian32(buffer_.get() + begin_);
  if (length > limit) {
    return {.fault = absl::StrCat("announces a frame of ", length, " bytes, at most ", limit)};
  }
  if (end_ - begin_ - kPrefix < length) return {};
  char* start = buffer_.get() + begin_ + kPrefix;
  begin_ += kPrefix + length;
  return {start, length};
}

// --- Out -----------------------------------------------------------------------------------------

OutgoingFrames::OutgoingFrames() : queued_(std::make_shared<TMemoryBuffer>(static_cast<uint32_t>(kRead))) {}

void OutgoingFrames::BeginFrame() {
  frame_at_ = queued_->available_read();
  const uint8_t prefix[kPrefix] = {};
  queued_->write(prefix, kPrefix);
}

void OutgoingFrames::EndFrame(FrameMac* mac) {
  uint8_t* start = nullptr;
  uint32_t size = 0;
  queued_->getBuffer(&start, &size);
  size_t length = size - frame_at_ - kPrefix;
  if (mac != nullptr) {
    uint8_t code[FrameMac::kSize];
    mac->Next({reinterpret_cast<const char*>(start) + frame_at_ + kPrefix, length}, code);
    queued_->write(code, sizeof code);
    queued_->getBuffer(&start, &size);
    length += sizeof code;
  }
  CHECK_LE(length, kMaxFrame) << "a frame that the other end will refuse";
  const uint32_t prefix = htonl(static_cast<uint32_t>(length));
  std::memcpy(start + frame_at_, &prefix, kPrefix);
}

std::string_view OutgoingFrames::Next() {
  if (written_ < writing_.size()) return std::string_view(writing_).substr(written_);
  if (!writing_.empty()) {
    writing_.clear();
    written_ = 0;
    if (writing_.capacity() > kKeepBuffer) writing_.shrink_to_fit();
  }
  uint8_t* start = nullptr;
  uint32_t size = 0;
  queued_->getBuffer(&start, &size);
  return {reinterpret_cast<const char*>(start), size};
}

void OutgoingFrames::Written(size_t bytes) {
  if (written_ < writing_.size()) {
    written_ += bytes;
    return;
  }
  const std::string_view all = Next();
  if (bytes < all.size()) {
    writing_.assign(all.substr(bytes));
    written_ = 0;
  }
  Reset();
}

std::string_view OutgoingFrames::Hold() {
  if (written_ >= writing_.size()) {
    const std::string_view all = Next();
    writing_.assign(all);
    written_ = 0;
    Reset();
  }
  return Next();
}

void OutgoingFrames::Reset() {
  if (queued_->getBufferSize() > kKeepBuffer) {
    queued_->resetBuffer(static_cast<uint32_t>(kRead));
  } else {
    queued_->resetBuffer();
  }
}

}  // namespace understudy::replication
