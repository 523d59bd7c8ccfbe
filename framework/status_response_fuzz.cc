// Whatever comes to the status port: it is answered or refused, with one well-formed response, and says
// nothing to a Host that it does not know.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <sstream>
#include <string_view>

#include <boost/asio/buffer.hpp>
#include <boost/beast/http.hpp>

#include "framework/status_response.h"

namespace http = boost::beast::http;

namespace {

void Expect(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  http::request_parser<http::string_body> parser;
  parser.body_limit(4096);
  parser.eager(true);
  boost::system::error_code error;
  parser.put(boost::asio::buffer(data, size), error);
  if (error || !parser.is_done()) return 0;
  const understudy::StatusPages pages{[] { return "secret"; }, [] { return "secret"; },
                                      [] { return "secret"; }};
  const understudy::HostPolicy hosts{false, {"node-a"}};
  const auto& request = parser.get();
  const auto response = understudy::Respond(request, hosts, pages);
  const auto result = response.result_int();
  Expect(result == 200 || result == 404 || result == 405 || result == 421);
  const auto host = request.find(http::field::host);
  const bool known =
      host == request.end() || hosts.Allows(std::string_view(host->value().data(), host->value().size()));
  Expect(known || response.body().find("secret") == std::string::npos);
  // What is sent can be read again.
  std::ostringstream sent;
  sent << response;
  http::response_parser<http::string_body> reader;
  reader.skip(request.method() == http::verb::head);
  reader.eager(true);
  const std::string bytes = sent.str();
  reader.put(boost::asio::buffer(bytes), error);
  Expect(!error);
  return 0;
}
