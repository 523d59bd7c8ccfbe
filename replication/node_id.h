// Who a node is: its name, which of its lives this is, and where its replication endpoint is.
//
// The name is what people configure and what the register holds. It does not tell two processes apart that
// were started under it, one after the other; the incarnation does. Today nodes tell each other theirs at the
// join, and the primary's log shows it. The register will hold all three once a node can return with a log of
// its own, and once there are more nodes than the one peer that a flag names; until then they would tell
// nobody anything there, and its encoding is what it was.
#ifndef UNDERSTUDY_REPLICATION_NODE_ID_H_
#define UNDERSTUDY_REPLICATION_NODE_ID_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace understudy::replication {

struct NodeId {
  std::string name;          // IsNodeName (names.h)
  uint64_t incarnation = 0;  // random, another for each life of the process; 0: not known
  std::string endpoint;      // of the replication, "IP:PORT"; empty: not known

  bool operator==(const NodeId&) const = default;
  // "a/00c0ffee00c0ffee@198.18.0.1:7100"; what is not known is left out. No blanks, no commas: it fits into
  // the register and into lists of names.
  std::string ToString() const;
  // InvalidArgument: not one of those.
  static absl::StatusOr<NodeId> Parse(const std::string& text);
};

}  // namespace understudy::replication

#endif  // UNDERSTUDY_REPLICATION_NODE_ID_H_
