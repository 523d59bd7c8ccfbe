#include "tests/sim/south.h"

#include <arpa/inet.h>

#include <utility>

namespace understudy::sim {

using tcpshim::FourTuple;

namespace {

FourTuple Outgoing(const Packet& packet) { return {packet.source, packet.destination}; }
FourTuple Incoming(const Packet& packet) { return {packet.destination, packet.source}; }

south_segment SegmentOf(const Packet& packet) {
  south_segment segment = {};
  segment.seq = packet.seq;
  segment.ack = packet.ack;
  segment.payload = static_cast<uint32_t>(packet.payload.size());
  segment.window = packet.window;
  segment.flags =
      static_cast<uint8_t>((packet.flags.fin ? SOUTH_FIN : 0) | (packet.flags.syn ? SOUTH_SYN : 0) |
                           (packet.flags.rst ? SOUTH_RST : 0) | (packet.flags.ack ? SOUTH_ACK : 0));
  segment.timestamps = packet.timestamp_option;
  segment.tsval = packet.timestamp_option ? packet.tsval : 0;
  return segment;
}

// Segments have no size here; it is the one that all offer.
south_offer OfferOf(const Packet& packet) {
  return {1012, packet.wscale.value_or(0), static_cast<uint8_t>(packet.wscale.has_value())};
}

}  // namespace

south_connection* South::Find(const FourTuple& tuple) {
  auto found = slots.find(tuple);
  return found == slots.end() ? nullptr : &connections[found->second];
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

bool South::MayTalk(int64_t now_ns) const {
  if (!is_open()) return false;
  return mutations_.no_deadline || !south_is_late(&control, static_cast<uint64_t>(now_ns));
}

bool South::Egress(Packet& packet, bool by_hand, const Sender& sender, int64_t now_ns) {
  if (!MayTalk(now_ns)) return false;
  south_connection* const c = Find(Outgoing(packet));
  if (by_hand) return c == nullptr || HandEgress(*c, packet);
  if (c != nullptr && BelongsTo(*c, SegmentOf(packet))) return KnownEgress(*c, packet);
  return UnknownEgress(packet, sender, now_ns);
}

bool South::BelongsTo(const south_connection& c, const south_segment& segment) const {
  if (!south_is_incarnation(&c, &segment) && !mutations_.any_syn_ack) return false;
  return !south_is_other_handshake(&c, &segment);
}

// The verdict is told what a mutation wants it to believe, for as long as it is asked.
south_counter South::Judge(south_connection& c, const south_segment& segment, south_edits& edits) const {
  const uint32_t flags = c.flags;
  const Seq stable = c.stable;
  if (mutations_.no_fin_rst_filter) c.flags |= SOUTH_FIN_OK | SOUTH_RST_OK;
  if (mutations_.no_syn_ack_hold) c.flags |= SOUTH_OPEN;
  if (mutations_.no_clamp && south_is_past(&segment, stable)) c.stable = segment.ack;
  const south_counter verdict = south_judge(&c, &segment, &edits);
  c.flags = flags;
  c.stable = stable;
  if (mutations_.no_window_fit) edits.window = segment.window;
  return verdict;
}

bool South::KnownEgress(south_connection& c, Packet& packet) {
  const south_segment segment = SegmentOf(packet);
  south_edits edits = {};
  if (!south_leaves(Judge(c, segment, edits))) return false;
  packet.ack = edits.ack;
  packet.window = static_cast<uint16_t>(edits.window);
  south_note_departure(&c, &segment, &edits, SOUTH_BY_TCP);
  return true;
}

bool South::HandEgress(south_connection& c, Packet& packet) {
  south_segment segment = SegmentOf(packet);
  if (packet.timestamp_option) packet.tsval = segment.tsval = south_newest_tsval(&c, &segment);
  const south_edits edits = {packet.ack, south_newest_window(&c, &segment)};
  packet.window = static_cast<uint16_t>(edits.window);
  south_note_departure(&c, &segment, &edits, SOUTH_BY_HAND);
  return true;
}

bool South::UnknownEgress(const Packet& packet, const Sender& sender, int64_t now_ns) {
  const south_segment segment = SegmentOf(packet);
  switch (const south_counter verdict = south_judge_unknown(&segment, sender.open)) {
    case SOUTH_EGRESS_RST_UNKNOWN:
      if (mutations_.no_fin_rst_filter) return true;
      events.push_back(NewEvent(SOUTH_EVENT_RST_UNKNOWN, packet, Outgoing(packet), now_ns));
      return false;
    case SOUTH_EGRESS_SYN_ACK_HELD: return ReportSynAck(packet, sender, now_ns);
    default: return south_leaves(verdict);
  }
}

bool South::ReportSynAck(const Packet& packet, const Sender& sender, int64_t now_ns) {
  const FourTuple tuple = Outgoing(packet);
  const auto newest = syns_.find(tuple);
  const south_segment segment = SegmentOf(packet);
  const south_offer own = OfferOf(packet);
  south_offer client;
  if (south_match_syn(&segment, &own, newest == syns_.end() ? nullptr : &newest->second, &client) !=
      SOUTH_EGRESS_SYN_ACK_HELD) {
    return false;
  }
  south_event event = NewEvent(SOUTH_EVENT_SYN_ACK, packet, tuple, now_ns);
  south_tell_offers(&event, &own, &client);
  event.timestamps = packet.timestamp_option;
  event.cookie = sender.cookie;
  events.push_back(event);
  return mutations_.no_syn_ack_hold;
}

bool South::Ingress(const Packet& packet, int64_t now_ns) {
  if (!is_open()) return false;
  const FourTuple tuple = Incoming(packet);
  const south_segment segment = SegmentOf(packet);
  south_arrival arrival;
  south_arrive(Find(tuple), &segment, &arrival);
  if (arrival.remember_syn) syns_[tuple] = {packet.seq, OfferOf(packet)};
  if (arrival.report != 0) events.push_back(NewEvent(arrival.report, packet, tuple, now_ns));
  return arrival.verdict == SOUTH_INGRESS_PASSED;
}

}  // namespace understudy::sim
