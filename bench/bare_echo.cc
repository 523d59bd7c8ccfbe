#include "bench/bare_echo.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "glog/logging.h"

namespace understudy::bench {

namespace {
constexpr uint16_t kPingPongPort = 7900;
}  // namespace

BareEcho::BareEcho(lab::Lab& lab) {
  const int listener = lab.host(lab::Host::kB).Socket(AF_INET, SOCK_STREAM);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(kPingPongPort);
  PCHECK(bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  PCHECK(listen(listener, 1) == 0);
  client_ = Connect(lab.host(lab::Host::kA), lab::Lab::replication_ip(lab::Host::kB), kPingPongPort, "");
  const int server = accept(listener, nullptr, nullptr);
  PCHECK(server >= 0);
  close(listener);
  const int on = 1;
  PCHECK(setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0);
  echo_ = std::thread([server] {
    std::array<char, kPingSize> message;
    for (;;) {
      const ssize_t size = recv(server, message.data(), message.size(), 0);
      if (size <= 0) break;
      SendAll(server, message.data(), static_cast<size_t>(size));
    }
    close(server);
  });
}

BareEcho::~BareEcho() {
  close(client_);
  echo_.join();
}

Samples AskFor(int fd, std::chrono::milliseconds span,
               const std::function<std::string_view(uint64_t)>& request,
               const std::function<std::string_view(uint64_t)>& reply) {
  Samples samples;
  OnClientThread([&] {
    std::string answer;
    const auto ask = [&](uint64_t i) {
      const std::string_view question = request(i), expected = reply(i);
      answer.resize(expected.size());
      const auto begun = Clock::now();
      SendAll(fd, question.data(), question.size());
      ReceiveAll(fd, answer.data(), answer.size());
      const auto now = Clock::now();
      CHECK(answer == expected) << "asked " << question << " answered " << answer;
      return std::pair(begun, now);
    };
    // Another server was busy just now: the first exchanges find cold caches.
    uint64_t i = 0;
    for (; i < 20; ++i) ask(i);
    for (const auto end = Clock::now() + span;; ++i) {
      const auto [begun, now] = ask(i);
      samples.Add(Microseconds(now - begun));
      if (now >= end) return;
    }
  });
  return samples;
}

Samples PingFor(int fd, std::chrono::milliseconds span) {
  std::string message(kPingSize, 'r');
  const auto make = [&message](uint64_t i) -> std::string_view {
    memcpy(message.data(), &i, sizeof i);
    return message;
  };
  return AskFor(fd, span, make, make);
}

}  // namespace understudy::bench
