// The Servers of the simulator. Each keeps a transcript of what it was given and what it sent, per
// client: one such object that has seen a whole log is the never-failing server that clients are
// compared with.
#ifndef UNDERSTUDY_TESTS_SIM_MODEL_SERVER_H_
#define UNDERSTUDY_TESTS_SIM_MODEL_SERVER_H_

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "framework/server.h"

namespace understudy::sim {

enum class ServerKind {
  kEcho,
  kTransform,  // state per connection, timers, time and random numbers, all of it in the output
  kGenerate,   // much output for little input
  kHalfClose,  // an echo that ends its own direction after a while and goes on listening
};

class ModelServer final : public Server {
 public:
  struct Transcript {
    std::string in;    // all bytes given to OnData
    std::string out;   // all bytes sent
    bool fin = false;  // a FIN behind them
    bool connected = false, peer_closed = false, closed = false;
    CloseReason reason = CloseReason::kDone;
  };

  explicit ModelServer(ServerKind kind) : server_kind_(kind) {}

  std::function<void()> on_call = [] {};  // time may pass in a call

  // By the client's address and initial sequence number.
  const std::map<std::string, Transcript>& transcripts() const { return transcripts_; }
  const Transcript* Find(const std::string& peer) const {
    auto found = transcripts_.find(peer);
    return found == transcripts_.end() ? nullptr : &found->second;
  }

  void OnConnect(Connection& c) override;
  size_t OnData(Connection& c, std::string_view unread) override;
  void OnPeerClosed(Connection& c) override;
  void OnTimer(Connection& c, uint32_t timer) override;
  void OnClosed(Connection& c, CloseReason reason) override;

 private:
  struct Mine : Connection::Context {
    Transcript* transcript = nullptr;
    size_t consumed = 0;
    uint32_t words = 0;
  };
  static Mine& Of(Connection& c) { return *static_cast<Mine*>(c.context()); }
  static void Say(Connection& c, std::string_view bytes);
  static void EndOutput(Connection& c);

  const ServerKind server_kind_;
  std::map<std::string, Transcript> transcripts_;
};

}  // namespace understudy::sim

#endif  // UNDERSTUDY_TESTS_SIM_MODEL_SERVER_H_
