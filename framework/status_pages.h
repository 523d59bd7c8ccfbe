// A node's status as the three things that --status serves: JSON, Prometheus text, HTML. Pure.
#ifndef UNDERSTUDY_FRAMEWORK_STATUS_PAGES_H_
#define UNDERSTUDY_FRAMEWORK_STATUS_PAGES_H_

#include <string>

#include "framework/node.h"

namespace understudy {

std::string StatusAsJson(const NodeStatus& status);
std::string StatusAsMetrics(const NodeStatus& status);
std::string StatusAsPage(const NodeStatus& status);

}  // namespace understudy

#endif  // UNDERSTUDY_FRAMEWORK_STATUS_PAGES_H_
