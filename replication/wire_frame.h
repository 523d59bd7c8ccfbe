// A frame of the link, looked at before Thrift does.
//
// Thrift's reader believes types and sizes as it meets them: it makes enum values of any byte, and
// room for whatever a string says it needs. Here a frame is walked once, by its sizes only, so that
// what Thrift gets is a well-formed message.
#ifndef UNDERSTUDY_REPLICATION_WIRE_FRAME_H_
#define UNDERSTUDY_REPLICATION_WIRE_FRAME_H_

#include <string>
#include <string_view>

namespace understudy::replication {

struct WireFrame {
  int type = 0;  // apache::thrift::protocol::TMessageType, as it came
  std::string_view method;
};

// Empty: `frame` is one whole message of the strict binary protocol, of the kinds of values that
// replication.thrift has. Otherwise what is wrong with it.
std::string OpenFrame(std::string_view frame, WireFrame* out);

}  // namespace understudy::replication

#endif  // UNDERSTUDY_REPLICATION_WIRE_FRAME_H_
