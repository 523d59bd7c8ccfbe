#include <absl/cleanup/cleanup.h>
#include <absl/container/flat_hash_map.h>
#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/time/time.h>
#include <absl/types/span.h>
#include <benchmark/benchmark.h>
#include <bpf/libbpf.h>
#include <gflags/gflags.h>
#include <glog/logging.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <isa-l/crc.h>
#include <leveldb/db.h>
#include <leveldb/write_batch.h>
#include <libmnl/libmnl.h>
#include <thrift/protocol/TBinaryProtocol.h>
#include <thrift/transport/TBufferTransports.h>
// After Thrift, as in the files that will use both.
#include <linux/rtnetlink.h>

#include <array>
#include <boost/asio.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/http.hpp>
#include <memory>
#include <string>
#include <thread>

#include "third_party/smoke/Smoke.h"
#include "third_party/smoke/smoke.skel.h"
#include "third_party/smoke/smoke_bpf.h"
#include "third_party/smoke/smoke_constants.h"

DEFINE_int32(smoke_number, 7, "A flag to look up");

namespace understudy {
namespace {

namespace asio = boost::asio;

TEST(SmokeTest, AbseilStatusAndContainers) {
  absl::flat_hash_map<std::string, int> map;
  for (int i = 0; i < 1000; ++i) map[absl::StrCat("key", i)] = i;
  auto find = [&map](const std::string& key) -> absl::StatusOr<int> {
    auto it = map.find(key);
    if (it == map.end()) return absl::NotFoundError(absl::StrFormat("no %s of %d", key, map.size()));
    return it->second;
  };
  EXPECT_EQ(*find("key999"), 999);
  EXPECT_EQ(find("lost").status().ToString(), "NOT_FOUND: no lost of 1000");

  bool cleaned = false;
  {
    absl::Cleanup cleanup = [&cleaned] { cleaned = true; };
  }
  EXPECT_TRUE(cleaned);
  std::array<int, 3> numbers = {1, 2, 3};
  EXPECT_EQ(absl::MakeSpan(numbers).subspan(1).size(), 2u);
  EXPECT_EQ(absl::FormatDuration(absl::Milliseconds(1500)), "1.5s");
}

// The check value of CRC-32C (RFC 3720). ISA-L leaves both inversions to its caller.
TEST(SmokeTest, IsalCrc32c) {
  std::string data = "123456789";
  uint32_t crc =
      ~crc32_iscsi(reinterpret_cast<unsigned char*>(data.data()), static_cast<int>(data.size()), 0xffffffffu);
  EXPECT_EQ(crc, 0xe3069283u);
}

asio::awaitable<void> EchoOnce(asio::ip::tcp::acceptor& acceptor) {
  auto socket = co_await acceptor.async_accept(asio::use_awaitable);
  std::array<char, 64> buffer;
  size_t n = co_await socket.async_read_some(asio::buffer(buffer), asio::use_awaitable);
  co_await asio::async_write(socket, asio::buffer(buffer, n), asio::use_awaitable);
}

asio::awaitable<void> Ask(asio::ip::tcp::endpoint server, std::string* answer) {
  asio::ip::tcp::socket socket(co_await asio::this_coro::executor);
  co_await socket.async_connect(server, asio::use_awaitable);
  co_await asio::async_write(socket, asio::buffer("ping", 4), asio::use_awaitable);
  answer->resize(4);
  co_await asio::async_read(socket, asio::buffer(*answer), asio::use_awaitable);
}

TEST(SmokeTest, AsioCoroutinesOverTcp) {
  asio::io_context io;
  asio::ip::tcp::acceptor acceptor(io, {asio::ip::address_v4::loopback(), 0});
  std::string answer;
  asio::co_spawn(io, EchoOnce(acceptor), asio::detached);
  asio::co_spawn(io, Ask(acceptor.local_endpoint(), &answer), asio::detached);
  std::thread thread([&io] { io.run(); });
  thread.join();
  EXPECT_EQ(answer, "ping");
}

TEST(SmokeTest, BeastParsesHttp) {
  boost::beast::http::request_parser<boost::beast::http::empty_body> parser;
  boost::system::error_code error;
  parser.eager(true);
  std::string text = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
  parser.put(asio::buffer(text), error);
  EXPECT_FALSE(error) << error.message();
  EXPECT_EQ(parser.get().target(), "/healthz");
}

class Appender : public smoke::SmokeNull {
 public:
  int64_t Append(const smoke::Entry& entry) override { return entry.lsn + entry.data.size(); }
};

// A whole call: client's frames in memory, processor, reply.
TEST(SmokeTest, ThriftCall) {
  using apache::thrift::protocol::TBinaryProtocol;
  using apache::thrift::transport::TMemoryBuffer;
  auto request = std::make_shared<TMemoryBuffer>();
  auto reply = std::make_shared<TMemoryBuffer>();
  auto in = std::make_shared<TBinaryProtocol>(request);
  auto out = std::make_shared<TBinaryProtocol>(reply);
  smoke::SmokeClient client(out, in);
  smoke::Entry entry;
  entry.__set_lsn(smoke::g_smoke_constants.ANSWER);
  entry.__set_data(std::string("a\0b", 3));
  client.send_Append(entry);
  smoke::SmokeProcessor processor(std::make_shared<Appender>());
  ASSERT_TRUE(processor.process(in, out, nullptr));
  EXPECT_EQ(client.recv_Append(), 45);
}

TEST(SmokeTest, LevelDbKeepsAcrossOpens) {
  leveldb::Options options;
  options.create_if_missing = true;
  std::string path = absl::StrCat(testing::TempDir(), "/smoke_db");
  std::unique_ptr<leveldb::DB> db;
  auto open = [&] {
    db.reset();
    leveldb::DB* raw = nullptr;
    leveldb::Status status = leveldb::DB::Open(options, path, &raw);
    db.reset(raw);
    return status.ToString();
  };
  ASSERT_EQ(open(), "OK");
  leveldb::WriteBatch batch;
  batch.Put("a", "1");
  leveldb::WriteOptions sync;
  sync.sync = true;
  ASSERT_TRUE(db->Write(sync, &batch).ok());
  ASSERT_EQ(open(), "OK");
  std::string value;
  ASSERT_TRUE(db->Get(leveldb::ReadOptions(), "a", &value).ok());
  EXPECT_EQ(value, "1");
}

class Sink : public google::LogSink {
 public:
  void send(google::LogSeverity, const char*, const char*, int, const google::LogMessageTime&,
            const char* message, size_t length) override {
    text.append(message, length);
  }
  std::string text;
};

TEST(SmokeTest, GlogAndGflags) {
  EXPECT_FALSE(gflags::SetCommandLineOption("smoke_number", "8").empty());
  EXPECT_EQ(FLAGS_smoke_number, 8);
  EXPECT_FALSE(gflags::SetCommandLineOption("logtostderr", "true").empty());
  Sink sink;
  google::AddLogSink(&sink);
  LOG(WARNING) << "number " << FLAGS_smoke_number;
  google::RemoveLogSink(&sink);
  EXPECT_THAT(sink.text, testing::HasSubstr("number 8"));
}

// Parses the object and its types. Loading needs the kernel's leave, which a sandbox does not have.
TEST(SmokeTest, BpfSkeletonOpens) {
  struct smoke* skeleton = smoke__open();
  ASSERT_NE(skeleton, nullptr);
  EXPECT_EQ(bpf_map__value_size(skeleton->maps.totals), sizeof(smoke_value));
  EXPECT_STREQ(bpf_program__name(skeleton->progs.smoke_count), "smoke_count");
  smoke__destroy(skeleton);
}

int SawLink(const nlmsghdr* message, void* count) {
  if (message->nlmsg_type == RTM_NEWLINK) ++*static_cast<int*>(count);
  return MNL_CB_OK;
}

// Any user may list the network's links.
TEST(SmokeTest, MnlListsLinks) {
  std::array<char, 32768> buffer;
  nlmsghdr* request = mnl_nlmsg_put_header(buffer.data());
  request->nlmsg_type = RTM_GETLINK;
  request->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  request->nlmsg_seq = 1;
  auto* link = static_cast<rtgenmsg*>(mnl_nlmsg_put_extra_header(request, sizeof(rtgenmsg)));
  link->rtgen_family = AF_PACKET;

  mnl_socket* netlink = mnl_socket_open(NETLINK_ROUTE);
  ASSERT_NE(netlink, nullptr);
  absl::Cleanup close = [netlink] { mnl_socket_close(netlink); };
  ASSERT_EQ(mnl_socket_bind(netlink, 0, MNL_SOCKET_AUTOPID), 0);
  unsigned port = mnl_socket_get_portid(netlink);
  ASSERT_GT(mnl_socket_sendto(netlink, request, request->nlmsg_len), 0);
  int count = 0;
  int more = MNL_CB_OK;
  while (more > MNL_CB_STOP) {
    ssize_t n = mnl_socket_recvfrom(netlink, buffer.data(), buffer.size());
    ASSERT_GT(n, 0);
    more = mnl_cb_run(buffer.data(), n, 1, port, SawLink, &count);
  }
  EXPECT_EQ(more, MNL_CB_STOP);
  EXPECT_GE(count, 1);
}

TEST(SmokeTest, BenchmarkLinks) {
  int runs = 0;
  benchmark::RegisterBenchmark("count", [&runs](benchmark::State& state) {
    for (auto _ : state) ++runs;
  })->Iterations(10);
  benchmark::ConsoleReporter reporter;
  EXPECT_EQ(benchmark::RunSpecifiedBenchmarks(&reporter), 1u);
  EXPECT_GE(runs, 10);
}

}  // namespace
}  // namespace understudy
