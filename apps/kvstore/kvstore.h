// The key-value store: Redis's protocol and commands, LevelDB's storage, an Understudy Server.
#ifndef UNDERSTUDY_APPS_KVSTORE_KVSTORE_H_
#define UNDERSTUDY_APPS_KVSTORE_KVSTORE_H_

#include <chrono>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "apps/kvstore/instance.h"
#include "apps/kvstore/resp/reply.h"
#include "apps/kvstore/store/disk_room.h"
#include "apps/kvstore/store/keyspace.h"
#include "apps/kvstore/store/table.h"
#include "apps/kvstore/temporary_directory.h"
#include "framework/server.h"

namespace kvstore {

class KvStore final : public understudy::Server {
 public:
  struct Options {
    std::string data_dir = {};  // empty: a fresh temporary one, removed at the end
    size_t cache_bytes = size_t{64} << 20;
    std::chrono::milliseconds write_behind{0};  // see Table::Options
    size_t max_bulk = size_t{64} << 20;         // bytes of one value; the same on both nodes of a pair
    // Bytes that must be free on the disk for changes to be taken; 0: no matter. This node's own affair.
    uint64_t min_free_disk = 0;
    Configuration settings = {};
  };
  static absl::StatusOr<std::unique_ptr<understudy::Server>> Open(const Options& options);
  ~KvStore() override;

  void OnConnect(understudy::Connection& connection) override;
  size_t OnData(understudy::Connection& connection, std::string_view unread) override;
  void Expect(std::string_view bytes) override;
  void OnPeerClosed(understudy::Connection& connection) override;
  void OnClosed(understudy::Connection& connection, understudy::CloseReason reason) override;
  std::string InitialState() override;
  understudy::Settings MustAgree() override;
  absl::Status Commit(const understudy::CommitPoint& point) override;
  void OnStorage(bool writable) override;

 private:
  KvStore() = default;

  // One request: executes it and returns how long it is. 0: it is not all there yet, or the session is
  // closing.
  size_t Serve(understudy::Connection& connection, Session& session, Reply& reply, std::string_view unread);
  void LetItSend(understudy::Connection& connection, size_t unread);
  // Bytes of replies until the client has to read first.
  static size_t Room(const understudy::Connection& connection);
  void Flush(understudy::Connection& connection);
  // Closes it; it is no client any more from here on.
  void Leave(understudy::Connection& connection, Session& session);
  void Forget(Session& session);

  std::unique_ptr<TemporaryDirectory> temporary_;  // nullptr: the data stay
  std::unique_ptr<DiskRoom> disk_room_;
  std::unique_ptr<Table> table_;
  std::unique_ptr<Keyspace> keys_;
  Instance instance_;
  std::string out_;  // replies of one OnData; empty between its calls
};

}  // namespace kvstore

#endif  // UNDERSTUDY_APPS_KVSTORE_KVSTORE_H_
