#include "replication/udp_pulse_link.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <sstream>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include <boost/asio/buffer.hpp>
#include <boost/asio/ip/udp.hpp>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "replication/own_address.h"

namespace understudy::replication {
namespace {

namespace asio = boost::asio;
using asio::ip::udp;
using boost::system::error_code;

// A datagram longer than any pulse shows as one that is too long.
using Buffer = std::array<char, kMaxPulseSize + 1>;

timespec ToTimespec(nanoseconds span) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(span);
  return {static_cast<time_t>(seconds.count()), static_cast<long>((span - seconds).count())};
}

}  // namespace

struct UdpPulseLink::Impl {
  Impl(asio::io_context& loop, const std::string& key, Heard heard)
      : socket(loop), key(key), heard(std::move(heard)), wake_fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}
  ~Impl() {
    *alive = false;
    if (thread.joinable()) {
      stop = true;
      Wake();
      thread.join();
    }
    if (fd >= 0) close(fd);
    if (wake_fd >= 0) close(wake_fd);
  }

  void Receive();
  void Begin(Pulse* pulse);
  void Run(Pulse* pulse);
  void Wake() {
    const uint64_t one = 1;
    (void)!write(wake_fd, &one, sizeof one);  // full: it will wake as well
  }

  udp::socket socket;
  const std::string key;
  const Heard heard;
  Buffer buffer;
  std::shared_ptr<bool> alive = std::make_shared<bool>(true);  // for a receive that comes late

  const int wake_fd;
  int fd = -1;  // the thread's
  std::atomic<bool> stop{false};
  std::thread thread;
};

UdpPulseLink::UdpPulseLink(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
UdpPulseLink::~UdpPulseLink() = default;

absl::StatusOr<std::unique_ptr<UdpPulseLink>> UdpPulseLink::Open(asio::io_context& loop,
                                                                 const asio::ip::tcp::endpoint& own,
                                                                 const asio::ip::tcp::endpoint& peer,
                                                                 const std::string& key, Heard heard) {
  auto impl = std::make_unique<Impl>(loop, key, std::move(heard));
  const udp::endpoint local(own.address(), own.port());
  error_code error;
  if (impl->wake_fd < 0) error.assign(errno, boost::system::system_category());
  if (!error) impl->socket.open(local.protocol(), error);
  if (!error) impl->socket.bind(local, error);
  if (!error) BindToInterfaceOf(impl->socket.native_handle(), own.address(), peer.address(), error);
  if (!error) impl->socket.connect(udp::endpoint(peer.address(), peer.port()), error);
  if (!error) impl->socket.non_blocking(true, error);
  if (error) {
    std::ostringstream where;
    where << local;
    return absl::UnavailableError(
        absl::StrCat("cannot use UDP for replication at ", where.str(), ": ", error.message()));
  }
  impl->Receive();
  return std::unique_ptr<UdpPulseLink>(new UdpPulseLink(std::move(impl)));
}

void UdpPulseLink::Impl::Receive() {
  socket.async_receive(asio::buffer(buffer), [this, alive = alive](error_code error, size_t size) {
    // An unreachable peer shows here as an error too: it may come back.
    if (!*alive || error == asio::error::operation_aborted || !socket.is_open()) return;
    if (!error) {
      const auto answer = heard({buffer.data(), size});
      if (!*alive) return;
      if (answer.has_value() && socket.is_open()) {
        socket.send(asio::buffer(Encode(*answer, key)), 0, error);  // may be lost like any datagram
      }
    }
    if (socket.is_open()) Receive();
  });
}

void UdpPulseLink::Beat(Pulse* pulse) {
  Impl& impl = *impl_;
  if (impl.thread.joinable()) return impl.Wake();
  if (impl.fd >= 0) return impl.Begin(pulse);
  error_code error;
  impl.fd = impl.socket.release(error);
  CHECK(!error) << error.message();
  impl.Begin(pulse);
}

// Without a thread (the system may refuse one) calls of the Server must be short; nothing else depends on it.
void UdpPulseLink::Impl::Begin(Pulse* pulse) {
  try {
    thread = std::thread([this, pulse] { Run(pulse); });
    pthread_setname_np(thread.native_handle(), "pulse");
  } catch (const std::system_error& error) {
    LOG(ERROR) << "no thread for the pulse (" << error.what()
               << "): a call of the Server that takes longer than --suspect_after_ms looks like a death";
  }
}

int UdpPulseLink::fd() const { return impl_->thread.joinable() ? impl_->fd : impl_->socket.native_handle(); }

void UdpPulseLink::Impl::Run(Pulse* pulse) {
  Buffer datagram;
  std::array<pollfd, 2> wait = {pollfd{fd, POLLIN, 0}, pollfd{wake_fd, POLLIN, 0}};
  while (!stop) {
    const auto now = std::chrono::steady_clock::now();
    const Pulse::Next next = pulse->OnWake(now);
    if (next.send.has_value()) {
      const std::string bytes = Encode(*next.send, key);
      (void)send(fd, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);  // lost, when it fails
    }
    const timespec span = ToTimespec(std::max<nanoseconds>(next.wake_at - now, nanoseconds(0)));
    (void)ppoll(wait.data(), wait.size(), next.wake_at == MonotonicTime::max() ? nullptr : &span, nullptr);
    uint64_t wakes;
    if ((wait[1].revents & POLLIN) != 0) (void)!read(wake_fd, &wakes, sizeof wakes);
    // One at a time: a flood must not keep this thread from sending.
    const ssize_t size = recv(fd, datagram.data(), datagram.size(), MSG_DONTWAIT);
    if (size >= 0) {
      pulse->OnDatagram({datagram.data(), static_cast<size_t>(size)}, std::chrono::steady_clock::now());
    }
  }
}

}  // namespace understudy::replication
