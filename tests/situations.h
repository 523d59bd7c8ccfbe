// Situations of connections in which a server may die: each brings clients into a state, and afterwards
// goes on with them to the last byte.
#ifndef UNDERSTUDY_TESTS_SITUATIONS_H_
#define UNDERSTUDY_TESTS_SITUATIONS_H_

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <ostream>
#include <set>
#include <string>
#include <vector>

#include "tests/lab/clients.h"
#include "tests/lab/process.h"
#include "tests/lab/segment_watch.h"

namespace understudy::lab {

struct Stage {
  Fleet& fleet;  // where the situation puts its clients; others' may be in it too
  SegmentWatch& watch;
  uint64_t seed;
};

class Situation {
 public:
  virtual ~Situation() = default;
  explicit Situation(const Stage& stage) : stage_(stage) {}
  // Brings its clients to where the fault is to meet them. Returns "" or what went wrong.
  virtual std::string Before() = 0;
  // After the fault: lets them go on to their ends. The fleet is then run until all are done.
  virtual std::string Release() { return ""; }
  // What is to be asked when all are done.
  virtual std::string Check(Namespace& /*client*/) { return ""; }

 protected:
  template <typename Clients, typename Condition>
  std::string RunUntilAll(const Clients& clients, const Condition& condition) {
    return stage_.fleet.RunUntil([&] { return std::all_of(clients.begin(), clients.end(), condition); },
                                 std::chrono::seconds(30) * Slowness());
  }
  // Until the watch has seen a packet that satisfies `condition` for each of the clients.
  template <typename Clients, typename Condition>
  std::string RunUntilSeen(const Clients& clients, const Condition& condition) {
    return stage_.fleet.RunUntil(
        [&] {
          std::set<uint16_t> seen;
          for (const SeenPacket& packet : stage_.watch.Packets()) {
            if (!packet.arp && condition(packet)) seen.insert(packet.client_port);
          }
          return std::all_of(clients.begin(), clients.end(),
                             [&](auto* client) { return seen.count(client->port()) > 0; });
        },
        std::chrono::seconds(30) * Slowness());
  }

  Stage stage_;
};

struct SituationKind {
  std::string name;
  std::function<std::unique_ptr<Situation>(const Stage&)> make;
};
inline void PrintTo(const SituationKind& kind, std::ostream* out) { *out << kind.name; }
const std::vector<SituationKind>& AllSituations();

}  // namespace understudy::lab

#endif  // UNDERSTUDY_TESTS_SITUATIONS_H_
