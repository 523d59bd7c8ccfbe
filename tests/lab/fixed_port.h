// A client that comes again and again, from the same port each time: what one connection leaves behind meets
// the next. Ordinary blocking sockets.
#ifndef UNDERSTUDY_TESTS_LAB_FIXED_PORT_H_
#define UNDERSTUDY_TESTS_LAB_FIXED_PORT_H_

#include <chrono>
#include <cstdint>
#include <string>

#include "tests/lab/namespace.h"

namespace understudy::lab {

class FixedPort {
 public:
  // `port` 0: the kernel's choice, another one each time.
  FixedPort(const Namespace& where, const std::string& server_ip, uint16_t server_port, uint16_t port)
      : where_(where), server_ip_(server_ip), server_port_(server_port), port_(port) {}

  enum class Until { kNothing, kAnswer, kEndOfStream };
  enum class End { kClose, kReset };
  // Connects, sends `request`, reads `answer` (and the end of the stream behind it), and ends the connection.
  // "" or what went wrong; `timeout` is for each step.
  std::string Ask(const std::string& request, const std::string& answer, Until until, End end,
                  std::chrono::milliseconds timeout);

 private:
  const Namespace& where_;
  const std::string server_ip_;
  const uint16_t server_port_, port_;
};

}  // namespace understudy::lab

#endif  // UNDERSTUDY_TESTS_LAB_FIXED_PORT_H_
