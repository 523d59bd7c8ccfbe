// A log to be written by hand: one short call per record. For tests of what reads logs.
#ifndef UNDERSTUDY_FRAMEWORK_LOG_FOR_TEST_H_
#define UNDERSTUDY_FRAMEWORK_LOG_FOR_TEST_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "framework/record_body.h"
#include "replication/record.h"

namespace understudy {

// The batch that is being written, and the logged time, which stands still unless told.
class LogForTest {
 public:
  int64_t time_us = 1'000'000;

  // Each returns a view that is good until the next call.
  replication::RecordView Add(RecordKind kind, std::string_view head, std::string_view bytes = {}) {
    return builder_.Append(static_cast<uint32_t>(kind), time_us, head, bytes);
  }
  replication::RecordView Begin(uint64_t epoch, uint64_t seed = 1, uint32_t shift = 0) {
    return Add(RecordKind::kEpochBegan, Encode(EpochBegan{epoch, seed, shift, "node"}));
  }
  replication::RecordView Open(ConnectionId id) { return Add(RecordKind::kOpened, Encode(OpenedOf(id))); }
  replication::RecordView Connect(ConnectionId id) {
    return Add(RecordKind::kConnected, Encode(ConnectionOnly{id}));
  }
  // `acked`: the client's progress as the record tells it.
  replication::RecordView Receive(ConnectionId id, std::string_view bytes, uint64_t acked = 0) {
    return Add(RecordKind::kReceived, EncodeHead(Received{id, ViewAt(acked), {}}), bytes);
  }
  replication::RecordView Advance(ConnectionId id, uint64_t acked) {
    return Add(RecordKind::kProgress, Encode(Progress{id, ViewAt(acked)}));
  }
  replication::RecordView PeerClose(ConnectionId id) {
    return Add(RecordKind::kPeerClosed, Encode(ConnectionOnly{id}));
  }
  replication::RecordView Fire(ConnectionId id, uint32_t timer) {
    return Add(RecordKind::kTimerFired, Encode(TimerFired{id, timer}));
  }
  replication::RecordView Break(ConnectionId id) { return Add(RecordKind::kBroken, Encode(Broken{id, 104})); }
  replication::RecordView End(ConnectionId id) { return Add(RecordKind::kEnded, Encode(ConnectionOnly{id})); }

  replication::RecordBatch Seal() { return builder_.Seal(); }
  replication::Lsn next_lsn() const { return builder_.next_lsn(); }

  static tcpshim::FourTuple TupleOf(ConnectionId id) {
    return {{0xc6120001, 7000}, {0xc6120009, static_cast<uint16_t>(40000 + id)}};
  }
  // Sequence numbers that wrap soon.
  static Opened OpenedOf(ConnectionId id) {
    Opened opened;
    opened.connection = id;
    opened.tuple = TupleOf(id);
    opened.iss = 0xfffffff0u;
    opened.irs = 0xfffffffcu;
    opened.window = 64240;
    opened.timestamp_offset = 1000;
    opened.options.timestamps = true;
    return opened;
  }
  static PeerView ViewAt(uint64_t acked) { return {acked, 50000, 0}; }

 private:
  replication::BatchBuilder builder_{1};
};

}  // namespace understudy

#endif  // UNDERSTUDY_FRAMEWORK_LOG_FOR_TEST_H_
