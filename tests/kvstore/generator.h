// Random streams of requests, each the consequence of its seed.
#ifndef UNDERSTUDY_TESTS_KVSTORE_GENERATOR_H_
#define UNDERSTUDY_TESTS_KVSTORE_GENERATOR_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/kvstore/grammar.h"
#include "tests/kvstore/request.h"
#include "tests/kvstore/values.h"

namespace kvstore::test {

class Generator {
 public:
  explicit Generator(uint64_t seed) : dice_(seed) {}

  // Several connections, one of them in RESP3, transactions on and off, walks, random picks.
  Stream MakeStream();
  // One that changes or reads something, as likely as the grammar's weights; mostly right, sometimes spoiled.
  Request MakeRequest();

 private:
  std::vector<std::string> MakeArgs(const Form& form);
  const Form& AnyForm();
  void Spoil(std::vector<std::string>* args);
  Batch MakeBatch(size_t connection);
  Batch MakePick();
  Batch MakeWalk();
  void AddTransaction(Stream* stream);

  Dice dice_;
  std::array<bool, 4> in_multi_ = {};  // by connection, as far as it can be known here
};

}  // namespace kvstore::test

#endif  // UNDERSTUDY_TESTS_KVSTORE_GENERATOR_H_
