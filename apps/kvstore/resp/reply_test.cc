#include "apps/kvstore/resp/reply.h"

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <string_view>

#include <gtest/gtest.h>

namespace kvstore {
namespace {

using namespace std::string_literals;

void Expect(const std::function<void(Reply&)>& write, std::string_view resp2, std::string_view resp3) {
  for (int protocol : {2, 3}) {
    std::string out = "before";  // appended to, never overwritten
    Reply reply(&out, protocol);
    write(reply);
    EXPECT_EQ(out, "before" + std::string(protocol == 3 ? resp3 : resp2)) << "RESP" << protocol;
  }
}

void ExpectBoth(const std::function<void(Reply&)>& write, std::string_view expected) {
  Expect(write, expected, expected);
}

TEST(ReplyTest, SingleValues) {
  ExpectBoth([](Reply& r) { r.Ok(); }, "+OK\r\n");
  ExpectBoth([](Reply& r) { r.Simple("PONG"); }, "+PONG\r\n");
  ExpectBoth([](Reply& r) { r.Integer(-1); }, ":-1\r\n");
  ExpectBoth([](Reply& r) { r.Integer(std::numeric_limits<int64_t>::min()); }, ":-9223372036854775808\r\n");
  ExpectBoth([](Reply& r) { r.Bulk(""); }, "$0\r\n\r\n");
  ExpectBoth([](Reply& r) { r.Bulk("a\r\n\0b"s); }, "$5\r\na\r\n\0b\r\n"s);
  ExpectBoth([](Reply& r) { r.BulkInteger(-12); }, "$3\r\n-12\r\n");
  ExpectBoth([](Reply& r) { r.BulkInteger(std::numeric_limits<int64_t>::min()); },
             "$20\r\n-9223372036854775808\r\n");
  ExpectBoth([](Reply& r) { r.Raw("anything"); }, "anything");
  Expect([](Reply& r) { r.Null(); }, "$-1\r\n", "_\r\n");
  Expect([](Reply& r) { r.NullArray(); }, "*-1\r\n", "_\r\n");
  Expect([](Reply& r) { r.Verbatim("a\nb"); }, "$3\r\na\nb\r\n", "=7\r\ntxt:a\nb\r\n");
}

TEST(ReplyTest, AnErrorStaysOnItsLine) {
  ExpectBoth([](Reply& r) { r.Error("ERR unknown command 'a\r\nb'"); }, "-ERR unknown command 'a  b'\r\n");
  ExpectBoth([](Reply& r) { r.Error("ERR Unsupported option \r\n1\r\n"); },
             "-ERR Unsupported option   1\r\n");
}

TEST(ReplyTest, Headers) {
  ExpectBoth([](Reply& r) { r.Array(0); }, "*0\r\n");
  ExpectBoth([](Reply& r) { r.Array(12); }, "*12\r\n");
  Expect([](Reply& r) { r.Map(3); }, "*6\r\n", "%3\r\n");
  Expect([](Reply& r) { r.Set(3); }, "*3\r\n", "~3\r\n");
}

TEST(ReplyTest, HeadersPutInAfterTheirElements) {
  const auto with = [](void (Reply::*insert)(size_t, size_t)) {
    return [insert](Reply& r) {
      r.Ok();
      const size_t mark = r.mark();
      for (int i = 0; i < 4; ++i) r.Integer(i);
      (r.*insert)(mark, insert == &Reply::InsertMap ? 2 : 4);
    };
  };
  const std::string elements = ":0\r\n:1\r\n:2\r\n:3\r\n";
  ExpectBoth(with(&Reply::InsertArray), "+OK\r\n*4\r\n" + elements);
  Expect(with(&Reply::InsertMap), "+OK\r\n*4\r\n" + elements, "+OK\r\n%2\r\n" + elements);
  ExpectBoth(
      [](Reply& r) {
        r.Ok();
        r.InsertBulk(r.mark() - 5, "7");
      },
      "$1\r\n7\r\n+OK\r\n");
  Expect(with(&Reply::InsertSet), "+OK\r\n*4\r\n" + elements, "+OK\r\n~4\r\n" + elements);
}

TEST(ReplyTest, TakesNoMoreThanItIsAllowed) {
  std::string out = "before";
  Reply reply(&out, 2);
  reply.Allow(11);
  const size_t mark = reply.mark();
  reply.Bulk("12345");
  EXPECT_FALSE(reply.full());
  EXPECT_TRUE(reply.HasRoomFor(0));
  EXPECT_FALSE(reply.HasRoomFor(1));
  reply.InsertArray(mark, 1);
  EXPECT_TRUE(reply.full());
  EXPECT_FALSE(reply.HasRoomFor(0));
  EXPECT_EQ(out, "before$5\r\n12345\r\n");

  reply.Allow(3);
  EXPECT_FALSE(reply.full());
  reply.Error("ERR");
  EXPECT_TRUE(reply.full());
  reply.Raw("1");  // would fit, but what comes before it does not
  EXPECT_EQ(out, "before$5\r\n12345\r\n");
}

TEST(ReplyTest, TheProtocolMayChangeBetweenReplies) {
  std::string out;
  Reply reply(&out, 2);
  reply.Null();
  reply.set_protocol(3);
  reply.Null();
  EXPECT_EQ(reply.protocol(), 3);
  EXPECT_EQ(out, "$-1\r\n_\r\n");
}

}  // namespace
}  // namespace kvstore
