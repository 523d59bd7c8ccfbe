#include "framework/system_host.h"

#include <random>
#include <utility>

#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>

#include "framework/replay_thread.h"
#include "replication/make_arbiter.h"
#include "replication/socket_transport.h"
#include "tcpshim/address_lock.h"
#include "tcpshim/listener.h"
#include "tcpshim/socket_north_wrapper.h"

namespace understudy {
namespace {

using boost::system::error_code;

// A handler that is on its way already cannot be cancelled any more: it finds out by the number of its
// setting.
class AsioTimer final : public Timer {
 public:
  explicit AsioTimer(boost::asio::io_context& loop) : state_(std::make_shared<State>(loop)) {}
  ~AsioTimer() override { AsioTimer::Cancel(); }

  void Set(Time time, std::function<void()> run) override {
    state_->run = std::move(run);
    state_->due = time;
    state_->timer.expires_at(time);
    state_->timer.async_wait([state = state_, set = ++state_->set](error_code error) {
      if (error || set != state->set) return;
      state->due.reset();
      std::exchange(state->run, nullptr)();
    });
  }
  void Cancel() override {
    ++state_->set;
    state_->run = nullptr;
    state_->due.reset();
    state_->timer.cancel();
  }
  std::optional<Time> due() const override { return state_->due; }

 private:
  struct State {
    explicit State(boost::asio::io_context& loop) : timer(loop) {}
    boost::asio::steady_timer timer;
    uint64_t set = 0;
    std::function<void()> run;
    std::optional<Time> due;
  };
  const std::shared_ptr<State> state_;
};

class AsioWatch final : public DescriptorWatch {
 public:
  AsioWatch(boost::asio::io_context& loop, int fd, std::function<void()> readable)
      : state_(std::make_shared<State>(loop, fd, std::move(readable))) {
    Wait(state_);
  }
  ~AsioWatch() override {
    state_->ended = true;
    state_->descriptor.release();  // its owner closes it
  }

 private:
  struct State {
    State(boost::asio::io_context& loop, int fd, std::function<void()> readable)
        : descriptor(loop, fd), readable(std::move(readable)) {}
    boost::asio::posix::stream_descriptor descriptor;
    const std::function<void()> readable;
    bool ended = false;
  };
  static void Wait(const std::shared_ptr<State>& state) {
    state->descriptor.async_wait(boost::asio::posix::stream_descriptor::wait_read, [state](error_code error) {
      if (error || state->ended) return;
      state->readable();
      if (!state->ended) Wait(state);
    });
  }

  const std::shared_ptr<State> state_;
};

}  // namespace

uint64_t SystemHost::Random() {
  std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

void SystemHost::Post(std::function<void()> run) { boost::asio::post(loop_, std::move(run)); }

std::unique_ptr<Timer> SystemHost::NewTimer() { return std::make_unique<AsioTimer>(loop_); }

std::unique_ptr<DescriptorWatch> SystemHost::WatchReadable(int fd, std::function<void()> readable) {
  return std::make_unique<AsioWatch>(loop_, fd, std::move(readable));
}

absl::StatusOr<std::shared_ptr<void>> SystemHost::LockAddress(uint32_t ip, const std::string& who) {
  auto lock = tcpshim::AddressLock::Take(ip, who);
  if (!lock.ok()) return lock.status();
  return std::make_shared<tcpshim::AddressLock>(*std::move(lock));
}

absl::StatusOr<std::unique_ptr<tcpshim::ServiceAddress>> SystemHost::NewServiceAddress(
    const tcpshim::ServiceAddress::Options& options) {
  return tcpshim::ServiceAddress::Create(loop_, options);
}

absl::StatusOr<std::unique_ptr<tcpshim::RawSender>> SystemHost::OpenRawSender() {
  return tcpshim::RawSender::Open();
}

absl::StatusOr<std::unique_ptr<tcpshim::SouthWrapper>> SystemHost::AttachSouth(
    const tcpshim::SouthWrapper::Options& options) {
  return tcpshim::SouthWrapper::Attach(options);
}

absl::StatusOr<tcpshim::UniqueFd> SystemHost::OpenListener(const tcpshim::SocketAddress& address,
                                                           tcpshim::Connections connections) {
  return tcpshim::OpenListener(address, connections);
}

absl::StatusOr<std::unique_ptr<tcpshim::NorthWrapper>> SystemHost::NewNorth(
    tcpshim::NorthWrapper::Log* log, const tcpshim::NorthWrapper::Options& options) {
  return tcpshim::SocketNorthWrapper::Create(loop_, log, options);
}

std::unique_ptr<replication::Transport> SystemHost::NewTransport(
    const replication::Transport::Options& options) {
  return std::make_unique<replication::SocketTransport>(loop_, options);
}

absl::StatusOr<std::unique_ptr<replication::Arbiter>> SystemHost::NewArbiter(const std::string& uri) {
  return replication::MakeArbiter(uri, loop_);
}

std::unique_ptr<Replayer> SystemHost::NewReplayer(Executor* executor,
                                                  std::function<void(std::string)> unusable) {
  return std::make_unique<ReplayThread>(executor, [this, unusable = std::move(unusable)](std::string why) {
    Post([unusable, why = std::move(why)] { unusable(why); });
  });
}

}  // namespace understudy
