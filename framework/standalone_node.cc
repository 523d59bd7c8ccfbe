#include "framework/standalone_node.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "framework/serving_counters.h"
#include "glog/logging.h"

namespace understudy {

StandaloneNode::StandaloneNode(Host* host, const NodeConfig& config, std::unique_ptr<Server> server,
                               Failed failed)
    : host_(host),
      config_(config),
      failed_(std::move(failed)),
      server_(std::move(server)),
      executor_(server_.get(), config.limits),
      serving_(host, &executor_, this, SouthSide{}) {}

absl::Status StandaloneNode::Start() {
  if (absl::Status started = serving_.Start({config_.client_keepalive}); !started.ok()) return started;
  serving_.BeginEpoch(1, host_->Random(), 0, config_.node);
  auto listener = host_->OpenListener(config_.service, tcpshim::Connections::kStay);
  if (!listener.ok()) return listener.status();
  if (absl::Status listens = serving_.north().Listen(*std::move(listener)); !listens.ok()) return listens;
  LOG(INFO) << "serving " << serving_.north_address().ToString() << ", standalone";
  return absl::OkStatus();
}

void StandaloneNode::Stop(std::function<void()> stopped) {
  serving_.ShutDown(config_.stop_within, std::move(stopped));
}

// Nobody takes over, so nothing waits: stable at once.
replication::Lsn StandaloneNode::Append(replication::RecordBatch batch, replication::Lsn, uint64_t) {
  return batch.last_lsn();
}

void StandaloneNode::OnCommitFailed(absl::Status why) {
  LOG(ERROR) << "the Server cannot commit: " << why;
  serving_.Stop();
  // Not from inside a turn of what this ends.
  host_->Post([this, why = std::move(why)] {
    failed_(absl::UnavailableError(absl::StrCat("the Server cannot commit: ", why.message())));
  });
}

void StandaloneNode::OnServerThrew(absl::Status why, replication::RecordBatch, replication::Lsn, uint64_t) {
  host_->Post([this, why = std::move(why)] { failed_(absl::UnavailableError(why.message())); });
}

NodeStatus StandaloneNode::Status() const {
  NodeStatus status;
  status.role = Role::kStandalone;
  status.state = "solo";
  status.node = config_.node;
  status.epoch = executor_.epoch();
  status.last_lsn = status.stable_lsn = status.applied_lsn = executor_.applied_lsn();
  status.connections = executor_.connection_count();
  AppendServingCounters(serving_.counters(), status.counters);
  status.counters.emplace_back("connections_over_limit_total", executor_.over_limit());
  return status;
}

}  // namespace understudy
