// Any bytes, handed to the parser whole and in pieces, are the same requests and the same error; nothing is
// read or handed out beyond what was given.
//
// request_parser_fuzz_test runs this shortly. For long, on two cores, with what is found kept in a folder:
//   bazel build //apps/kvstore/resp:request_parser_fuzz_test_bin
//   mkdir found
//   $(bazel info bazel-bin)/apps/kvstore/resp/request_parser_fuzz_test_bin -max_total_time=3600 -jobs=2 \
//       found apps/kvstore/resp/request_parser_corpus
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <string_view>

#include "apps/kvstore/resp/likely_keys.h"
#include "apps/kvstore/resp/request_parser.h"
#include "apps/kvstore/resp/requests_for_test.h"

namespace kvstore {
namespace {

void Print(const char* how, const ParsedStream& parsed) {
  std::fprintf(stderr, "%s: %zu requests, %zu bytes, error \"%s\", broken \"%s\"\n", how,
               parsed.requests.size(), parsed.consumed, parsed.error.c_str(), parsed.broken.c_str());
}

void Check(std::string_view stream, const RequestParser::Limits& limits, std::minstd_rand* random) {
  const ParsedStream whole = ParseWhole(stream, limits);
  // Mostly tiny pieces, or mostly larger ones.
  for (unsigned longest : {3u, 64u}) {
    const ParsedStream pieces = ParseStream(stream, limits, [&] { return 1 + (*random)() % longest; });
    if (whole.broken.empty() && pieces == whole) continue;
    Print("whole", whole);
    Print("in pieces", pieces);
    std::abort();
  }
}

// Any bytes may be walked through; what is found is within them.
void CheckKeys(std::string_view stream) {
  LikelyKeys keys(stream);
  for (std::string_view key; keys.Next(&key);) {
    if (key.data() < stream.data() || key.data() + key.size() > stream.data() + stream.size()) std::abort();
  }
}

}  // namespace
}  // namespace kvstore

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view stream(reinterpret_cast<const char*>(data), size);
  kvstore::CheckKeys(stream);
  // The pieces follow from the input alone, so that an input that has failed fails again.
  uint32_t hash = 2166136261u;
  for (const char c : stream) hash = (hash ^ static_cast<uint8_t>(c)) * 16777619u;
  std::minstd_rand random(hash);
  kvstore::Check(stream, {}, &random);
  // Limits that short inputs can reach.
  kvstore::Check(stream, {.max_bulk = 16, .max_inline = 24, .max_args = 3}, &random);
  return 0;
}
