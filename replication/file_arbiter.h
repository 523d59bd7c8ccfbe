// An arbiter in a file, for nodes of one host (demos and tests).
//
// The register is one line in `path`; `path`.lock, which only the user of the nodes can open, serializes
// those who use it. Changes are on the disk before they are answered: in a file system in memory (/run),
// which is enough for two nodes of one host, that costs nothing. A network file system is refused: its locks
// may be one host's alone.
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
  void Probe(Callback done) override;
  void CompareAndSwap(const Register& expected, const Register& desired, Callback done) override;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace understudy::replication

#endif  // UNDERSTUDY_REPLICATION_FILE_ARBITER_H_
