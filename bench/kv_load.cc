#include "bench/kv_load.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "glog/logging.h"

namespace understudy::bench {

namespace {

constexpr size_t kKeySize = 16;
constexpr size_t kValueSize = 64;
constexpr int kSilenceMs = 20000;

// Bytes of the answer to one request.
size_t ReplySize(KvRequest what) { return KvReplyBytes(what, 0).size(); }

// Writes the key's number over the digits at `at`.
void PutDigits(char* at, uint32_t key) {
  for (int i = 11; i >= 0; --i, key /= 10) at[i] = static_cast<char>('0' + key % 10);
}

}  // namespace

std::string KvKey(uint32_t key) { return absl::StrFormat("key:%012d", key); }

std::string KvValue(uint32_t key) { return KvKey(key) + std::string(kValueSize - kKeySize, 'v'); }

std::string KvRequestBytes(KvRequest what, uint32_t key) {
  if (what == KvRequest::kGet) return absl::StrCat("*2\r\n$3\r\nGET\r\n$16\r\n", KvKey(key), "\r\n");
  return absl::StrCat("*3\r\n$3\r\nSET\r\n$16\r\n", KvKey(key), "\r\n$64\r\n", KvValue(key), "\r\n",
                      what == KvRequest::kSetWait ? "*3\r\n$4\r\nWAIT\r\n$1\r\n1\r\n$1\r\n0\r\n" : "");
}

std::string KvReplyBytes(KvRequest what, uint32_t key) {
  switch (what) {
    case KvRequest::kSet: return "+OK\r\n";
    case KvRequest::kGet: return absl::StrCat("$64\r\n", KvValue(key), "\r\n");
    case KvRequest::kSetWait: return "+OK\r\n:1\r\n";
  }
  LOG(FATAL) << "no such request";
}

KvLoad::KvLoad(lab::Namespace& where, const std::string& ip, uint16_t port, const KvLoadOptions& options)
    : options_(options),
      random_(static_cast<std::mt19937::result_type>(options.seed)),
      epoll_(epoll_create1(EPOLL_CLOEXEC)) {
  PCHECK(epoll_ >= 0);
  connections_.resize(static_cast<size_t>(options.connections));
  for (size_t i = 0; i < connections_.size(); ++i) {
    connections_[i].fd = Connect(where, ip, port, "");
    connections_[i].keys.resize(static_cast<size_t>(options.pipeline));
    epoll_event event = {};
    event.events = EPOLLIN;
    event.data.u64 = i;
    PCHECK(epoll_ctl(epoll_, EPOLL_CTL_ADD, connections_[i].fd, &event) == 0);
  }
}

KvLoad::~KvLoad() {
  for (const Connection& connection : connections_) close(connection.fd);
  close(epoll_);
}

void KvLoad::Fill() {
  constexpr uint32_t kAtOnce = 1000;
  static_assert(kKeys % kAtOnce == 0);
  const int fd = connections_.front().fd;
  std::string replies(kAtOnce * ReplySize(KvRequest::kSet), 0);
  for (uint32_t first = 0; first < kKeys; first += kAtOnce) {
    std::string requests;
    for (uint32_t key = first; key < first + kAtOnce; ++key) {
      requests += KvRequestBytes(KvRequest::kSet, key);
    }
    SendAll(fd, requests.data(), requests.size());
    ReceiveAll(fd, replies.data(), replies.size());
  }
}

void KvLoad::AppendRequest(KvRequest what, uint32_t key) {
  static const std::array<std::string, 3> kTemplates = {KvRequestBytes(KvRequest::kSet, 0),
                                                        KvRequestBytes(KvRequest::kGet, 0),
                                                        KvRequestBytes(KvRequest::kSetWait, 0)};
  static const size_t kDigits = std::strlen("*3\r\n$3\r\nSET\r\n$16\r\nkey:");
  static const size_t kValueDigits = kDigits + 12 + std::strlen("\r\n$64\r\nkey:");
  const size_t at = request_.size();
  request_ += kTemplates[static_cast<size_t>(what)];
  PutDigits(request_.data() + at + kDigits, key);
  if (what != KvRequest::kGet) PutDigits(request_.data() + at + kValueDigits, key);
}

void KvLoad::Ask(Connection& connection, KvRequest what) {
  request_.clear();
  for (uint32_t& key : connection.keys) AppendRequest(what, key = static_cast<uint32_t>(random_() % kKeys));
  connection.received.clear();
  connection.asked = Clock::now();
  SendAll(connection.fd, request_.data(), request_.size());
}

bool KvLoad::Answered(Connection& connection, KvRequest what) {
  const size_t wanted = ReplySize(what) * connection.keys.size(), had = connection.received.size();
  connection.received.resize(wanted);
  const ssize_t size = recv(connection.fd, connection.received.data() + had, wanted - had, MSG_DONTWAIT);
  if (size < 0 && errno == EAGAIN) {
    connection.received.resize(had);
    return false;
  }
  PCHECK(size >= 0) << "recv";
  CHECK_GT(size, 0) << "the server has closed the connection after: " << connection.received.substr(0, had);
  connection.received.resize(had + static_cast<size_t>(size));
  if (connection.received.size() < wanted) return false;
  CheckAnswer(connection, what);
  return true;
}

void KvLoad::CheckAnswer(const Connection& connection, KvRequest what) const {
  static const std::array<std::string, 3> kReplies = {KvReplyBytes(KvRequest::kSet, 0),
                                                      KvReplyBytes(KvRequest::kGet, 0),
                                                      KvReplyBytes(KvRequest::kSetWait, 0)};
  static const size_t kDigits = std::strlen("$64\r\nkey:");
  std::string expected = kReplies[static_cast<size_t>(what)];
  const char* at = connection.received.data();
  for (uint32_t key : connection.keys) {
    if (what == KvRequest::kGet) PutDigits(expected.data() + kDigits, key);
    CHECK(memcmp(at, expected.data(), expected.size()) == 0) << "a wrong answer: " << connection.received;
    at += expected.size();
  }
}

uint64_t KvLoad::RunFor(KvRequest what, std::chrono::milliseconds warm_up, const std::function<void()>& begin,
                        std::chrono::milliseconds span, Samples* latencies) {
  uint64_t answered = 0;
  OnClientThread([&] {
    const auto from = Clock::now() + warm_up, end = from + span;
    bool counts = false;
    for (Connection& connection : connections_) Ask(connection, what);
    size_t open = connections_.size();
    std::array<epoll_event, 256> events;
    while (open > 0) {
      const int count = epoll_wait(epoll_, events.data(), events.size(), kSilenceMs);
      CHECK_GT(count, 0) << "no answer within " << kSilenceMs << " ms";
      for (int i = 0; i < count; ++i) {
        Connection& connection = connections_[events[static_cast<size_t>(i)].data.u64];
        if (!Answered(connection, what)) continue;
        const auto now = Clock::now();
        if (now >= end) {
          --open;
          continue;
        }
        if (!counts && now >= from) {
          counts = true;
          begin();
        }
        if (counts) {
          answered += connection.keys.size();
          latencies->Add(Microseconds(now - connection.asked));
        }
        Ask(connection, what);
      }
    }
  });
  return answered;
}

}  // namespace understudy::bench
