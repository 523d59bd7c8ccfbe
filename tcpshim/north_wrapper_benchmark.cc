// What the north wrapper costs: an echo on it against an echo on bare epoll, over loopback. Prints
// requests a second and, which other work on the machine disturbs less, the CPU time of the server's
// thread for each request.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>

#include "glog/logging.h"
#include "tcpshim/socket_north_wrapper.h"

namespace understudy::tcpshim {
namespace {

constexpr size_t kRequestSize = 64;

double CpuSeconds() {
  timespec time;
  PCHECK(::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time) == 0);
  return time.tv_sec + time.tv_nsec * 1e-9;
}

class Server {
 public:
  virtual ~Server() = default;
  virtual uint16_t port() const = 0;
  virtual void Run() = 0;   // until Stop
  virtual void Stop() = 0;  // from another thread
};

class BareServer : public Server {
 public:
  BareServer() : epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
    listener_.reset(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    const int on = 1;
    ::setsockopt(listener_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    PCHECK(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), size) == 0);
    PCHECK(::listen(listener_.get(), 4096) == 0);
    PCHECK(::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0);
    port_ = ntohs(address.sin_port);
    Watch(listener_.get());
  }
  uint16_t port() const override { return port_; }
  void Run() override {
    std::array<epoll_event, 512> events;
    std::array<char, 4096> buffer;
    while (!stop_) {
      const int count = ::epoll_wait(epoll_.get(), events.data(), events.size(), 10);
      for (int i = 0; i < count; ++i) {
        const int fd = events[i].data.fd;
        if (fd == listener_.get()) {
          while (true) {
            const int accepted = ::accept4(fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
            if (accepted < 0) break;
            connections_.emplace_back(accepted);
            Watch(accepted);
          }
          continue;
        }
        const ssize_t n = ::recv(fd, buffer.data(), buffer.size(), 0);
        if (n > 0) {
          PCHECK(::send(fd, buffer.data(), n, MSG_NOSIGNAL) == n);
        } else {
          PCHECK(::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr) == 0);
        }
      }
    }
  }
  void Stop() override { stop_ = true; }

 private:
  void Watch(int fd) {
    epoll_event event = {};
    event.events = EPOLLIN;
    event.data.fd = fd;
    PCHECK(::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0);
  }
  UniqueFd epoll_, listener_;
  std::vector<UniqueFd> connections_;
  uint16_t port_ = 0;
  std::atomic<bool> stop_ = false;
};

// Answers at the end of the turn, as a server does whose output waits for its log.
class NorthServer : public Server, public NorthWrapper::Log {
 public:
  NorthServer() {
    north_ = *SocketNorthWrapper::Create(loop_, this);
    CHECK(north_->Listen({INADDR_LOOPBACK, 0}, Connections::kStay).ok());
    buffer_.resize(1 << 20);
  }
  uint16_t port() const override { return north_->listening().port; }
  void Run() override {
    auto work = boost::asio::make_work_guard(loop_);
    loop_.run();
  }
  void Stop() override { loop_.stop(); }

  NorthWrapper::Accepted OnAccepted(int, const FourTuple&) override { return {.id = ++last_id_}; }
  absl::Span<char> BeginReceive(uint64_t) override { return absl::MakeSpan(buffer_).subspan(used_, 4096); }
  void EndReceive(uint64_t id, size_t size) override {
    if (size == 0) return;
    replies_.push_back({id, {buffer_.data() + used_, size}});
    used_ += size;
    if (used_ + 4096 > buffer_.size()) Reply();
  }
  void OnEndOfStream(uint64_t id) override { north_->Forget(id); }
  void OnBroken(uint64_t id, int) override { north_->Forget(id); }
  void OnWritable(uint64_t) override {}
  void OnTurnDone() override { Reply(); }

 private:
  void Reply() {
    for (const auto& [id, bytes] : replies_) {
      CHECK_EQ(bytes.iov_len, north_->Write(id, {&bytes, 1}));
    }
    replies_.clear();
    used_ = 0;
  }
  boost::asio::io_context loop_{1};
  std::unique_ptr<SocketNorthWrapper> north_;
  uint64_t last_id_ = 0;
  std::string buffer_;
  size_t used_ = 0;
  std::vector<std::pair<uint64_t, iovec>> replies_;
};

struct Result {
  double per_second = 0, cpu_us = 0;
};

Result Measure(Server& server, int connections, int requests) {
  double cpu = 0;
  std::thread thread([&] {
    const double before = CpuSeconds();
    server.Run();
    cpu = CpuSeconds() - before;
  });
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  std::vector<UniqueFd> clients;
  for (int i = 0; i < connections; ++i) {
    UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(server.port());
    PCHECK(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
    const int on = 1;
    ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    epoll_event event = {};
    event.events = EPOLLIN;
    event.data.fd = fd.get();
    PCHECK(::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd.get(), &event) == 0);
    clients.push_back(std::move(fd));
  }
  char request[kRequestSize] = {}, reply[4096];
  const auto start = std::chrono::steady_clock::now();
  for (const UniqueFd& client : clients) {
    PCHECK(::send(client.get(), request, sizeof(request), 0) == sizeof(request));
  }
  std::array<epoll_event, 512> events;
  for (int done = 0; done < requests;) {
    const int count = ::epoll_wait(epoll.get(), events.data(), events.size(), -1);
    for (int i = 0; i < count; ++i) {
      const ssize_t n = ::recv(events[i].data.fd, reply, sizeof(reply), 0);
      PCHECK(n == kRequestSize);
      ++done;
      PCHECK(::send(events[i].data.fd, request, sizeof(request), 0) == sizeof(request));
    }
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  server.Stop();
  thread.join();
  return {requests / seconds, cpu * 1e6 / requests};
}

Result Median(std::vector<Result> results) {
  Result median;
  const auto middle = results.begin() + results.size() / 2;
  std::nth_element(results.begin(), middle, results.end(),
                   [](auto& a, auto& b) { return a.per_second < b.per_second; });
  median.per_second = middle->per_second;
  std::nth_element(results.begin(), middle, results.end(),
                   [](auto& a, auto& b) { return a.cpu_us < b.cpu_us; });
  median.cpu_us = middle->cpu_us;
  return median;
}

int Main() {
  std::printf("%11s %28s %28s %18s\n", "connections", "bare epoll", "north wrapper", "ratio");
  for (const int connections : {1, 10, 50, 500}) {
    std::vector<Result> bare, north;
    for (int round = 0; round < 7; ++round) {
      const int requests = connections == 1 ? 30'000 : 150'000;
      BareServer bare_server;
      bare.push_back(Measure(bare_server, connections, requests));
      NorthServer north_server;
      north.push_back(Measure(north_server, connections, requests));
    }
    const Result a = Median(bare), b = Median(north);
    std::printf("%11d %12.0f/s %6.2f us CPU %12.0f/s %6.2f us CPU %8.2f %6.2f CPU\n", connections,
                a.per_second, a.cpu_us, b.per_second, b.cpu_us, b.per_second / a.per_second,
                b.cpu_us / a.cpu_us);
  }
  return 0;
}

}  // namespace
}  // namespace understudy::tcpshim

int main() { return understudy::tcpshim::Main(); }
