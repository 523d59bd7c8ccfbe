// An arbiter in a file, for nodes of one host (demos and tests).
//
// The register is one line in `path`; `path`.lock serializes those who change it. There is no
// fsync: the register needs to outlive the processes that share it, not the host, because with the
// host all of them are gone.
#ifndef UNDERSTUDY_REPLICATION_FILE_ARBITER_H_
#define UNDERSTUDY_REPLICATION_FILE_ARBITER_H_

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <memory>
#include <string>

#include "replication/arbiter.h"

namespace understudy::replication {

class FileArbiter : public Arbiter {
 public:
  // `path` need not exist yet: then nobody has served. Its folder must. Callbacks run on `loop`;
  // after the arbiter is destroyed none does. An operation that cannot get the lock within
  // `lock_timeout` (a stopped process may sit on it) ends as Unavailable, without having changed
  // anything. The loop is never blocked for the lock.
  FileArbiter(boost::asio::io_context& loop, std::string path,
              std::chrono::milliseconds lock_timeout = std::chrono::milliseconds(500));
  ~FileArbiter() override;

  void Read(Callback done) override;
  void CompareAndSwap(const Register& expected, const Register& desired, Callback done) override;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace understudy::replication

#endif  // UNDERSTUDY_REPLICATION_FILE_ARBITER_H_
