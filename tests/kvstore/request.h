// Requests of a test, and the streams they make.
#ifndef UNDERSTUDY_TESTS_KVSTORE_REQUEST_H_
#define UNDERSTUDY_TESTS_KVSTORE_REQUEST_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace kvstore::test {

struct Request {
  std::vector<std::string> args;
  bool inline_form = false;  // sent as a line for people, with quotes and escapes
};

// As it goes over the wire.
std::string Encode(const Request& request);
std::string Readable(const Request& request);

// Requests sent together over one connection; their replies are awaited before anything else happens.
struct Batch {
  enum class Kind {
    kRequests,
    kPick,  // one request that answers, or removes, at random: SPOP, SRANDMEMBER, RANDOMKEY
    kWalk,  // one SCAN, HSCAN or SSCAN with cursor 0: walked to the end
  };
  Kind kind = Kind::kRequests;
  size_t connection = 0;
  std::vector<Request> requests;
  uint64_t split = 0;  // decides where the bytes are split; 0: nowhere
};
using Stream = std::vector<Batch>;

std::string Readable(const Batch& batch);
std::string Readable(const Stream& stream);

}  // namespace kvstore::test

#endif  // UNDERSTUDY_TESTS_KVSTORE_REQUEST_H_
