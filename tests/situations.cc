#include "tests/situations.h"

#include <netinet/tcp.h>

#include <array>

#include "absl/strings/str_cat.h"

namespace understudy::lab {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

constexpr uint64_t kMiB = 1 << 20;

uint64_t Index(int i) { return static_cast<uint64_t>(i); }

bool SynAck(const SeenPacket& p) { return p.from_service && (p.flags & TH_SYN) != 0; }
bool Fin(const SeenPacket& p) { return p.from_service && (p.flags & TH_FIN) != 0; }
bool Reply(const SeenPacket& p) { return p.from_service && p.length > 0; }
bool ClientShut(const SeenPacket& p) { return !p.from_service && p.window == 0 && (p.flags & TH_RST) == 0; }

// Small and large messages back and forth, always some of them on the way in both directions.
class Echoes : public Situation {
 public:
  using Situation::Situation;
  std::string Before() override {
    for (uint64_t ahead : {1, 64, 1000, 10000, 65536, 300000}) {
      echoes_.push_back(stage_.fleet.Add(EchoPlan(
          {.bytes = 1 << 30, .seed = stage_.seed + ahead, .max_ahead = ahead, .pace = microseconds(200)})));
    }
    return RunUntilAll(echoes_, [](StreamClient* echo) { return echo->received() > 200; });
  }
  std::string Release() override {
    for (StreamClient* echo : echoes_) echo->FinishEcho(200);
    return "";
  }

 private:
  std::vector<StreamClient*> echoes_;
};

class Upload : public Situation {
 public:
  using Situation::Situation;
  std::string Before() override {
    StreamClient* upload = stage_.fleet.Add(UploadPlan(64 * kMiB, stage_.seed));
    return RunUntilAll(std::array{upload}, [](auto* up) { return up->sent() > 20 * kMiB; });
  }
};

class Download : public Situation {
 public:
  using Situation::Situation;
  std::string Before() override {
    StreamClient* download = stage_.fleet.Add(DownloadPlan(64 * kMiB, stage_.seed));
    return RunUntilAll(std::array{download}, [](auto* down) { return down->received() > 20 * kMiB; });
  }
};

// All at once, in the middle of their transfers.
class BothDirections : public Situation {
 public:
  using Situation::Situation;
  std::string Before() override {
    uint64_t seed = stage_.seed;
    std::array clients = {
        stage_.fleet.Add(UploadPlan(24 * kMiB, seed)), stage_.fleet.Add(DownloadPlan(24 * kMiB, seed + 1)),
        stage_.fleet.Add(EchoPlan({.bytes = 24 * kMiB, .seed = seed + 2, .max_ahead = 1 << 20}))};
    return RunUntilAll(clients, [](auto* c) { return c->sent() + c->received() > 4 * kMiB; });
  }
};

// The request has arrived, its reply is sent and lost on the way: nobody but the server can help.
class ReplyLost : public Situation {
 public:
  using Situation::Situation;
  std::string Before() override {
    clients_ = stage_.fleet.AddMany(4, [this](int i) {
      Plan plan = EchoPlan({.bytes = 2000, .seed = stage_.seed + Index(i), .max_ahead = 1000});
      plan.name = "reply lost";
      plan.send_first = 0;
      return plan;
    });
    std::string error = RunUntilAll(clients_, [](auto* c) { return c->connected(); });
    if (!error.empty()) return error;
    for (StreamClient* client : clients_) {
      client->DropIncoming(true);
      client->ReleaseSend();
    }
    return RunUntilSeen(clients_, Reply);
  }
  std::string Release() override {
    for (StreamClient* client : clients_) client->DropIncoming(false);
    return "";
  }

 private:
  std::vector<StreamClient*> clients_;
};

// SYN-ACKs sent, but none arrives before the server dies.
class SynAckLost : public Situation {
 public:
  using Situation::Situation;
  std::string Before() override {
    clients_ = stage_.fleet.AddMany(8, [this](int i) {
      Plan plan = EchoPlan({.bytes = 5000, .seed = stage_.seed + Index(i)});
      plan.name = "SYN-ACK lost";
      plan.deaf = true;
      return plan;
    });
    return RunUntilSeen(clients_, SynAck);
  }
  std::string Release() override {
    for (StreamClient* client : clients_) client->DropIncoming(false);
    return "";
  }

 private:
  std::vector<StreamClient*> clients_;
};

// The client has a connection and has not said a word; the server may not even have accepted it.
class JustConnected : public Situation {
 public:
  using Situation::Situation;
  std::string Before() override {
    clients_ = stage_.fleet.AddMany(20, [this](int i) {
      Plan plan = EchoPlan({.bytes = 5000, .seed = stage_.seed + Index(i)});
      plan.name = "just connected";
      plan.send_first = 0;
      return plan;
    });
    return RunUntilAll(clients_, [](auto* c) { return c->connected(); });
  }
  std::string Release() override {
    for (StreamClient* client : clients_) client->ReleaseSend();
    return "";
  }

 private:
  std::vector<StreamClient*> clients_;
};

// Handshakes at every stage, because nobody waits for them.
class ConnectStorm : public Situation {
 public:
  using Situation::Situation;
  std::string Before() override {
    stage_.fleet.AddMany(100, [this](int i) {
      Plan plan = EchoPlan({.bytes = 3000, .seed = stage_.seed + Index(i)});
      plan.name = "storm";
      return plan;
    });
    return "";
  }
};

class ClientHalfClosed : public Situation {
 public:
  using Situation::Situation;
  std::string Before() override {
    StreamClient* download = stage_.fleet.Add(HalfClosedDownloadPlan(16 * kMiB, stage_.seed));
    // And one that has nothing under way, most of the time.
    TimerClient* timer =
        stage_.fleet.AddTimer("half-closed timer", 50, 20 * static_cast<uint64_t>(Slowness()));
    std::string error = RunUntilAll(std::array{download}, [](auto* c) { return c->received() > 4 * kMiB; });
    if (!error.empty()) return error;
    error = RunUntilAll(std::array{timer}, [](auto* c) { return c->ticks() > 0; });
    if (!error.empty()) return error;
    timer->HalfClose();
    uint64_t ticks = timer->ticks();
    return RunUntilAll(std::array{timer}, [ticks](auto* c) { return c->ticks() > ticks; });
  }
};

class ServerHalfClosed : public Situation {
 public:
  using Situation::Situation;
  std::string Before() override {
    upload_ = stage_.fleet.Add(ServerHalfClosedPlan("half", 16 * kMiB, stage_.seed));
    Plan quiet = ServerHalfClosedPlan("quiet", 100000, stage_.seed + 1);
    quiet.name = "silent to a half-closed server";
    quiet.send_first = 1000;
    quiet_ = stage_.fleet.Add(quiet);
    return RunUntilAll(std::array{upload_, quiet_}, [this](auto* c) {
      return c->end_seen() && c->sent() >= (c == upload_ ? 4 * kMiB : 1000);
    });
  }
  std::string Release() override {
    quiet_->ReleaseSend();
    return "";
  }
  std::string Check(Namespace& client) override {
    Fleet reports(client);
    reports.Add(ReportPlan("half", 16 * kMiB, stage_.seed));
    reports.Add(ReportPlan("quiet", 100000, stage_.seed + 1));
    return reports.RunUntilDone(seconds(30) * Slowness());
  }

 private:
  StreamClient* upload_ = nullptr;
  StreamClient* quiet_ = nullptr;
};

// The orders in which two FINs can be under way.
class BothClosing : public Situation {
 public:
  using Situation::Situation;
  std::string Before() override {
    // Both FINs sent, the server's lost on the way.
    deaf_ = stage_.fleet.AddMany(3, [this](int i) {
      Plan plan = EchoPlan({.bytes = 1000, .seed = stage_.seed + Index(i)});
      plan.name = "closing, server's FIN lost";
      plan.hold_fin = true;
      return plan;
    });
    // The server has closed; the client knows and has not.
    late_ = stage_.fleet.AddMany(3, [](int) {
      Plan plan = AskPlan("CLOSE\n", "");
      plan.name = "closing, client last";
      plan.half_close_after_send = true;
      plan.hold_fin = true;
      return plan;
    });
    std::string error = RunUntilAll(deaf_, [](auto* c) { return c->received() == 1000; });
    if (!error.empty()) return error;
    error = RunUntilAll(late_, [](auto* c) { return c->end_seen(); });
    if (!error.empty()) return error;
    for (StreamClient* client : deaf_) {
      client->DropIncoming(true);
      client->ReleaseFin();
    }
    error = RunUntilSeen(deaf_, Fin);
    // And as fast as it goes.
    stage_.fleet.AddMany(20, [](int) {
      Plan plan = AskPlan("CLOSE\n", "");
      plan.name = "closing at once";
      plan.half_close_after_send = true;
      return plan;
    });
    return error;
  }
  std::string Release() override {
    for (StreamClient* client : deaf_) client->DropIncoming(false);
    for (StreamClient* client : late_) client->ReleaseFin();
    return "";
  }

 private:
  std::vector<StreamClient*> deaf_, late_;
};

class Idle : public Situation {
 public:
  using Situation::Situation;
  std::string Before() override {
    clients_ = stage_.fleet.AddMany(50, [this](int i) {
      Plan plan = EchoPlan({.bytes = 3000, .seed = stage_.seed + Index(i)});
      plan.name = "idle";
      plan.send_first = 1000;
      return plan;
    });
    // The request line is part of what is sent first.
    return RunUntilAll(clients_, [](auto* c) { return c->received() == 995; });
  }
  std::string Release() override {
    for (StreamClient* client : clients_) client->ReleaseSend();
    return "";
  }

 private:
  std::vector<StreamClient*> clients_;
};

// A client that does not read, until its window is shut.
class FullWindow : public Situation {
 public:
  using Situation::Situation;
  std::string Before() override {
    clients_ = stage_.fleet.AddMany(3, [this](int i) {
      Plan plan = DownloadPlan(8 * kMiB, stage_.seed + Index(i));
      plan.name = "full window";
      plan.reading = false;
      plan.receive_buffer = 8192 << (2 * i);
      return plan;
    });
    return RunUntilSeen(clients_, ClientShut);
  }
  std::string Release() override {
    // Still shut for a while after the takeover: the new node has to probe.
    std::string error = stage_.fleet.RunFor(milliseconds(300));
    for (StreamClient* client : clients_) client->SetReading(true);
    return error;
  }

 private:
  std::vector<StreamClient*> clients_;
};

// Bytes that have arrived and that the application has left unread.
class Unread : public Situation {
 public:
  using Situation::Situation;
  std::string Before() override {
    for (uint64_t bytes : {7, 1000, 200000}) {
      Plan plan = GatherPlan(bytes, 5, stage_.seed + bytes);
      plan.name = absl::StrCat("unread ", bytes);
      plan.send_first = bytes * 7 / 4 + plan.send.prefix.size();
      clients_.push_back(stage_.fleet.Add(plan));
    }
    return RunUntilAll(clients_,
                       [](auto* c) { return c->received() > 0 && c->sent() >= c->plan().send_first; });
  }
  std::string Release() override {
    for (StreamClient* client : clients_) client->ReleaseSend();
    return "";
  }

 private:
  std::vector<StreamClient*> clients_;
};

class Timers : public Situation {
 public:
  using Situation::Situation;
  std::string Before() override {
    std::vector<TimerClient*> timers;
    for (uint64_t i = 0; i < 10; ++i) {
      timers.push_back(stage_.fleet.AddTimer(absl::StrCat("timer ", i), 5 + 3 * i, 40));
    }
    return RunUntilAll(timers, [](auto* timer) { return timer->ticks() > 2; });
  }
};

template <typename Kind>
SituationKind Of(const char* name) {
  return {name, [](const Stage& stage) { return std::make_unique<Kind>(stage); }};
}

}  // namespace

const std::vector<SituationKind>& AllSituations() {
  static const std::vector<SituationKind> all = {
      Of<Echoes>("Echoes"),
      Of<Upload>("Upload64MiB"),
      Of<Download>("Download64MiB"),
      Of<BothDirections>("BothDirections"),
      Of<ReplyLost>("ReplyLost"),
      Of<SynAckLost>("SynAckLost"),
      Of<JustConnected>("JustConnected"),
      Of<ConnectStorm>("ConnectStorm"),
      Of<ClientHalfClosed>("ClientHalfClosed"),
      Of<ServerHalfClosed>("ServerHalfClosed"),
      Of<Idle>("Idle"),
      Of<FullWindow>("FullWindow"),
      Of<Unread>("Unread"),
      Of<Timers>("Timers"),
      Of<BothClosing>("BothClosing"),
  };
  return all;
}

}  // namespace understudy::lab
