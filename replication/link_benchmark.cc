// The round trip of one append over loopback, each end on its own thread and loop.
#include <benchmark/benchmark.h>
#include <glog/logging.h>

#include <boost/asio/executor_work_guard.hpp>
#include <optional>
#include <string>
#include <thread>

#include "replication/socket_link.h"

namespace understudy::replication {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;

class Answers : public Link::Handler {
 public:
  Verdict OnJoin(Link&, const wire::JoinRequest&, wire::JoinReply& reply) override {
    reply.node = "a";
    reply.epoch = reply.next_lsn = reply.suspect_after_ms = 1;
    return {};
  }
  Verdict OnAppend(Link&, wire::AppendRequest request, wire::AppendReply& reply) override {
    reply.epoch = request.epoch;
    reply.stored_lsn = request.first_lsn;
    reply.sent_at_ns = request.sent_at_ns;
    reply.applied_lsn = 0;
    reply.cannot_take_over.clear();
    benchmark::DoNotOptimize(request.records.data());
    return {};
  }
  Verdict OnHandover(Link&, const wire::HandoverRequest&, wire::HandoverReply&) override { return {}; }
  void OnJoinReply(Link&, const wire::JoinReply&) override { joined = true; }
  void OnAppendReply(Link&, const wire::AppendReply&) override { ++replies; }
  void OnHandoverReply(Link&, const wire::HandoverReply&) override {}
  void OnRefused(Link&, const wire::Refused&) override {}
  void OnClosed(Link&, const std::string&) override {}
  int64_t replies = 0;
  bool joined = false;
};

void RoundTrip(benchmark::State& state) {
  asio::io_context here(1), there(1);
  Answers caller, answerer;
  std::shared_ptr<Link> call, answer;
  // Without a key, or with one: every frame has a code then.
  const std::string key(state.range(2) == 0 ? 0 : 32, 'k');
  const LinkSecurity acceptor{.key = key, .service = "10.0.0.1:80", .node = "a", .dialed = false};
  const LinkSecurity dialer{.key = key, .service = "10.0.0.1:80", .node = "b", .dialed = true};
  auto guard = asio::make_work_guard(there);
  auto listener = LinkListener::Open(
      there, {asio::ip::address_v4::loopback(), 0}, asio::ip::address_v4::loopback(),
      [&](tcp::socket socket) { answer = SocketLink::Start(std::move(socket), &answerer, acceptor); });
  std::thread thread([&there] { there.run(); });
  DialPeer(
      here, asio::ip::address_v4::loopback(), (*listener)->local(), std::chrono::seconds(5),
      [&](DialResult, tcp::socket socket) { call = SocketLink::Start(std::move(socket), &caller, dialer); });
  while (call == nullptr) here.run_one();

  wire::AppendRequest request;
  request.epoch = request.first_lsn = request.sent_at_ns = 1;
  request.member = true;
  request.executed_lsn = request.output_hash = 0;
  request.records.assign(state.range(0), 'x');
  const int64_t in_flight = state.range(1);
  if (!key.empty()) {
    wire::JoinRequest join;
    join.protocol_version = 0;
    join.service_address = "";
    join.node = "b";
    join.epoch = join.last_lsn = 0;
    call->Join(join);  // waits for the handshake, which an append does not
    while (!caller.joined) CHECK_GT(here.run_one(), 0u) << "the link was closed";
  }
  // The first frame has to be a small one.
  wire::AppendRequest first = request;
  first.records.clear();
  call->Append(first);
  int64_t sent = 1;
  for (auto _ : state) {
    for (; sent < caller.replies + in_flight; ++sent) call->Append(request);
    const int64_t before = caller.replies;
    while (caller.replies == before) {
      CHECK_GT(here.run_one(), 0u) << "the link was closed";
    }
  }
  state.SetItemsProcessed(caller.replies);
  state.SetBytesProcessed(caller.replies * state.range(0));
  there.stop();
  thread.join();
}
BENCHMARK(RoundTrip)
    ->ArgNames({"bytes", "in_flight", "key"})
    ->ArgsProduct({{100, 16384}, {1}, {0, 1}})
    ->ArgsProduct({{100}, {64}, {0, 1}})
    ->ArgsProduct({{65536}, {16}, {0, 1}})
    ->MeasureProcessCPUTime()
    ->UseRealTime();

}  // namespace
}  // namespace understudy::replication

BENCHMARK_MAIN();
