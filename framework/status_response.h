// The answer to one HTTP request at --status. Pure: no socket, no clock.
#ifndef UNDERSTUDY_FRAMEWORK_STATUS_RESPONSE_H_
#define UNDERSTUDY_FRAMEWORK_STATUS_RESPONSE_H_

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/beast/http/message.hpp>
#include <boost/beast/http/string_body.hpp>

namespace understudy {

// Which Host headers are answered. A page of a foreign site that has its name resolve to this node's address
// (DNS rebinding) makes a browser ask with that site's name: such a request is refused.
struct HostPolicy {
  bool any = false;
  // Besides address literals, "localhost" and requests without a Host (HTTP/1.0). Case does not matter.
  std::vector<std::string> names;

  // `host`: the header's value, with or without a port.
  bool Allows(std::string_view host) const;
};

// What is served, by target: "/status", "/metrics", "/", "/healthz". A callback is asked only for its own.
struct StatusPages {
  std::function<std::string()> json, metrics, html;
};

// 200; 404 for another target; 405 for another method than GET and HEAD; 421 for a Host that is refused.
boost::beast::http::response<boost::beast::http::string_body> Respond(
    const boost::beast::http::request<boost::beast::http::string_body>& request, const HostPolicy& hosts,
    const StatusPages& pages);

}  // namespace understudy

#endif  // UNDERSTUDY_FRAMEWORK_STATUS_RESPONSE_H_
