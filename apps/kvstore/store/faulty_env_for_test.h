// A disk that fails when it is told to.
#ifndef UNDERSTUDY_APPS_KVSTORE_STORE_FAULTY_ENV_FOR_TEST_H_
#define UNDERSTUDY_APPS_KVSTORE_STORE_FAULTY_ENV_FOR_TEST_H_

#include <memory>

namespace leveldb {
class Env;
}

namespace kvstore {

// The operating system's files, and switches. From any thread.
class FaultyEnv {
 public:
  FaultyEnv();
  ~FaultyEnv();

  leveldb::Env* env() const;   // outlives all tables on it
  void FailWrites(bool fail);  // "No space left on device"
  void FailReads(bool fail);   // "Input/output error", of files that are read here and there

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace kvstore

#endif  // UNDERSTUDY_APPS_KVSTORE_STORE_FAULTY_ENV_FOR_TEST_H_
