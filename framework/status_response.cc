#include "framework/status_response.h"

#include <algorithm>

#include <boost/asio/ip/address.hpp>
#include <boost/beast/core/string.hpp>

namespace understudy {
namespace {

namespace http = boost::beast::http;

// "[2001:db8::1]:80", "198.18.0.1:80", "node-a" without the port and the brackets.
std::string_view WithoutPort(std::string_view host) {
  if (!host.empty() && host.front() == '[') {
    const size_t end = host.find(']');
    return end == std::string_view::npos ? std::string_view() : host.substr(1, end - 1);
  }
  return host.substr(0, host.find(':'));
}

}  // namespace

bool HostPolicy::Allows(std::string_view host) const {
  if (any) return true;
  const std::string_view name = WithoutPort(host);
  if (boost::beast::iequals(name, "localhost")) return true;
  boost::system::error_code no_address;
  (void)boost::asio::ip::make_address(std::string(name), no_address);
  if (!no_address) return true;
  return std::any_of(names.begin(), names.end(), [&](const std::string& known) {
    return !known.empty() && boost::beast::iequals(name, known);
  });
}

http::response<http::string_body> Respond(const http::request<http::string_body>& request,
                                          const HostPolicy& hosts, const StatusPages& pages) {
  http::response<http::string_body> response;
  response.version(request.version());
  response.keep_alive(false);
  response.set(http::field::cache_control, "no-store");
  const auto fill = [&](http::status status, const char* type, std::string body) {
    response.result(status);
    response.set(http::field::content_type, type);
    response.body() = std::move(body);
    response.prepare_payload();
  };
  const auto host = request.find(http::field::host);
  const std::string_view target(request.target().data(), request.target().size());
  if (request.method() != http::verb::get && request.method() != http::verb::head) {
    response.set(http::field::allow, "GET, HEAD");
    fill(http::status::method_not_allowed, "text/plain", "only GET\n");
  } else if (host != request.end() &&
             !hosts.Allows(std::string_view(host->value().data(), host->value().size()))) {
    fill(http::status::misdirected_request, "text/plain",
         "this Host is not known here; ask by address, or see --status_allow_any_host\n");
  } else if (target == "/healthz") {
    fill(http::status::ok, "text/plain", "ok\n");
  } else if (target == "/status") {
    fill(http::status::ok, "application/json", pages.json());
  } else if (target == "/metrics") {
    fill(http::status::ok, "text/plain; version=0.0.4", pages.metrics());
  } else if (target == "/") {
    fill(http::status::ok, "text/html; charset=utf-8", pages.html());
  } else {
    fill(http::status::not_found, "text/plain", "there are /status, /metrics, /healthz and /\n");
  }
  // To HEAD, the length that GET would have.
  if (request.method() == http::verb::head) response.body().clear();
  return response;
}

}  // namespace understudy
