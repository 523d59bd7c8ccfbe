#include "tests/sim/model_server.h"

#include "absl/strings/str_cat.h"
#include "framework/connection_state.h"

namespace understudy::sim {

void ModelServer::Say(Connection& c, std::string_view bytes) {
  if (Of(c).transcript->fin) return;
  Of(c).transcript->out.append(bytes);
  c.Send(bytes);
}

void ModelServer::EndOutput(Connection& c) {
  Of(c).transcript->fin = true;
  c.HalfClose();
}

void ModelServer::OnConnect(Connection& c) {
  auto mine = std::make_unique<Mine>();
  // From one port there may be several, of which the client knows by its own numbers.
  const tcpshim::Seq isn = static_cast<ConnectionState&>(c).opened().irs;
  mine->transcript = &transcripts_[absl::StrCat(c.peer(), "/", isn)];
  mine->transcript->connected = true;
  c.set_context(std::move(mine));
  if (server_kind_ == ServerKind::kTransform) Say(c, absl::StrCat("hello ", c.Random(), "\n"));
}

size_t ModelServer::OnData(Connection& c, std::string_view unread) {
  on_call();
  Mine& mine = Of(c);
  mine.transcript->in.append(unread.substr(mine.transcript->in.size() - mine.consumed));
  size_t consumed = unread.size();
  if (server_kind_ == ServerKind::kTransform) {
    // Words of four bytes; what is left of one is given again.
    consumed -= consumed % 4;
    for (size_t at = 0; at < consumed; at += 4) {
      ++mine.words;
      Say(c, unread.substr(at, 4));
      if (mine.words % 8 == 0) {
        Say(c, absl::StrCat("[", mine.words, " ", c.Random() % 1000, " ",
                            c.Now().time_since_epoch().count() % 1'000'000, "]"));
      }
      if (mine.words % 32 == 0) c.SetTimer(mine.words % 3, std::chrono::microseconds(c.Random() % 30'000));
    }
  } else if (server_kind_ == ServerKind::kGenerate) {
    consumed -= consumed % 16;
    for (size_t at = 0; at < consumed; at += 16) {
      Say(c, std::string(300, static_cast<char>('A' + c.Random() % 26)));
      Say(c, unread.substr(at, 16));
    }
  } else {
    Say(c, unread);
  }
  mine.consumed += consumed;
  if (server_kind_ == ServerKind::kHalfClose && mine.consumed > 3000 && !mine.transcript->fin) EndOutput(c);
  return consumed;
}

void ModelServer::OnPeerClosed(Connection& c) {
  Of(c).transcript->peer_closed = true;
  if (server_kind_ == ServerKind::kTransform) Say(c, absl::StrCat("bye ", c.Random(), "\n"));
  Of(c).transcript->fin = true;
  c.Close();
}

void ModelServer::OnTimer(Connection& c, uint32_t timer) {
  on_call();
  Say(c, absl::StrCat("<", timer, " ", c.Random() % 1000, ">"));
  if (c.Random() % 2 == 0) c.SetTimer(timer + 1, std::chrono::microseconds(c.Random() % 5'000));
}

void ModelServer::OnClosed(Connection& c, CloseReason reason) {
  Of(c).transcript->closed = true;
  Of(c).transcript->reason = reason;
}

}  // namespace understudy::sim
