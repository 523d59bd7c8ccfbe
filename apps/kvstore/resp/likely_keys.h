// Which keys requests are about, guessed before they are executed: for what can be done ahead of them.
#ifndef UNDERSTUDY_APPS_KVSTORE_RESP_LIKELY_KEYS_H_
#define UNDERSTUDY_APPS_KVSTORE_RESP_LIKELY_KEYS_H_

#include <cstddef>
#include <string_view>

namespace kvstore {

// Walks through requests in RESP arrays as a client has sent them.
class LikelyKeys {
 public:
  // `bytes` begin with a request, or nothing is found in them.
  explicit LikelyKeys(std::string_view bytes) : rest_(bytes) {}

  // Gives the second argument of the next request that has one and is there as far as that: with most
  // commands a key. False: nothing more that is easily found. `key` points into the bytes.
  bool Next(std::string_view* key);

 private:
  bool ReadNumber(char mark, size_t* number);
  bool ReadBulk(std::string_view* bulk);

  std::string_view rest_;
};

}  // namespace kvstore

#endif  // UNDERSTUDY_APPS_KVSTORE_RESP_LIKELY_KEYS_H_
