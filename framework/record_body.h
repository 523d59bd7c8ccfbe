// What the records of the log mean: the inputs of the application, and the facts about connections.
//
// Everything an application may know is in here, and everything an heir needs to restore an endpoint.
// Bodies are little endian, fixed layout, no padding; the numbers reach the wire and the disk: never
// change the meaning of one, add a new one.
#ifndef UNDERSTUDY_FRAMEWORK_RECORD_BODY_H_
#define UNDERSTUDY_FRAMEWORK_RECORD_BODY_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "framework/server.h"
#include "tcpshim/tcp_types.h"

namespace understudy {

enum class RecordKind : uint32_t {
  kEpochBegan = 1,  // a primary begins; first record of the log and of each epoch that changed hands
  kOpened = 2,      // a handshake: the SYN-ACK may leave once this is stable
  kConnected = 3,   // the handshake is complete: OnConnect
  kReceived = 4,    // bytes: OnData
  kPeerClosed = 5,  // the client's FIN: OnPeerClosed
  kBroken = 6,      // reset, or given up by TCP: OnClosed(kReset)
  kProgress = 7,    // what the client has acknowledged: kept output shrinks; OnWritable
  kTimerFired = 8,  // OnTimer
  kEnded = 9,       // both directions are done, or the connection was aborted: OnClosed
  kStorage = 10,    // whether the nodes can write: OnStorage
  kFault = 11,      // the dying primary's Server threw in a call for this connection: it is aborted
};
const char* RecordKindName(RecordKind kind);

struct EpochBegan {
  uint64_t epoch = 0;
  uint64_t seed = 0;  // of Random(); used from the first record of a log only
  // What must be added to the timestamp offset of each connection, because the clock that they are
  // relative to is another host's from here on. Milliseconds, modulo 2^32.
  uint32_t timestamp_shift = 0;
  std::string node;
  std::string initial_state = {};  // Server::InitialState; used from the first record of a log only
};

// The client's last word, as far as the primary's south wrapper had seen it when the record was made.
struct PeerView {
  uint64_t acked = 0;    // bytes of output the client has acknowledged, from the first on
  uint32_t window = 0;   // bytes it offers beyond them
  uint32_t offered = 0;  // bytes of the window offered to it
};

inline constexpr uint8_t kMaxWindowShift = 14;  // RFC 7323, 2.3

struct Opened {
  ConnectionId connection = 0;
  tcpshim::FourTuple tuple;
  tcpshim::Seq iss = 0;  // our initial sequence number
  tcpshim::Seq irs = 0;  // the client's
  tcpshim::TcpOptions options;
  uint16_t window = 0;     // of the SYN-ACK, which is never scaled
  uint32_t timestamp = 0;  // TSval and TSecr of the SYN-ACK
  uint32_t timestamp_echo = 0;
  uint32_t timestamp_offset = 0;  // TSval less the primary's CLOCK_MONOTONIC in milliseconds, modulo 2^32
  bool ecn = false;               // the SYN-ACK takes up the client's offer (RFC 3168); not restored
  bool local = false;             // from the primary's own host: ends with that
};

struct Received {
  ConnectionId connection = 0;
  PeerView view;
  std::string_view bytes;  // last in the body
};

struct Progress {
  ConnectionId connection = 0;
  PeerView view;
};

struct TimerFired {
  ConnectionId connection = 0;
  uint32_t timer = 0;
};

struct Broken {
  ConnectionId connection = 0;
  int32_t error = 0;  // errno
};

struct Storage {
  uint8_t writable = 1;  // 0 or 1
};

struct Fault {
  ConnectionId connection = 0;
  uint8_t ending = 0;  // 1: the call was OnClosed, and is not made again
};

// kConnected, kPeerClosed, kEnded.
struct ConnectionOnly {
  ConnectionId connection = 0;
};

// Bodies, or for Received the part before the bytes (kReceivedHeadSize long).
inline constexpr size_t kReceivedHeadSize = 24;
std::string Encode(const EpochBegan& body);
std::string Encode(const Opened& body);
std::string EncodeHead(const Received& body);
std::string Encode(const Progress& body);
std::string Encode(const TimerFired& body);
std::string Encode(const Broken& body);
std::string Encode(const Storage& body);
std::string Encode(const Fault& body);
std::string Encode(const ConnectionOnly& body);

// InvalidArgument when the body is too short or has more than it should.
absl::StatusOr<EpochBegan> DecodeEpochBegan(std::string_view body);
absl::StatusOr<Opened> DecodeOpened(std::string_view body);
absl::StatusOr<Received> DecodeReceived(std::string_view body);
absl::StatusOr<Progress> DecodeProgress(std::string_view body);
absl::StatusOr<TimerFired> DecodeTimerFired(std::string_view body);
absl::StatusOr<Broken> DecodeBroken(std::string_view body);
absl::StatusOr<Storage> DecodeStorage(std::string_view body);
absl::StatusOr<Fault> DecodeFault(std::string_view body);
absl::StatusOr<ConnectionOnly> DecodeConnectionOnly(std::string_view body);

}  // namespace understudy

#endif  // UNDERSTUDY_FRAMEWORK_RECORD_BODY_H_
