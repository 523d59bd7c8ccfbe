// Any bytes that come from the network or the arbiter: frames of a link, records, pulses, the register. They
// are refused, or they mean one thing, which is said again in the same bytes; nothing beyond them is read.
//
// The first byte says what they are taken for. untrusted_fuzz_test runs this shortly; for long see fuzz.bzl.
#include <thrift/protocol/TBinaryProtocol.h>
#include <thrift/transport/TBufferTransports.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <memory>
#include <string>
#include <string_view>

#include "replication/PrimaryService.h"
#include "replication/SecondaryService.h"
#include "replication/arbiter.h"
#include "replication/names.h"
#include "replication/pulse.h"
#include "replication/record.h"
#include "replication/wire_frame.h"

namespace understudy::replication {
namespace {

using apache::thrift::protocol::TBinaryProtocolT;
using apache::thrift::transport::TMemoryBuffer;

void Require(bool condition) {
  if (!condition) std::abort();
}

struct Deaf : wire::PrimaryServiceIf, wire::SecondaryServiceIf {
  void hello(wire::HelloReply&, const wire::HelloRequest&) override {}
  void join(wire::JoinReply&, const wire::JoinRequest&) override {}
  void append(wire::AppendReply&, const wire::AppendRequest& request) override {
    (void)RecordBatch::Parse(request.records, static_cast<Lsn>(request.first_lsn));
  }
  void handover(wire::HandoverReply&, const wire::HandoverRequest&) override {}
};

// What OpenFrame lets through must not be more than Thrift can take: as socket_link.cc does it.
void Frame(std::string_view bytes) {
  std::string frame(bytes);
  WireFrame envelope;
  if (!OpenFrame(frame, &envelope).empty()) return;
  const auto deaf = std::make_shared<Deaf>();
  const auto in_buffer = std::make_shared<TMemoryBuffer>(reinterpret_cast<uint8_t*>(frame.data()),
                                                         static_cast<uint32_t>(frame.size()));
  const auto in = std::make_shared<TBinaryProtocolT<TMemoryBuffer>>(in_buffer);
  const auto out = std::make_shared<TBinaryProtocolT<TMemoryBuffer>>(std::make_shared<TMemoryBuffer>());
  in->setStrict(true, true);
  in->setStringSizeLimit(static_cast<int32_t>(frame.size()));
  in->setContainerSizeLimit(static_cast<int32_t>(frame.size()));
  try {
    if (envelope.type == apache::thrift::protocol::T_CALL) {
      wire::PrimaryServiceProcessor primary(deaf);
      wire::SecondaryServiceProcessor secondary(deaf);
      if (envelope.method == "append" || envelope.method == "handover") secondary.process(in, out, nullptr);
      if (envelope.method == "join" || envelope.method == "hello") primary.process(in, out, nullptr);
    } else if (envelope.type == apache::thrift::protocol::T_REPLY) {
      wire::PrimaryServiceClient primary(in, out);
      wire::SecondaryServiceClient secondary(in, out);
      wire::HelloReply hello;
      wire::JoinReply join;
      wire::AppendReply append;
      wire::HandoverReply handover;
      if (envelope.method == "hello") primary.recv_hello(hello);
      if (envelope.method == "join") primary.recv_join(join);
      if (envelope.method == "append") secondary.recv_append(append);
      if (envelope.method == "handover") secondary.recv_handover(handover);
    }
  } catch (const std::exception&) {
    // The link is closed.
  }
}

void Records(std::string_view bytes) {
  const auto batch = RecordBatch::Parse(std::string(bytes), 7);
  if (!batch.ok()) return;
  Require(batch->bytes() == bytes);
  size_t size = 0;
  for (const RecordView& record : *batch) size += kRecordHeaderSize + record.body.size();
  Require(size == bytes.size());
}

void PulseDatagram(std::string_view bytes) {
  for (const std::string& key : {std::string(), std::string(32, 'k')}) {
    const auto message = DecodePulse(bytes, key);
    if (message.has_value()) Require(Encode(*message, key) == bytes);
  }
}

void RegisterFile(std::string_view bytes) {
  const auto reg = Register::Decode(std::string(bytes));
  if (!reg.ok()) {
    Require(std::string(reg.status().message()).find('\n') == std::string::npos);
    return;
  }
  Require(reg->holder.empty() || IsNodeName(reg->holder));
  Require(reg->secondary.empty() || IsNodeName(reg->secondary));
  Require(Register::Decode(reg->Encode()).value() == *reg);
  Require(Printable(bytes).find('\n') == std::string::npos);
}

}  // namespace
}  // namespace understudy::replication

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0]) {
    case 'f': understudy::replication::Frame(bytes); break;
    case 'r': understudy::replication::Records(bytes); break;
    case 'p': understudy::replication::PulseDatagram(bytes); break;
    case 'g': understudy::replication::RegisterFile(bytes); break;
    default: break;
  }
  return 0;
}
