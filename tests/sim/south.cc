#include "tests/sim/south.h"

#include <arpa/inet.h>

#include <algorithm>

namespace understudy::sim {

using tcpshim::FourTuple;
using tcpshim::SeqAfter;
using tcpshim::SeqMax;

namespace {
FourTuple Outgoing(const Packet& packet) { return {packet.source, packet.destination}; }
FourTuple Incoming(const Packet& packet) { return {packet.destination, packet.source}; }
}  // namespace

South::Connection* South::Find(const FourTuple& tuple) {
  auto found = by_tuple.find(tuple);
  return found == by_tuple.end() ? nullptr : &*slots[found->second];
}

south_event South::NewEvent(uint32_t kind, const Packet& packet, const FourTuple& tuple, int64_t now_ns) {
  ++events_made;
  south_event event{};
  event.kind = kind;
  event.tuple = {htonl(tuple.local.ip), htonl(tuple.remote.ip), htons(tuple.local.port),
                 htons(tuple.remote.port)};
  event.seq = packet.seq;
  event.ack = packet.ack;
  event.window = packet.window;
  event.tsval = packet.tsval;
  event.at_ns = static_cast<uint64_t>(now_ns);
  return event;
}

bool South::OfOtherHandshake(const Connection& c, const Packet& packet) {
  const bool lone = packet.flags.ack && !packet.flags.syn && !packet.flags.fin && !packet.flags.rst;
  return lone && packet.payload.empty() && !c.ingress_seen && packet.ack - c.stable > 0xffff;
}

bool South::Egress(Packet& packet, bool by_hand, const Sender& sender, int64_t now_ns) {
  if (!MayTalk(now_ns)) return false;
  Connection* c = Find(Outgoing(packet));
  if (by_hand) {
    if (c != nullptr) NoteDeparture(*c, packet, true);
    return true;
  }
  if (c != nullptr && packet.flags.syn && packet.flags.ack && packet.seq != c->iss &&
      !mutations_.any_syn_ack) {
    c = nullptr;
  }
  if (c != nullptr && OfOtherHandshake(*c, packet)) c = nullptr;
  return c != nullptr ? KnownEgress(*c, packet) : UnknownEgress(packet, sender, now_ns);
}

void South::NoteDeparture(Connection& c, const Packet& packet, bool by_hand) {
  if (packet.flags.rst || !packet.flags.ack) return;
  const Seq edge = packet.ack + (uint32_t{packet.window} << (packet.flags.syn ? 0 : c.shift));
  if (!c.egress_seen) {
    c.last_ack = packet.ack;
    c.snd_max = packet.end();
    c.rcv_edge = edge;
    c.last_tsval = packet.tsval;
    c.egress_seen = true;
  } else {
    c.last_ack = SeqMax(c.last_ack, packet.ack);
    c.snd_max = SeqMax(c.snd_max, packet.end());
    c.rcv_edge = SeqMax(c.rcv_edge, edge);
    if (packet.timestamp_option) c.last_tsval = SeqMax(c.last_tsval, packet.tsval);
  }
  if (!by_hand && c.held && !SeqAfter(c.held_ack, packet.ack) &&
      !SeqAfter(c.held_ack + (uint32_t{c.held_window} << c.shift), edge)) {
    c.held = false;
  }
}

uint16_t South::FitWindow(const Connection& c, const Packet& packet, Seq ack) {
  uint32_t room = packet.ack - ack + (uint32_t{packet.window} << c.shift);
  if (c.window_limit != 0) room = std::min(room, c.window_limit);
  uint32_t window = room >> c.shift;
  if (c.egress_seen && SeqAfter(c.rcv_edge, ack + (window << c.shift))) {
    window = (c.rcv_edge - ack + (1u << c.shift) - 1) >> c.shift;
  }
  return static_cast<uint16_t>(std::min<uint32_t>(window, 65535));
}

bool South::LetPass(Connection& c, Packet& packet) {
  if (packet.flags.ack && !packet.flags.syn && !packet.flags.rst && !mutations_.no_window_fit) {
    packet.window = FitWindow(c, packet, packet.ack);
  }
  NoteDeparture(c, packet, false);
  return true;
}

bool South::KnownEgress(Connection& c, Packet& packet) {
  if (!mutations_.no_fin_rst_filter) {
    if (packet.flags.rst && !(c.flags & SOUTH_RST_OK)) return false;
    if (packet.flags.fin && !(c.flags & SOUTH_FIN_OK)) return false;
  }
  if (!packet.flags.rst && !(c.flags & SOUTH_OPEN) && !mutations_.no_syn_ack_hold) return false;
  const bool past = packet.flags.ack && !packet.flags.syn && SeqAfter(packet.ack, c.stable);
  if (!past || mutations_.no_clamp) return LetPass(c, packet);
  if (!packet.flags.rst) {
    if (!SeqAfter(c.held_ack, packet.ack)) {
      c.held_ack = packet.ack;
      c.held_seq = packet.end();
      c.held_tsval = packet.tsval;
      c.held_window = packet.window;
    }
    c.held = true;
  }
  if (packet.payload.empty() && !packet.flags.fin && !packet.flags.rst) return false;
  if (!mutations_.no_window_fit) packet.window = FitWindow(c, packet, c.stable);
  packet.ack = c.stable;
  NoteDeparture(c, packet, false);
  return true;
}

bool South::UnknownEgress(const Packet& packet, const Sender& sender, int64_t now_ns) {
  const FourTuple tuple = Outgoing(packet);
  if (packet.flags.rst) {
    if (mutations_.no_fin_rst_filter) return true;
    events.push_back(NewEvent(SOUTH_EVENT_RST_UNKNOWN, packet, tuple, now_ns));
    return false;
  }
  if (packet.flags.syn && packet.flags.ack) {
    // There may have been another SYN since the one that it answers.
    Syn syn;
    if (const auto found = syns_.find(tuple); found != syns_.end() && found->second.isn + 1 == packet.ack) {
      syn = found->second;
    }
    if (packet.wscale.has_value() && !syn.has_shift) return false;
    south_event event = NewEvent(SOUTH_EVENT_SYN_ACK, packet, tuple, now_ns);
    event.own_mss = event.peer_mss = 1012;
    if (packet.wscale.has_value()) {
      event.window_scaling = 1;
      event.snd_wscale = syn.shift;
      event.rcv_wscale = *packet.wscale;
    }
    event.timestamps = packet.timestamp_option;
    event.cookie = sender.cookie;
    events.push_back(event);
    return mutations_.no_syn_ack_hold;
  }
  return packet.payload.empty() && !packet.flags.fin && !sender.open;
}

bool South::Ingress(const Packet& packet, int64_t now_ns) {
  if (!gate) return false;
  const FourTuple tuple = Incoming(packet);
  Connection* c = Find(tuple);
  if (packet.flags.syn && !packet.flags.ack && !packet.flags.rst) {
    syns_[tuple] = {packet.seq, packet.wscale.has_value(), packet.wscale.value_or(0)};
    if (c != nullptr) events.push_back(NewEvent(SOUTH_EVENT_SYN_KNOWN, packet, tuple, now_ns));
  } else if (c != nullptr && packet.flags.rst) {
    if (!c->ingress_seen && packet.seq == c->stable) {
      events.push_back(NewEvent(SOUTH_EVENT_RST_HANDSHAKE, packet, tuple, now_ns));
    }
  } else if (c != nullptr) {
    NoteArrival(*c, packet, now_ns);
  }
  return c == nullptr || !(c->flags & SOUTH_NO_SOCKET);
}

void South::NoteArrival(Connection& c, const Packet& packet, int64_t now_ns) {
  if (!packet.flags.ack || packet.flags.syn || !c.egress_seen) return;
  if (SeqAfter(packet.ack, c.snd_max)) return;
  const Seq left = c.last_ack - 1;
  if (packet.seq - left > c.rcv_edge - left) return;
  if (!c.ingress_seen && c.snd_max == c.iss + 1 && packet.ack != c.snd_max) return;
  if (!c.ingress_seen || !SeqAfter(c.una, packet.ack)) {
    c.una = packet.ack;
    c.window = packet.window;
  }
  c.ingress_seen = true;
  if (c.wake_armed && !SeqAfter(c.wake_at, packet.ack)) {
    c.wake_armed = false;
    events.push_back(NewEvent(SOUTH_EVENT_ACKED, packet, c.tuple, now_ns));
  }
}

}  // namespace understudy::sim
