// Firewalls that track connections, seen with the eyes of an heir.
//
// A restored connection begins, for the heir's connection tracking, in the middle: its first segment is no
// SYN. With net.netfilter.nf_conntrack_tcp_loose = 1 (the default) it is NEW, with 0 it is INVALID, and rules
// that drop the one or the other end the connections of clients that nobody failed. docs/firewall.md has the
// way out.
#ifndef UNDERSTUDY_TCPSHIM_FIREWALL_H_
#define UNDERSTUDY_TCPSHIM_FIREWALL_H_

#include <string>
#include <vector>

#include "tcpshim/tcp_types.h"

namespace understudy::tcpshim {

// What a host says of its firewall.
struct Firewall {
  std::string rules;      // as `nft list ruleset` and `iptables-save` print them
  bool tracking = false;  // connections are tracked now
  bool loose = true;      // nf_conntrack_tcp_loose
};

// Of the network namespace of this process. Runs nft and iptables-save where they are, for two seconds at
// most; what cannot be read is not there.
Firewall ReadFirewall();

// One sentence for each thing that would stop restored connections to the service; empty: nothing was found,
// which is no proof. Rules that exempt the service from tracking (they name its port and say notrack) settle
// it.
std::vector<std::string> FirewallWarnings(const Firewall& firewall, const SocketAddress& service);

}  // namespace understudy::tcpshim

#endif  // UNDERSTUDY_TCPSHIM_FIREWALL_H_
