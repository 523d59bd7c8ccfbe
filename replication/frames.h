// Bytes and frames: what is below the calls of a link. A frame is 4 bytes of length, big endian, and so many
// bytes; with a key the last 16 of them are its code (auth.h). Neither class touches a socket.
#ifndef UNDERSTUDY_REPLICATION_FRAMES_H_
#define UNDERSTUDY_REPLICATION_FRAMES_H_

#include <thrift/transport/TBufferTransports.h>

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "replication/auth.h"

namespace understudy::replication {

inline constexpr size_t kMaxFrame = 32u << 20;
inline constexpr size_t kMaxFirstFrame = 64u << 10;

// What has been read, until it is whole.
class IncomingFrames {
 public:
  // Where to read into next. Good until the next call of anything.
  std::pair<char*, size_t> Room();
  // So many bytes were read there.
  void Filled(size_t bytes) { end_ += bytes; }

  struct Next {
    char* start = nullptr;  // of the frame behind its length; good until Room(). nullptr: none is whole yet
    size_t length = 0;
    std::string fault = {};  // it is longer than `limit`
  };
  Next TakeFrame(size_t limit);
  void Clear() { begin_ = end_ = 0; }

 private:
  std::unique_ptr<char[]> buffer_;  // free up to begin_, and from end_ on
  size_t size_ = 0;
  size_t begin_ = 0;
  size_t end_ = 0;
};

// Frames on their way out: collected in one buffer, while the kernel takes those of the other.
class OutgoingFrames {
 public:
  OutgoingFrames();
  std::shared_ptr<apache::thrift::transport::TMemoryBuffer> transport() const { return queued_; }

  // What is written to transport() in between is one frame.
  void BeginFrame();
  // `mac`: appends the code of the frame; null: none.
  void EndFrame(FrameMac* mac);

  size_t unsent() const { return writing_.size() - written_ + queued_->available_read(); }
  // What to write next; empty: nothing. Stays where it is until Written.
  std::string_view Next();
  // So much of Next() has been taken by the kernel. Mostly all.
  void Written(size_t bytes);
  // Moves what is queued to where it can stay during an asynchronous write.
  std::string_view Hold();

 private:
  void Reset();

  const std::shared_ptr<apache::thrift::transport::TMemoryBuffer> queued_;
  size_t frame_at_ = 0;
  std::string writing_;
  size_t written_ = 0;
};

}  // namespace understudy::replication

#endif  // UNDERSTUDY_REPLICATION_FRAMES_H_
