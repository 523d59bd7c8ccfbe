#include "replication/make_arbiter.h"

#include <glog/logging.h>

#include <boost/asio/post.hpp>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "replication/file_arbiter.h"

namespace understudy::replication {
namespace {

constexpr char kFile[] = "file:";
constexpr char kEtcd[] = "etcd:";

// Believes its own node, whatever it asks for: the node is alone in knowing of this register.
class UnsafeArbiter : public Arbiter {
 public:
  explicit UnsafeArbiter(boost::asio::io_context& loop) : loop_(loop) {
    LOG(WARNING) << "--arbiter=unsafe-none: nobody decides between the two nodes. If they lose sight "
                    "of each other while both live, both will serve: clients will talk to either, "
                    "and what one of them has acknowledged can be lost. Use an arbiter for anything "
                    "that matters.";
  }

  void Read(Callback done) override { Answer(false, std::move(done)); }
  void Probe(Callback done) override { Answer(false, std::move(done)); }
  bool shared() const override { return false; }

  void CompareAndSwap(const Register& expected, const Register& desired, Callback done) override {
    LOG(WARNING) << "--arbiter=unsafe-none: granting without asking anybody: from " << expected.ToString()
                 << " to " << desired.ToString();
    held_ = desired;
    Answer(true, std::move(done));
  }

 private:
  void Answer(bool swapped, Callback done) {
    boost::asio::post(loop_, [outcome = Outcome{swapped, held_}, done = std::move(done),
                              alive = std::weak_ptr<int>(alive_)] {
      if (!alive.expired()) done(outcome);
    });
  }

  boost::asio::io_context& loop_;
  Register held_;
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

}  // namespace

absl::StatusOr<std::unique_ptr<Arbiter>> MakeArbiter(const std::string& uri, boost::asio::io_context& loop) {
  if (uri == "unsafe-none") return std::make_unique<UnsafeArbiter>(loop);
  if (uri.rfind(kFile, 0) == 0) {
    std::string path = uri.substr(sizeof(kFile) - 1);
    if (path.empty() || path[0] != '/' || path.back() == '/') {
      return absl::InvalidArgumentError(
          absl::StrCat("--arbiter=", uri, ": file: needs an absolute path to a file"));
    }
    return std::make_unique<FileArbiter>(loop, std::move(path));
  }
  if (uri.rfind(kEtcd, 0) == 0) {
    return absl::UnimplementedError(absl::StrCat("--arbiter=", uri, ": etcd is not built in yet"));
  }
  return absl::InvalidArgumentError(
      absl::StrCat("--arbiter=", uri, ": unknown; there is file:/path, and unsafe-none for those who must"));
}

}  // namespace understudy::replication
