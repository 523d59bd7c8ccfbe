#include "tests/lab/clients.h"

#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "tests/apps/pattern.h"

namespace understudy::lab {

using workbench::ExtendCrc;
using workbench::FillPattern;

namespace {

uint32_t CrcOf(uint64_t seed, uint64_t bytes) {
  std::vector<char> piece(64 << 10);
  uint32_t crc = 0;
  for (uint64_t at = 0; at < bytes;) {
    size_t n = std::min<uint64_t>(piece.size(), bytes - at);
    FillPattern(seed, at, piece.data(), n);
    crc = ExtendCrc(crc, {piece.data(), n});
    at += n;
  }
  return crc;
}

std::string Total(uint64_t bytes, uint64_t seed) {
  return absl::StrCat(bytes, " ", CrcOf(seed, bytes), "\n");
}

sockaddr_in AddressOf(uint32_t ip, uint16_t port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(ip);
  address.sin_port = htons(port);
  return address;
}

// Why the kernel thinks what it thinks, for the report of a failure.
int Unacknowledged(int fd) {
  int bytes = 0;
  return ioctl(fd, SIOCOUTQ, &bytes) == 0 ? bytes : 0;
}

std::string TcpState(int fd) {
  tcp_info info = {};
  socklen_t size = sizeof(info);
  if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return "";
  return absl::StrCat(" [tcp state ", static_cast<int>(info.tcpi_state), ", unacked ", info.tcpi_unacked,
                      ", retransmits ", static_cast<int>(info.tcpi_retransmits), ", backoff ",
                      static_cast<int>(info.tcpi_backoff), ", probes ", static_cast<int>(info.tcpi_probes),
                      "]");
}

}  // namespace

void Stream::Fill(uint64_t offset, char* out, size_t size) const {
  if (offset < prefix.size() && size > 0) {
    size_t n = std::min<uint64_t>(size, prefix.size() - offset);
    memcpy(out, prefix.data() + offset, n);
    offset += n;
    out += n;
    size -= n;
  }
  uint64_t in_pattern = offset - prefix.size();
  if (in_pattern < bytes && size > 0) {
    size_t n = std::min<uint64_t>(size, bytes - in_pattern);
    FillPattern(seed, in_pattern, out, n);
    offset += n;
    out += n;
    size -= n;
  }
  if (size > 0) memcpy(out, suffix.data() + (offset - prefix.size() - bytes), size);
}

Plan EchoPlan(const EchoOptions& options, bool plain) {
  Plan plan;
  plan.name = "echo";
  if (!plain) plan.send.prefix = "ECHO\n";
  plan.send.bytes = plan.expect.bytes = options.bytes;
  plan.send.seed = plan.expect.seed = options.seed;
  plan.max_ahead = options.max_ahead;
  plan.piece = options.piece;
  plan.pace = options.pace;
  return plan;
}

Plan UploadPlan(uint64_t bytes, uint64_t seed) {
  Plan plan;
  plan.name = "upload";
  plan.send = {.prefix = "SINK\n", .bytes = bytes, .seed = seed, .suffix = ""};
  plan.expect.prefix = Total(bytes, seed);
  return plan;
}

Plan DownloadPlan(uint64_t bytes, uint64_t seed) {
  Plan plan;
  plan.name = "download";
  plan.send.prefix = absl::StrCat("SOURCE ", bytes, " ", seed, "\n");
  plan.expect = {.prefix = "", .bytes = bytes, .seed = seed, .suffix = ""};
  plan.half_close_after_send = false;
  return plan;
}

Plan HalfClosedDownloadPlan(uint64_t bytes, uint64_t seed) {
  Plan plan = DownloadPlan(bytes, seed);
  plan.name = "half-closed download";
  plan.half_close_after_send = true;
  return plan;
}

Plan ServerHalfClosedPlan(const std::string& name, uint64_t bytes, uint64_t seed) {
  Plan plan;
  plan.name = "upload to a half-closed server";
  plan.send = {.prefix = absl::StrCat("HALFCLOSE ", name, "\n"), .bytes = bytes, .seed = seed, .suffix = ""};
  return plan;
}

Plan GatherPlan(uint64_t bytes, int rounds, uint64_t seed) {
  Plan plan;
  plan.name = "gather";
  plan.send = {.prefix = absl::StrCat("GATHER ", bytes, "\n"),
               .bytes = bytes * static_cast<uint64_t>(rounds),
               .seed = seed,
               .suffix = ""};
  std::vector<char> piece(bytes);
  for (int i = 0; i < rounds; ++i) {
    FillPattern(seed, static_cast<uint64_t>(i) * bytes, piece.data(), bytes);
    absl::StrAppend(&plan.expect.prefix, ExtendCrc(0, {piece.data(), bytes}), "\n");
  }
  return plan;
}

Plan AnswerPlan(uint64_t bytes, int lines, uint64_t seed, size_t line_size) {
  Plan plan;
  plan.name = "pipeliner";
  plan.send.prefix = absl::StrCat("ANSWER ", bytes, " ", seed, "\n");
  const std::string line = std::string(line_size - 1, '.') + "\n";
  for (int i = 0; i < lines; ++i) plan.send.prefix += line;
  plan.expect = {.prefix = "", .bytes = bytes * static_cast<uint64_t>(lines), .seed = seed, .suffix = ""};
  return plan;
}

Plan ReportPlan(const std::string& name, uint64_t bytes, uint64_t seed) {
  return AskPlan(absl::StrCat("REPORT ", name, "\n"), Total(bytes, seed));
}

Plan AskPlan(const std::string& request, const std::string& answer) {
  Plan plan;
  plan.name = "asker";
  plan.send.prefix = request;
  plan.expect.prefix = answer;
  plan.half_close_after_send = false;
  return plan;
}

// --- Client --------------------------------------------------------------------------------------

uint16_t Client::port() const {
  sockaddr_in address = {};
  socklen_t size = sizeof(address);
  PCHECK(getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size) == 0);
  return ntohs(address.sin_port);
}

std::chrono::microseconds Client::longest_pause() const {
  if (done_ || last_received_ == Clock::time_point{}) return longest_pause_;
  return std::max(longest_pause_,
                  std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - last_received_));
}

void Client::ResetPause() {
  longest_pause_ = {};
  if (last_received_ != Clock::time_point{}) last_received_ = Clock::now();
}

void Client::DropIncoming(bool drop) {
  sock_filter nothing[] = {{BPF_RET | BPF_K, 0, 0, 0}};
  sock_fprog program = {.len = 1, .filter = nothing};
  if (drop) {
    PCHECK(setsockopt(fd_, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) == 0);
  } else {
    int unused = 0;
    PCHECK(setsockopt(fd_, SOL_SOCKET, SO_DETACH_FILTER, &unused, sizeof(unused)) == 0);
  }
}

void Client::NoteReceived(size_t n) {
  Clock::time_point now = Clock::now();
  if (last_received_ != Clock::time_point{}) {
    longest_pause_ =
        std::max(longest_pause_, std::chrono::duration_cast<std::chrono::microseconds>(now - last_received_));
  }
  last_received_ = now;
  received_ += n;
}

void Client::Fail(const std::string& what) {
  if (!error_.empty()) return;
  error_ = absl::StrCat(name_, ": ", what, ", after ", sent_, " bytes sent and ", received_, " received",
                        TcpState(fd_));
  done_ = true;
}

// --- StreamClient --------------------------------------------------------------------------------

uint64_t StreamClient::Allowed() const {
  uint64_t ahead_of = received_ + plan_.send.prefix.size();
  uint64_t limit = plan_.max_ahead > std::numeric_limits<uint64_t>::max() - ahead_of
                       ? std::numeric_limits<uint64_t>::max()
                       : ahead_of + plan_.max_ahead;
  return std::min({limit, plan_.send_first, plan_.send.size()});
}

short StreamClient::Wanted(Clock::time_point now) {
  if (!connected_) return POLLOUT;
  // A paced client looks when its time has come.
  if (now < next_turn_) return 0;
  short events = 0;
  if (plan_.reading && !eof_) events |= POLLIN;
  bool to_send = unsent_at_ < unsent_.size() || made_ < Allowed() ||
                 (made_ == plan_.send.size() && plan_.half_close_after_send && !plan_.hold_fin && !fin_sent_);
  if (to_send) events |= POLLOUT;
  return events;
}

void StreamClient::OnReady(short events) {
  if (!connected_) {
    int error = 0;
    socklen_t size = sizeof(error);
    getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0) return Fail(absl::StrCat("connect: ", strerror(error)));
    connected_ = true;
    events = POLLOUT;
  }
  if (plan_.pace.count() > 0) next_turn_ = Clock::now() + plan_.pace;
  if ((events & POLLOUT) != 0) Write();
  if (plan_.reading && (events & (POLLIN | POLLHUP | POLLERR)) != 0) Read();
  if (!plan_.reading && (events & POLLERR) != 0) {
    int error = 0;
    socklen_t size = sizeof(error);
    getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0) Fail(strerror(error));
  }
  bool all_sent = made_ == plan_.send.size() && unsent_at_ == unsent_.size() &&
                  (fin_sent_ || !plan_.half_close_after_send);
  bool all_received = received_ == plan_.expect.size() && (eof_ || !plan_.expect_eof);
  // Where the server has ended its stream first, only TCP tells that it has ours. (Both ended: poll wakes for
  // ever.)
  const bool server_has_all = !fin_sent_ || !eof_ || Unacknowledged(fd_) == 0;
  if (all_sent && server_has_all && all_received && error_.empty()) done_ = true;
}

void StreamClient::Write() {
  size_t budget = plan_.piece;
  while (budget > 0) {
    if (unsent_at_ == unsent_.size()) {
      uint64_t allowed = Allowed();
      if (made_ >= allowed) break;
      unsent_.resize(std::min<uint64_t>({allowed - made_, budget, 256u << 10}));
      unsent_at_ = 0;
      plan_.send.Fill(made_, unsent_.data(), unsent_.size());
      made_ += unsent_.size();
    }
    size_t size = std::min(budget, unsent_.size() - unsent_at_);
    ssize_t n = send(fd_, unsent_.data() + unsent_at_, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0) {
      if (errno == EAGAIN || errno == EINTR) return;
      return Fail(absl::StrCat("send: ", strerror(errno)));
    }
    unsent_at_ += static_cast<size_t>(n);
    sent_ += static_cast<size_t>(n);
    budget -= static_cast<size_t>(n);
  }
  if (made_ == plan_.send.size() && unsent_at_ == unsent_.size() && plan_.half_close_after_send &&
      !plan_.hold_fin && !fin_sent_) {
    if (shutdown(fd_, SHUT_WR) != 0) return Fail(absl::StrCat("shutdown: ", strerror(errno)));
    fin_sent_ = true;
  }
}

void StreamClient::Read() {
  static thread_local std::vector<char> buffer(256 << 10), expected(256 << 10);
  size_t size = std::min(buffer.size(), plan_.piece);
  ssize_t n = recv(fd_, buffer.data(), size, MSG_DONTWAIT);
  if (n < 0) {
    if (errno == EAGAIN || errno == EINTR) return;
    return Fail(absl::StrCat("recv: ", strerror(errno)));
  }
  if (n == 0) {
    eof_ = true;
    if (received_ < plan_.expect.size() || !plan_.expect_eof) Fail("the server ended too early");
    return;
  }
  size_t got = static_cast<size_t>(n);
  if (received_ + got > plan_.expect.size()) {
    return Fail(absl::StrCat("more bytes than expected: \"",
                             std::string(buffer.data(), std::min<size_t>(got, 60)), "\""));
  }
  plan_.expect.Fill(received_, expected.data(), got);
  if (memcmp(buffer.data(), expected.data(), got) != 0) {
    size_t at = 0;
    while (buffer[at] == expected[at]) ++at;
    return Fail(absl::StrCat("wrong byte at ", received_ + at));
  }
  NoteReceived(got);
}

void StreamClient::FinishEcho(uint64_t more) {
  CHECK(plan_.send.suffix.empty());
  const uint64_t prefix = plan_.send.prefix.size();  // it may not even have come so far
  plan_.send.bytes = std::min(plan_.send.bytes, std::max<uint64_t>(made_, prefix) - prefix + more);
  plan_.expect.bytes = plan_.send.bytes;
  plan_.half_close_after_send = true;
}

// --- TimerClient ---------------------------------------------------------------------------------

short TimerClient::Wanted(Clock::time_point) { return connected_ ? POLLIN : POLLOUT; }

void TimerClient::HalfClose() {
  half_closes_ = true;
  if (sent_ > 0 && shutdown(fd_, SHUT_WR) != 0) Fail(absl::StrCat("shutdown: ", strerror(errno)));
}

void TimerClient::OnReady(short) {
  if (!connected_) {
    int error = 0;
    socklen_t size = sizeof(error);
    getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0) return Fail(absl::StrCat("connect: ", strerror(error)));
    connected_ = true;
    std::string request = absl::StrCat("TIMER ", period_ms_, " ", count_, "\n");
    if (send(fd_, request.data(), request.size(), MSG_NOSIGNAL) < 0) Fail(strerror(errno));
    sent_ += request.size();
    if (half_closes_) HalfClose();
    return;
  }
  std::array<char, 4096> buffer;
  ssize_t n = recv(fd_, buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (n < 0) {
    if (errno != EAGAIN && errno != EINTR) Fail(absl::StrCat("recv: ", strerror(errno)));
    return;
  }
  if (n == 0) {
    if (ticks_ != count_ || !unread_.empty()) return Fail("the server ended too early");
    done_ = true;
    return;
  }
  NoteReceived(static_cast<size_t>(n));
  unread_.append(buffer.data(), static_cast<size_t>(n));
  size_t end;
  while (error_.empty() && (end = unread_.find('\n')) != std::string::npos) {
    Line(unread_.substr(0, end));
    unread_.erase(0, end + 1);
  }
}

void TimerClient::Line(const std::string& line) {
  std::istringstream words(line);
  uint64_t tick = 0, random = 0;
  int64_t now_us = 0;
  uint32_t chain = 0;
  if (!(words >> tick >> now_us >> random >> chain)) return Fail("no tick: " + line);
  if (tick != ticks_) return Fail(absl::StrCat("tick ", tick, " instead of ", ticks_));
  int64_t earliest = last_us_ == 0 ? 0 : last_us_ + static_cast<int64_t>(period_ms_) * 1000;
  if (now_us < earliest) {
    return Fail(absl::StrCat("tick ", tick, " is early: ", now_us, " instead of ", earliest));
  }
  chain_ = ExtendCrc(chain_, absl::StrCat(tick, " ", now_us, " ", random));
  if (chain != chain_) {
    return Fail(absl::StrCat("tick ", tick, ": the server remembers other ticks than it told"));
  }
  last_us_ = now_us;
  ++ticks_;
}

// --- Fleet ---------------------------------------------------------------------------------------

Fleet::Fleet(Namespace& where) : Fleet(where, Lab::kServiceIp, Lab::kServicePort) {}

Fleet::Fleet(Namespace& where, const std::string& ip, uint16_t port) : where_(where), port_(port) {
  in_addr address;
  CHECK_EQ(inet_pton(AF_INET, ip.c_str(), &address), 1) << ip;
  ip_ = ntohl(address.s_addr);
}

Fleet::~Fleet() {
  for (auto& client : clients_) close(client->fd_);
}

void Fleet::Connect(int fd, const Plan& plan) {
  int on = 1;
  if (plan.receive_buffer > 0) {
    PCHECK(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &plan.receive_buffer, sizeof(int)) == 0);
  }
  if (plan.send_buffer > 0) {
    PCHECK(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &plan.send_buffer, sizeof(int)) == 0);
  }
  if (plan.nodelay) PCHECK(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0);
  if (plan.bind_ip != 0 || plan.bind_port != 0) {
    sockaddr_in own = AddressOf(plan.bind_ip, plan.bind_port);
    PCHECK(bind(fd, reinterpret_cast<sockaddr*>(&own), sizeof(own)) == 0);
  }
  sockaddr_in to = AddressOf(ip_, port_);
  int result = connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof(to));
  PCHECK(result == 0 || errno == EINPROGRESS);
}

StreamClient* Fleet::Add(Plan plan) {
  return AddMany(1, [&plan](int) { return plan; })[0];
}

std::vector<StreamClient*> Fleet::AddMany(int count, const std::function<Plan(int)>& plan) {
  std::vector<StreamClient*> added;
  int i = 0;
  for (int fd : where_.Sockets(count, AF_INET, SOCK_STREAM | SOCK_NONBLOCK)) {
    Plan mine = plan(i);
    if (count > 1) mine.name = absl::StrCat(mine.name, " ", i);
    ++i;
    added.push_back(new StreamClient(mine, fd));
    clients_.emplace_back(added.back());
    if (mine.deaf) added.back()->DropIncoming(true);
    Connect(fd, mine);
  }
  return added;
}

TimerClient* Fleet::AddTimer(std::string name, uint64_t period_ms, uint64_t ticks) {
  int fd = where_.Socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK);
  Connect(fd, Plan());
  auto* client = new TimerClient(std::move(name), fd, period_ms, ticks);
  clients_.emplace_back(client);
  return client;
}

void Fleet::Turn(int wait_ms) {
  std::vector<pollfd> wanted;
  std::vector<Client*> who;
  auto now = std::chrono::steady_clock::now();
  for (auto& client : clients_) {
    if (client->done_) continue;
    short events = client->Wanted(now);
    if (now < client->next_turn_) {
      int64_t left = std::chrono::ceil<std::chrono::milliseconds>(client->next_turn_ - now).count();
      wait_ms = static_cast<int>(std::min<int64_t>(wait_ms, left));
      continue;  // not even errors: they are there later too
    }
    wanted.push_back({.fd = client->fd_, .events = events, .revents = 0});
    who.push_back(client.get());
  }
  int ready = poll(wanted.data(), wanted.size(), wait_ms);
  PCHECK(ready >= 0 || errno == EINTR);
  bool progress = false;
  for (size_t i = 0; i < who.size(); ++i) {
    if (wanted[i].revents == 0) continue;
    uint64_t before = who[i]->received_ + who[i]->sent_;
    who[i]->OnReady(wanted[i].revents);
    // Who is through ends its side, as most programs do. A server that has closed waits for a second, and
    // resets, rightly, whoever comes later.
    if (who[i]->done_) (void)shutdown(who[i]->fd_, SHUT_WR);
    progress = progress || who[i]->done_ || who[i]->received_ + who[i]->sent_ != before;
  }
  // A socket that is always ready for nothing (a hang-up seen by a client that does not read) must not
  // turn this into a busy loop.
  if (ready > 0 && !progress) poll(nullptr, 0, 1);
}

std::string Fleet::Errors() const {
  std::string errors;
  int count = 0;
  for (auto& client : clients_) {
    if (client->error_.empty()) continue;
    if (++count <= 10) absl::StrAppend(&errors, client->error_, "\n");
  }
  if (count > 10) absl::StrAppend(&errors, count, " clients failed in all\n");
  return errors;
}

std::string Fleet::Unfinished() const {
  std::string text;
  int count = 0;
  for (auto& client : clients_) {
    if (client->done_ || ++count > 10) continue;
    absl::StrAppend(&text, client->name_, client->connected_ ? "" : " (not connected)", ": sent ",
                    client->sent_, ", received ", client->received_, TcpState(client->fd_), "\n");
  }
  if (count > 10) absl::StrAppend(&text, count, " of ", clients_.size(), " in all\n");
  return text;
}

std::string Fleet::RunUntil(const std::function<bool()>& condition, std::chrono::milliseconds timeout) {
  auto deadline = std::chrono::steady_clock::now() + timeout;
  for (;;) {
    std::string errors = Errors();
    if (!errors.empty()) return errors;
    if (condition()) return "";
    if (std::chrono::steady_clock::now() > deadline) {
      return absl::StrCat("not within ", timeout.count(), " ms; unfinished are:\n", Unfinished());
    }
    Turn(5);
  }
}

std::string Fleet::RunUntilConnected(std::chrono::milliseconds timeout) {
  return RunUntil(
      [this] {
        return std::all_of(clients_.begin(), clients_.end(), [](auto& client) { return client->connected_; });
      },
      timeout);
}

std::string Fleet::RunUntilDone(std::chrono::milliseconds timeout) {
  return RunUntil(
      [this] {
        return std::all_of(clients_.begin(), clients_.end(), [](auto& client) { return client->done_; });
      },
      timeout);
}

std::string Fleet::RunUntilAllReceive(uint64_t bytes, std::chrono::milliseconds timeout) {
  std::vector<uint64_t> goals;
  for (auto& client : clients_) goals.push_back(client->received_ + bytes);
  return RunUntil(
      [this, &goals] {
        for (size_t i = 0; i < goals.size(); ++i) {
          if (!clients_[i]->done_ && clients_[i]->received_ < goals[i]) return false;
        }
        return true;
      },
      timeout);
}

std::string Fleet::RunFor(std::chrono::milliseconds time) {
  auto until = std::chrono::steady_clock::now() + time;
  return RunUntil([until] { return std::chrono::steady_clock::now() >= until; },
                  time + std::chrono::milliseconds(1000));
}

std::chrono::microseconds Fleet::longest_pause() const {
  std::chrono::microseconds longest{0};
  for (auto& client : clients_) longest = std::max(longest, client->longest_pause());
  return longest;
}

}  // namespace understudy::lab
