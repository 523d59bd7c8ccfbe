// Output commit: nothing derived from a record leaves before that record is stable (I1; claims 2, 3, 20).
//
// Each record that changes what may leave for a connection puts a mark here: how far its input may be
// acknowledged and its output be sent once the record is stable. Records come in LSN order, so the marks
// are a queue. Pure.
#ifndef UNDERSTUDY_FRAMEWORK_OUTPUT_COMMIT_H_
#define UNDERSTUDY_FRAMEWORK_OUTPUT_COMMIT_H_

#include <cstdint>
#include <deque>

#include "framework/connection_state.h"
#include "framework/server.h"
#include "replication/record.h"

namespace understudy {

// What may leave for a connection.
struct Released {
  tcpshim::Seq rcv_nxt = 0;   // acknowledgements up to here
  uint64_t output = 0;        // bytes up to this offset
  uint64_t acked = 0;         // the client's progress that an heir knows of
  uint32_t window_limit = 0;  // bytes of window that may be offered
  bool fin = false;           // and a FIN behind them
  bool abort = false;         // a RST

  static Released Of(const ConnectionState& connection) {
    return {connection.rcv_nxt(),      connection.output().end(), connection.view().acked,
            connection.window_limit(), connection.fin_wanted(),   connection.abort_wanted()};
  }
};

class OutputCommit {
 public:
  // `lsn` not below any earlier one.
  void Mark(replication::Lsn lsn, ConnectionId connection, const Released& released) {
    marks_.push_back({lsn, connection, released});
  }
  // Calls release(lsn, connection, released) for each mark up to `stable`, oldest first: of several for one
  // connection the last one counts.
  template <typename Release>
  void ReleaseUpTo(replication::Lsn stable, Release release) {
    while (!marks_.empty() && marks_.front().lsn <= stable) {
      release(marks_.front().lsn, marks_.front().connection, marks_.front().released);
      marks_.pop_front();
    }
  }
  size_t size() const { return marks_.size(); }

 private:
  struct Entry {
    replication::Lsn lsn;
    ConnectionId connection;
    Released released;
  };
  std::deque<Entry> marks_;
};

}  // namespace understudy

#endif  // UNDERSTUDY_FRAMEWORK_OUTPUT_COMMIT_H_
