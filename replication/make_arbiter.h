// From the URI of --arbiter to an Arbiter.
#ifndef UNDERSTUDY_REPLICATION_MAKE_ARBITER_H_
#define UNDERSTUDY_REPLICATION_MAKE_ARBITER_H_

#include <boost/asio/io_context.hpp>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "replication/arbiter.h"

namespace understudy::replication {

//   file:/path     a file of this host (file_arbiter.h): demos and tests
//   unsafe-none    no arbiter: grants everything it is asked for, and says in the log what that
//   risks
// InvalidArgument for anything else names what there is. Callbacks run on `loop`, which outlives
// the arbiter.
absl::StatusOr<std::unique_ptr<Arbiter>> MakeArbiter(const std::string& uri, boost::asio::io_context& loop);

}  // namespace understudy::replication

#endif  // UNDERSTUDY_REPLICATION_MAKE_ARBITER_H_
