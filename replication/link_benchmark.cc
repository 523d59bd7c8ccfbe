// The round trip of one append over loopback, each end on its own thread and loop.
#include <benchmark/benchmark.h>
#include <glog/logging.h>

#include <boost/asio/executor_work_guard.hpp>
#include <optional>
#include <string>
#include <thread>

#include "replication/link.h"

namespace understudy::replication {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;

class Answers : public Link::Handler {
 public:
  Verdict OnJoin(Link&, const wire::JoinRequest&, wire::JoinReply&) override { return {}; }
  Verdict OnAppend(Link&, wire::AppendRequest request, wire::AppendReply& reply) override {
    reply.epoch = request.epoch;
    reply.stored_lsn = request.first_lsn;
    reply.sent_at_ns = request.sent_at_ns;
    reply.applied_lsn = 0;
    benchmark::DoNotOptimize(request.records.data());
    return {};
  }
  Verdict OnHandover(Link&, const wire::HandoverRequest&, wire::HandoverReply&) override {
    return {};
  }
  void OnJoinReply(Link&, const wire::JoinReply&) override {}
  void OnAppendReply(Link&, const wire::AppendReply&) override { ++replies; }
  void OnHandoverReply(Link&, const wire::HandoverReply&) override {}
  void OnRefused(Link&, const wire::Refused&) override {}
  void OnClosed(Link&, const std::string&) override {}
  int64_t replies = 0;
};

void RoundTrip(benchmark::State& state) {
  asio::io_context here(1), there(1);
  Answers caller, answerer;
  std::shared_ptr<Link> call, answer;
  auto guard = asio::make_work_guard(there);
  auto listener = LinkListener::Open(
      there, {asio::ip::address_v4::loopback(), 0}, asio::ip::address_v4::loopback(),
      [&](tcp::socket socket) { answer = Link::Start(std::move(socket), &answerer); });
  std::thread thread([&there] { there.run(); });
  DialPeer(here, (*listener)->local(), std::chrono::seconds(5),
           [&](DialResult, tcp::socket socket) { call = Link::Start(std::move(socket), &caller); });
  while (call == nullptr) here.run_one();

  wire::AppendRequest request;
  request.epoch = request.first_lsn = request.sent_at_ns = 1;
  request.member = true;
  request.executed_lsn = request.output_hash = 0;
  request.records.assign(state.range(0), 'x');
  const int64_t in_flight = state.range(1);
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
    ->ArgNames({"bytes", "in_flight"})
    ->Args({100, 1})
    ->Args({1000, 1})
    ->Args({16384, 1})
    ->Args({100, 64})
    ->Args({65536, 16})
    ->MeasureProcessCPUTime()
    ->UseRealTime();

}  // namespace
}  // namespace understudy::replication

BENCHMARK_MAIN();
