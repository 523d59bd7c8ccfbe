// Is there an order of these requests, each at one moment between its sending and its answer, in which one
// server that does one thing after the other would have given these very answers? (Herlihy and Wing 1990;
// the search is Wing and Gong's with Lowe's memory of states that led nowhere.)
//
// Linearizability is local: a history is linearizable if the part of each key is. So one key at a time.
#ifndef UNDERSTUDY_TESTS_KVSTORE_FAILOVER_LINEARIZABLE_H_
#define UNDERSTUDY_TESTS_KVSTORE_FAILOVER_LINEARIZABLE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace kvstore {

// One request about the key, and its answer.
struct Operation {
  int client = 0;
  int64_t sent_ns = 0;               // before its first byte was written
  int64_t answered_ns = 0;           // after its last byte was read
  std::vector<std::string> request;  // {"SET", "17"}: without the key
  std::string reply;                 // as it came: "+OK\r\n"
};
std::string Describe(const Operation& operation);

// What one server does: its value before, the request -> its value after, the reply. Knows SET, GET, GETSET,
// SETNX, GETDEL, APPEND, INCR; anything else ends the program.
using Value = std::optional<std::string>;
std::pair<Value, std::string> StepOf(const Value& value, const std::vector<std::string>& request);

struct Judgement {
  bool linearizable = false;
  // Otherwise: the longest beginning of an order that was found, and what could not follow it.
  std::string why;
};
// The key was absent before the first operation.
Judgement Judge(const std::vector<Operation>& history);

}  // namespace kvstore

#endif  // UNDERSTUDY_TESTS_KVSTORE_FAILOVER_LINEARIZABLE_H_
