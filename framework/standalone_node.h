// --role=standalone: the same Server, executor and north wrapper, and a log that nobody keeps.
#ifndef UNDERSTUDY_FRAMEWORK_STANDALONE_NODE_H_
#define UNDERSTUDY_FRAMEWORK_STANDALONE_NODE_H_

#include <memory>

#include "framework/executor.h"
#include "framework/host.h"
#include "framework/node.h"
#include "framework/serving.h"

namespace understudy {

class StandaloneNode final : public Node, private Journal {
 public:
  // `host` outlives this object.
  StandaloneNode(Host* host, const NodeConfig& config, std::unique_ptr<Server> server, Failed failed);
  absl::Status Start() override;
  NodeStatus Status() const override;
  void Stop(std::function<void()> stopped) override;
  tcpshim::SocketAddress listening() const { return serving_.north_address(); }

 private:
  replication::Lsn Append(replication::RecordBatch batch, replication::Lsn executed_lsn, uint64_t) override;
  bool CanAppend() const override { return true; }
  bool StableAtOnce() const override { return true; }
  replication::Lsn StableLsn() const override { return executor_.applied_lsn(); }
  bool PeerCannotWrite() const override { return false; }
  void OnCommitFailed(absl::Status why) override;
  void OnServerThrew(absl::Status why, replication::RecordBatch last, replication::Lsn, uint64_t) override;

  Host* const host_;
  const NodeConfig config_;
  const Failed failed_;
  const std::unique_ptr<Server> server_;
  Executor executor_;
  Serving serving_;
};

}  // namespace understudy

#endif  // UNDERSTUDY_FRAMEWORK_STANDALONE_NODE_H_
