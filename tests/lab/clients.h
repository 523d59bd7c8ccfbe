// Clients: ordinary sockets that check every byte. A Fleet drives any number of them from the calling
// thread, with poll.
//
//   Fleet fleet(lab.client());
//   StreamClient* echo = fleet.Add(EchoPlan({.bytes = 1 << 20, .seed = seed}));
//   ASSERT_EQ(fleet.RunUntil([&] { return echo->received() > 1000; }, 5s), "");
//   ... the fault ...
//   EXPECT_EQ(fleet.RunUntilDone(30s), "");       // "" or what is wrong, with which client
#ifndef UNDERSTUDY_TESTS_LAB_CLIENTS_H_
#define UNDERSTUDY_TESTS_LAB_CLIENTS_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/lab/lab.h"
#include "tests/lab/namespace.h"

namespace understudy::lab {

// A stream that both ends know: some text, then `bytes` of the pattern of `seed`, then some text.
struct Stream {
  std::string prefix;
  uint64_t bytes = 0;
  uint64_t seed = 0;
  std::string suffix;

  uint64_t size() const { return prefix.size() + bytes + suffix.size(); }
  // Bytes [offset, offset + size); within size().
  void Fill(uint64_t offset, char* out, size_t size) const;
};

struct Plan {
  std::string name = "client";
  Stream send, expect;
  // Bytes of `send` that may be ahead of what came back; for echoes.
  uint64_t max_ahead = std::numeric_limits<uint64_t>::max();
  // What to do when all of `send` is sent: FIN, or leave it open.
  bool half_close_after_send = true;
  bool expect_eof = true;
  // Socket options; 0: the system's.
  int receive_buffer = 0;
  int send_buffer = 0;
  uint32_t bind_ip = 0;  // host order; 0: the system's choice
  uint16_t bind_port = 0;
  // Most bytes to write, or read, in one turn, and least time between turns. For loads that are to last.
  size_t piece = 256 << 10;
  std::chrono::microseconds pace{0};
  // Starts without reading; StreamClient::SetReading changes it.
  bool reading = true;
  // Begins with DropIncoming(true), so that not even a SYN-ACK arrives.
  bool deaf = false;
  // So much of `send` at first, the rest after StreamClient::ReleaseSend.
  uint64_t send_first = std::numeric_limits<uint64_t>::max();
  // With half_close_after_send: not before StreamClient::ReleaseFin.
  bool hold_fin = false;
  bool nodelay = true;
};

struct EchoOptions {
  uint64_t bytes = 1 << 20;
  uint64_t seed = 1;
  uint64_t max_ahead = 64 << 10;
  size_t piece = 256 << 10;
  std::chrono::microseconds pace{0};
};
// Against the workbench; see workbench.cc. `plain` against an echo server without its first line.
Plan EchoPlan(const EchoOptions& options, bool plain = false);
Plan UploadPlan(uint64_t bytes, uint64_t seed);
Plan DownloadPlan(uint64_t bytes, uint64_t seed);
// The client sends FIN behind its request at once and reads on.
Plan HalfClosedDownloadPlan(uint64_t bytes, uint64_t seed);
// The server half-closes at once; the client, told so by the end of the stream, sends `bytes` and FIN.
Plan ServerHalfClosedPlan(const std::string& name, uint64_t bytes, uint64_t seed);
// GATHER: `rounds` times `bytes`, each answered with its CRC.
Plan GatherPlan(uint64_t bytes, int rounds, uint64_t seed);
// ANSWER: `lines` requests of `line_size` bytes each in one go, each answered with `bytes`; FIN behind them.
Plan AnswerPlan(uint64_t bytes, int lines, uint64_t seed, size_t line_size = 1);
// What REPORT says of that upload afterwards.
Plan ReportPlan(const std::string& name, uint64_t bytes, uint64_t seed);
// `request`, then exactly `answer`, then the end of the stream.
Plan AskPlan(const std::string& request, const std::string& answer);

class Client {
 public:
  virtual ~Client() = default;
  const std::string& name() const { return name_; }
  bool done() const { return done_; }
  const std::string& error() const { return error_; }  // "" while all is well
  bool connected() const { return connected_; }
  uint64_t received() const { return received_; }
  uint64_t sent() const { return sent_; }
  uint16_t port() const;  // own port
  int fd() const { return fd_; }
  // Longest time without a received byte, since the first one or since the call of ResetPause.
  std::chrono::microseconds longest_pause() const;
  void ResetPause();
  // Its kernel loses whatever arrives for this connection, as if the wire had; a SegmentWatch sees it.
  void DropIncoming(bool drop);

 protected:
  friend class Fleet;
  using Clock = std::chrono::steady_clock;
  Client(std::string name, int fd) : name_(std::move(name)), fd_(fd) {}

  virtual short Wanted(Clock::time_point now) = 0;
  virtual void OnReady(short events) = 0;
  void NoteReceived(size_t n);
  void Fail(const std::string& what);

  std::string name_;
  int fd_;
  bool connected_ = false, done_ = false;
  std::string error_;
  uint64_t received_ = 0, sent_ = 0;
  Clock::time_point last_received_{}, next_turn_{};
  std::chrono::microseconds longest_pause_{0};
};

// Sends one stream, expects another.
class StreamClient : public Client {
 public:
  const Plan& plan() const { return plan_; }
  void SetReading(bool reading) { plan_.reading = reading; }
  void ReleaseSend() { plan_.send_first = std::numeric_limits<uint64_t>::max(); }
  void ReleaseFin() { plan_.hold_fin = false; }
  void SetPace(std::chrono::microseconds pace, size_t piece) {
    plan_.pace = pace;
    next_turn_ = {};
    plan_.piece = piece;
  }
  // An echo client: send `more` bytes, wait for the rest of its echo, then end.
  void FinishEcho(uint64_t more);
  bool end_seen() const { return eof_; }

 protected:
  friend class Fleet;
  StreamClient(Plan plan, int fd) : Client(plan.name, fd), plan_(std::move(plan)) {}
  short Wanted(Clock::time_point now) override;
  void OnReady(short events) override;

 private:
  void Write();
  void Read();
  uint64_t Allowed() const;

  Plan plan_;
  std::vector<char> unsent_;  // made, not yet taken by the kernel
  size_t unsent_at_ = 0;
  uint64_t made_ = 0;
  bool eof_ = false, fin_sent_ = false;
};

// TIMER of the workbench: checks that the ticks are numbered, that time does not go back and no tick is
// early, and that the chain over all ticks is right: nodes that disagree about time or chance break it.
class TimerClient : public Client {
 public:
  uint64_t ticks() const { return ticks_; }
  void HalfClose();  // when the request has been sent

 protected:
  friend class Fleet;
  TimerClient(std::string name, int fd, uint64_t period_ms, uint64_t count)
      : Client(std::move(name), fd), period_ms_(period_ms), count_(count) {}
  short Wanted(Clock::time_point now) override;
  void OnReady(short events) override;

 private:
  void Line(const std::string& line);

  uint64_t period_ms_, count_;
  std::string request_, unread_;
  bool half_closes_ = false;
  uint64_t ticks_ = 0;
  uint32_t chain_ = 0;
  int64_t last_us_ = 0;
};

class Fleet {
 public:
  explicit Fleet(Namespace& where);
  // Another server than the lab's service address.
  Fleet(Namespace& where, const std::string& ip, uint16_t port);
  ~Fleet();

  // Begins to connect. The pointer is good until the fleet goes.
  StreamClient* Add(Plan plan);
  // Many of one kind; `change` is told which one it is.
  std::vector<StreamClient*> AddMany(int count, const std::function<Plan(int)>& plan);
  TimerClient* AddTimer(std::string name, uint64_t period_ms, uint64_t ticks);

  // Drives all clients until `condition`, asked after each turn, holds. Returns "", or what went wrong:
  // the error of a client, or that time ran out, with the state of those that are not done.
  std::string RunUntil(const std::function<bool()>& condition, std::chrono::milliseconds timeout);
  std::string RunUntilConnected(std::chrono::milliseconds timeout);
  std::string RunUntilDone(std::chrono::milliseconds timeout);
  // Until each client has received `bytes` more than it has now, or is done.
  std::string RunUntilAllReceive(uint64_t bytes, std::chrono::milliseconds timeout);
  // For a while; the answer is "" or the error of a client.
  std::string RunFor(std::chrono::milliseconds time);

  std::chrono::microseconds longest_pause() const;
  const std::vector<std::unique_ptr<Client>>& clients() const { return clients_; }

 private:
  void Connect(int fd, const Plan& plan);
  void Turn(int wait_ms);
  std::string Errors() const;
  std::string Unfinished() const;

  Namespace& where_;
  uint32_t ip_;
  uint16_t port_;
  std::vector<std::unique_ptr<Client>> clients_;
};

}  // namespace understudy::lab

#endif  // UNDERSTUDY_TESTS_LAB_CLIENTS_H_
