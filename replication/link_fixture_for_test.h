// What the tests of SocketLink have in common.
#ifndef UNDERSTUDY_REPLICATION_LINK_FIXTURE_FOR_TEST_H_
#define UNDERSTUDY_REPLICATION_LINK_FIXTURE_FOR_TEST_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <functional>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "replication/record.h"
#include "replication/socket_link.h"

namespace understudy::replication {

namespace asio = boost::asio;
using asio::ip::tcp;

inline constexpr std::chrono::seconds kPatience(20);
inline const asio::ip::address kHere = asio::ip::address_v4::loopback();

// Notes what it is told; what it answers can be set.
class Recorder : public Link::Handler {
 public:
  Verdict OnJoin(Link& link, const wire::JoinRequest& request, wire::JoinReply& reply) override {
    heard.push_back("join " + request.node);
    reply.node = "primary";
    reply.epoch = 3;
    reply.next_lsn = request.last_lsn + 1;
    reply.suspect_after_ms = 80;
    if (on_call) on_call(link);
    return verdict;
  }
  Verdict OnAppend(Link& link, wire::AppendRequest request, wire::AppendReply& reply) override {
    ++appends;
    bytes += request.records.size();
    last_append = std::move(request);
    reply.epoch = last_append.epoch;
    reply.stored_lsn = last_append.first_lsn;
    reply.sent_at_ns = last_append.sent_at_ns;
    reply.applied_lsn = 0;
    if (on_call) on_call(link);
    return verdict;
  }
  Verdict OnHandover(Link& link, const wire::HandoverRequest& request, wire::HandoverReply& reply) override {
    heard.push_back("handover " + request.why);
    reply.epoch = request.epoch;
    if (on_call) on_call(link);
    return verdict;
  }
  void OnJoinReply(Link& link, const wire::JoinReply& reply) override {
    heard.push_back("joined " + reply.node);
    if (on_reply) on_reply(link);
  }
  void OnAppendReply(Link& link, const wire::AppendReply& reply) override {
    replies.push_back(reply.stored_lsn);
    if (on_reply) on_reply(link);
  }
  void OnHandoverReply(Link& link, const wire::HandoverReply&) override {
    heard.push_back("handover answered");
    if (on_reply) on_reply(link);
  }
  void OnRefused(Link&, const wire::Refused& refused) override {
    heard.push_back("refused " + refused.detail);
  }
  void OnClosed(Link& link, const std::string& reason) override {
    EXPECT_FALSE(closed.has_value()) << "closed twice: " << reason;
    closed = reason;
    if (on_closed) on_closed(link);
  }
  void OnTurnDone(Link& link) override {
    ++turns;
    if (on_turn) on_turn(link);
  }

  std::vector<std::string> heard;
  std::vector<int64_t> replies;
  int appends = 0;
  int turns = 0;
  size_t bytes = 0;
  wire::AppendRequest last_append;
  std::optional<std::string> closed;
  Verdict verdict;
  std::function<void(Link&)> on_call, on_reply, on_closed, on_turn;
};

inline wire::AppendRequest Append(int64_t lsn, std::string records = "") {
  wire::AppendRequest request;
  request.epoch = 3;
  request.first_lsn = lsn;
  request.records = std::move(records);
  request.sent_at_ns = lsn * 1000;
  request.member = true;
  request.executed_lsn = 0;
  request.output_hash = -5;
  return request;
}

inline wire::JoinRequest JoinAs(const std::string& node) {
  wire::JoinRequest request;
  request.__set_settings({{"--one", "1"}, {"--two", ""}});
  request.protocol_version = 1;
  request.service_address = "10.0.0.1:80";
  request.node = node;
  request.epoch = 0;
  request.last_lsn = 0;
  return request;
}

class LinkTest : public testing::Test {
 protected:
  LinkTest() {
    auto made = LinkListener::Open(loop_, {kHere, 0}, kHere,
                                   [this](tcp::socket socket) { accepted_ = std::move(socket); });
    EXPECT_TRUE(made.ok()) << made.status();
    listener_ = *std::move(made);
  }

  // Runs the loop until something is so.
  bool Until(const std::function<bool()>& so) {
    const auto end = std::chrono::steady_clock::now() + kPatience;
    while (!so()) {
      loop_.restart();
      if (loop_.run_one_until(end) == 0) return so();
    }
    return true;
  }

  tcp::socket Dialed() {
    std::optional<tcp::socket> out;
    accepted_.reset();
    DialPeer(loop_, kHere, listener_->local(), kPatience, [&out](DialResult result, tcp::socket socket) {
      EXPECT_EQ(result, DialResult::kConnected);
      out = std::move(socket);
    });
    EXPECT_TRUE(Until([&] { return out.has_value() && accepted_.has_value(); }));
    return *std::move(out);
  }

  void Pair() {
    secondary_link_ = SocketLink::Start(Dialed(), &secondary_, secondary_security_);
    primary_link_ = SocketLink::Start(*std::move(accepted_), &primary_, primary_security_);
  }

  // A link on one end, bare bytes on the other.
  tcp::socket Bare(std::chrono::milliseconds timeout = std::chrono::seconds(20)) {
    tcp::socket socket = Dialed();
    primary_link_ = SocketLink::Start(*std::move(accepted_), &primary_, primary_security_, timeout);
    return socket;
  }

  std::string ClosedBy(const std::string& bytes) {
    tcp::socket socket = Bare();
    boost::system::error_code ignored;
    asio::write(socket, asio::buffer(bytes), ignored);
    EXPECT_TRUE(Until([this] { return primary_.closed.has_value(); }));
    std::string reason = primary_.closed.value_or("still open");
    primary_.closed.reset();
    return reason;
  }

  // What a real link sends first.
  std::string RealFrame(const std::function<void(Link&)>& send) {
    tcp::socket socket = Bare();
    send(*primary_link_);
    std::string bytes(4, '\0');
    asio::read(socket, asio::buffer(bytes));
    uint32_t length;
    memcpy(&length, bytes.data(), 4);
    bytes.resize(4 + ntohl(length));
    asio::read(socket, asio::buffer(bytes.data() + 4, bytes.size() - 4));
    primary_link_->Close();
    return bytes;
  }

  asio::io_context loop_;
  std::unique_ptr<LinkListener> listener_;
  std::optional<tcp::socket> accepted_;
  Recorder primary_, secondary_;
  LinkSecurity primary_security_, secondary_security_;
  std::shared_ptr<SocketLink> primary_link_, secondary_link_;
};

inline std::string Frame(const std::string& message) {
  const uint32_t length = htonl(static_cast<uint32_t>(message.size()));
  return std::string(reinterpret_cast<const char*>(&length), 4) + message;
}

inline std::string Message(uint8_t type, const std::string& method, const std::string& rest) {
  std::string out("\x80\x01\x00", 3);
  out += static_cast<char>(type);
  const uint32_t length = htonl(static_cast<uint32_t>(method.size()));
  out.append(reinterpret_cast<const char*>(&length), 4);
  return out + method + std::string(4, '\0') + rest;
}

}  // namespace understudy::replication

#endif  // UNDERSTUDY_REPLICATION_LINK_FIXTURE_FOR_TEST_H_
