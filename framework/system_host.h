// Host on this machine: Boost.Asio, the kernel's sockets, the system's clocks.
#ifndef UNDERSTUDY_FRAMEWORK_SYSTEM_HOST_H_
#define UNDERSTUDY_FRAMEWORK_SYSTEM_HOST_H_

#include <memory>
#include <string>

#include <boost/asio/io_context.hpp>

#include "framework/host.h"

namespace understudy {

class SystemHost final : public Host {
 public:
  // Both outlive this object and all that it makes.
  SystemHost(boost::asio::io_context& loop, const Clock* clock) : loop_(loop), clock_(clock) {}

  const Clock& clock() const override { return *clock_; }
  uint64_t Random() override;
  void Post(std::function<void()> run) override;
  std::unique_ptr<Timer> NewTimer() override;
  std::unique_ptr<DescriptorWatch> WatchReadable(int fd, std::function<void()> readable) override;
  absl::StatusOr<std::shared_ptr<void>> LockAddress(uint32_t ip, const std::string& who) override;
  absl::StatusOr<std::unique_ptr<tcpshim::ServiceAddress>> NewServiceAddress(
      const tcpshim::ServiceAddress::Options& options) override;
  absl::StatusOr<std::unique_ptr<tcpshim::RawSender>> OpenRawSender() override;
  absl::StatusOr<std::unique_ptr<tcpshim::SouthWrapper>> AttachSouth(
      const tcpshim::SouthWrapper::Options& options) override;
  absl::StatusOr<tcpshim::UniqueFd> OpenListener(const tcpshim::SocketAddress& address,
                                                 tcpshim::Connections connections) override;
  absl::StatusOr<std::unique_ptr<tcpshim::NorthWrapper>> NewNorth(
      tcpshim::NorthWrapper::Log* log, const tcpshim::NorthWrapper::Options& options) override;
  std::unique_ptr<replication::Transport> NewTransport(
      const replication::Transport::Options& options) override;
  absl::StatusOr<std::unique_ptr<replication::Arbiter>> NewArbiter(const std::string& uri) override;
  std::unique_ptr<Replayer> NewReplayer(Executor* executor,
                                        std::function<void(std::string why)> unusable) override;

 private:
  boost::asio::io_context& loop_;
  const Clock* const clock_;
};

}  // namespace understudy

#endif  // UNDERSTUDY_FRAMEWORK_SYSTEM_HOST_H_
