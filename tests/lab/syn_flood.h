// SYNs of clients that do not exist, as in a flood: each from another address of 198.19.0.0/16, which the
// hosts must have a route to by way of the client's (the constructor sees to it). Nobody answers what they
// are answered.
#ifndef UNDERSTUDY_TESTS_LAB_SYN_FLOOD_H_
#define UNDERSTUDY_TESTS_LAB_SYN_FLOOD_H_

#include <cstdint>
#include <string>

#include "tests/lab/lab.h"

namespace understudy::lab {

class SynFlood {
 public:
  explicit SynFlood(Lab& lab);
  ~SynFlood();
  SynFlood(const SynFlood&) = delete;
  SynFlood& operator=(const SynFlood&) = delete;

  void Send(Host host, int count);
  // What was sent to them, since the last call.
  struct Seen {
    int syn_acks = 0, resets = 0, others = 0;
  };
  Seen TakeSeen();

 private:
  Lab& lab_;
  int fd_ = -1;
  uint32_t next_ = 0;  // each address and port once
};

}  // namespace understudy::lab

#endif  // UNDERSTUDY_TESTS_LAB_SYN_FLOOD_H_
