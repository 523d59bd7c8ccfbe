#include "framework/status_response.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/beast/http.hpp>

namespace understudy {
namespace {

namespace http = boost::beast::http;

class StatusResponseTest : public testing::Test {
 protected:
  http::response<http::string_body> Ask(http::verb method, const std::string& target,
                                        const std::string& host = "198.18.0.1:7480") {
    http::request<http::string_body> request(method, target, 11);
    if (!host.empty()) request.set(http::field::host, host);
    return Respond(request, hosts_, pages_);
  }

  HostPolicy hosts_{.any = false, .names = {"node-a", "Machine", ""}};
  StatusPages pages_{[] { return "json"; }, [] { return "metrics"; }, [] { return "page"; }};
};

TEST_F(StatusResponseTest, EachPage) {
  EXPECT_EQ(Ask(http::verb::get, "/status").body(), "json");
  EXPECT_EQ(Ask(http::verb::get, "/metrics").body(), "metrics");
  EXPECT_EQ(Ask(http::verb::get, "/").body(), "page");
  EXPECT_EQ(Ask(http::verb::get, "/healthz").body(), "ok\n");
  EXPECT_EQ(Ask(http::verb::get, "/healthz").result_int(), 200u);
  EXPECT_EQ(Ask(http::verb::get, "/statu").result_int(), 404u);
  EXPECT_EQ(Ask(http::verb::get, "").result_int(), 404u);
}

TEST_F(StatusResponseTest, HeadIsGetWithoutTheBody) {
  const auto head = Ask(http::verb::head, "/status");
  EXPECT_EQ(head.result_int(), 200u);
  EXPECT_EQ(head.body(), "");
  EXPECT_EQ(head[http::field::content_length], "4");
}

TEST_F(StatusResponseTest, OtherMethodsAreNotAllowed) {
  const auto refused = Ask(http::verb::post, "/status");
  EXPECT_EQ(refused.result_int(), 405u);
  EXPECT_EQ(refused[http::field::allow], "GET, HEAD");
}

TEST_F(StatusResponseTest, KnownHostsAreAnswered) {
  for (const char* host : {"", "198.18.0.1", "198.18.0.1:7480", "[2001:db8::1]:7480", "[::1]", "localhost",
                           "LOCALHOST:1", "node-a", "node-a:7480", "machine:7480"}) {
    EXPECT_EQ(Ask(http::verb::get, "/status", host).result_int(), 200u) << host;
  }
}

TEST_F(StatusResponseTest, UnknownHostsAreRefused) {
  for (const char* host :
       {"evil.example", "evil.example:7480", "node-a.evil.example", "localhost.evil.example",
        "198.18.0.1.evil.example", ":7480", "[", "[]", "[evil.example]", "a b"}) {
    const auto refused = Ask(http::verb::get, "/status", host);
    EXPECT_EQ(refused.result_int(), 421u) << host;
    EXPECT_THAT(refused.body(), testing::Not(testing::HasSubstr("json"))) << host;
  }
}

TEST_F(StatusResponseTest, AnyHostWhereThatIsAllowed) {
  hosts_.any = true;
  EXPECT_EQ(Ask(http::verb::get, "/status", "evil.example").result_int(), 200u);
}

}  // namespace
}  // namespace understudy
