// Whatever bytes come as a packet: they are refused or read within their bounds, and what was read can be
// built and read again.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "tcpshim/segment.h"

namespace {

void Expect(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using understudy::tcpshim::BuildPacket;
  using understudy::tcpshim::Checksum;
  using understudy::tcpshim::ParsePacket;
  const std::string_view packet(reinterpret_cast<const char*>(data), size);
  const auto read = ParsePacket(packet);
  Expect(read.ok() || !ParsePacket(packet, Checksum::kVerified).ok());
  if (!read.ok()) return 0;
  const std::string_view payload = read->payload;
  Expect(payload.empty() ||
         (payload.data() >= packet.data() && payload.data() + payload.size() <= packet.data() + size));
  const auto& segment = *read;
  const auto built = BuildPacket(segment);
  Expect(built.ok());
  const auto again = ParsePacket(*built, Checksum::kVerified);
  Expect(again.ok());
  Expect(again->source == segment.source && again->destination == segment.destination);
  Expect(again->seq == segment.seq && again->ack == segment.ack && again->window == segment.window);
  Expect(again->flags == segment.flags && again->payload == segment.payload);
  return 0;
}
