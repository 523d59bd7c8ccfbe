// Names of nodes, and text that came from elsewhere.
#ifndef UNDERSTUDY_REPLICATION_NAMES_H_
#define UNDERSTUDY_REPLICATION_NAMES_H_

#include <cstddef>
#include <string>
#include <string_view>

namespace understudy::replication {

inline constexpr size_t kMaxNodeName = 64;
inline constexpr char kNodeNameWants[] = "1 to 64 letters, digits, '.', '_' or '-'";

// A name goes into the register, into logs and into status pages of both nodes: it is what kNodeNameWants
// says, wherever it comes from (a flag, the peer, the arbiter).
bool IsNodeName(std::string_view name);

// Text of a peer or a file, fit for one line of a log: what is not printable ASCII is escaped, what is beyond
// `max` bytes is left out.
std::string Printable(std::string_view text, size_t max = 200);

}  // namespace understudy::replication

#endif  // UNDERSTUDY_REPLICATION_NAMES_H_
