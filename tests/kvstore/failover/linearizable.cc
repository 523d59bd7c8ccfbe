#include "tests/kvstore/failover/linearizable.h"

#include <algorithm>
#include <set>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "glog/logging.h"

namespace kvstore {

namespace {

std::string Bulk(const Value& value) {
  if (!value.has_value()) return "$-1\r\n";
  return absl::StrCat("$", value->size(), "\r\n", *value, "\r\n");
}

std::string Integer(int64_t value) { return absl::StrCat(":", value, "\r\n"); }

// Requests sent and answers received, in order of time, as a list from which both events of an operation
// can be taken out and put back.
class Events {
 public:
  explicit Events(const std::vector<Operation>& history) {
    struct At {
      int64_t ns;
      bool answer;  // at the same moment the sending comes first: more orders are allowed
      size_t operation;
    };
    std::vector<At> order;
    for (size_t i = 0; i < history.size(); ++i) {
      order.push_back({history[i].sent_ns, false, i});
      order.push_back({history[i].answered_ns, true, i});
    }
    std::sort(order.begin(), order.end(), [](const At& a, const At& b) {
      return std::tie(a.ns, a.answer, a.operation) < std::tie(b.ns, b.answer, b.operation);
    });
    nodes_.resize(order.size() + 1);  // node 0 is before the first
    answer_of_.resize(history.size());
    for (size_t i = 0; i < order.size(); ++i) {
      nodes_[i + 1] = {order[i].answer, order[i].operation, i, i + 2};
      if (order[i].answer) answer_of_[order[i].operation] = i + 1;
    }
    nodes_[0].next = 1;
    nodes_.push_back({});  // behind the last
  }

  size_t First() const { return nodes_[0].next; }
  size_t Next(size_t node) const { return nodes_[node].next; }
  bool AtEnd(size_t node) const { return node == nodes_.size() - 1; }
  bool IsAnswer(size_t node) const { return nodes_[node].answer; }
  size_t OperationOf(size_t node) const { return nodes_[node].operation; }

  void TakeOut(size_t sending) {
    Unlink(sending);
    Unlink(answer_of_[nodes_[sending].operation]);
  }
  void PutBack(size_t sending) {
    Relink(answer_of_[nodes_[sending].operation]);
    Relink(sending);
  }

 private:
  struct Node {
    bool answer = false;
    size_t operation = 0, previous = 0, next = 0;
  };
  void Unlink(size_t node) {
    nodes_[nodes_[node].previous].next = nodes_[node].next;
    nodes_[nodes_[node].next].previous = nodes_[node].previous;
  }
  void Relink(size_t node) {
    nodes_[nodes_[node].previous].next = node;
    nodes_[nodes_[node].next].previous = node;
  }

  std::vector<Node> nodes_;
  std::vector<size_t> answer_of_;
};

}  // namespace

std::string Describe(const Operation& operation) {
  std::string reply = operation.reply;
  while (!reply.empty() && (reply.back() == '\n' || reply.back() == '\r')) reply.pop_back();
  return absl::StrCat("client ", operation.client, " [", operation.sent_ns, ", ", operation.answered_ns, "] ",
                      absl::StrJoin(operation.request, " "), " -> ", reply);
}

std::pair<Value, std::string> StepOf(const Value& value, const std::vector<std::string>& request) {
  const std::string& name = request[0];
  if (name == "GET") return {value, Bulk(value)};
  if (name == "SET") return {request[1], "+OK\r\n"};
  if (name == "GETSET") return {request[1], Bulk(value)};
  if (name == "GETDEL") return {std::nullopt, Bulk(value)};
  if (name == "SETNX") return {value.has_value() ? value : request[1], Integer(value.has_value() ? 0 : 1)};
  if (name == "APPEND") {
    std::string longer = value.value_or("") + request[1];
    const auto size = static_cast<int64_t>(longer.size());
    return {std::move(longer), Integer(size)};
  }
  if (name == "INCR") {
    int64_t number = 0;
    if (value.has_value() && !absl::SimpleAtoi(*value, &number)) {
      return {value, "-ERR value is not an integer or out of range\r\n"};
    }
    return {absl::StrCat(number + 1), Integer(number + 1)};
  }
  LOG(FATAL) << "no model of " << name;
}

Judgement Judge(const std::vector<Operation>& history) {
  Events events(history);
  struct Chosen {
    size_t sending;
    Value before;
  };
  std::vector<Chosen> chosen;
  std::vector<size_t> longest;
  Value value;
  std::string done(history.size(), '0');  // which are in `chosen`
  absl::flat_hash_set<std::pair<std::string, Value>> seen;

  for (size_t node = events.First(); !events.AtEnd(events.First());) {
    if (!events.AtEnd(node) && !events.IsAnswer(node)) {
      const size_t operation = events.OperationOf(node);
      auto [after, reply] = StepOf(value, history[operation].request);
      done[operation] = '1';
      if (reply == history[operation].reply && seen.emplace(done, after).second) {
        chosen.push_back({node, std::exchange(value, std::move(after))});
        events.TakeOut(node);
        if (chosen.size() > longest.size()) {
          longest.clear();
          for (const Chosen& each : chosen) longest.push_back(events.OperationOf(each.sending));
        }
        node = events.First();
      } else {
        done[operation] = '0';
        node = events.Next(node);
      }
      continue;
    }
    // An answer whose request cannot come next: the last choice was wrong.
    if (chosen.empty()) break;
    const Chosen last = std::move(chosen.back());
    chosen.pop_back();
    value = last.before;
    done[events.OperationOf(last.sending)] = '0';
    events.PutBack(last.sending);
    node = events.Next(last.sending);
  }
  if (events.AtEnd(events.First())) return {true, ""};

  Judgement judgement;
  const std::set<size_t> in_order(longest.begin(), longest.end());
  const size_t from = longest.size() > 10 ? longest.size() - 10 : 0;
  judgement.why =
      absl::StrCat("an order of ", longest.size(), " of ", history.size(), " was found, ending with\n");
  for (size_t i = from; i < longest.size(); ++i) {
    absl::StrAppend(&judgement.why, "  ", Describe(history[longest[i]]), "\n");
  }
  absl::StrAppend(&judgement.why, "none of these can follow:\n");
  size_t shown = 0;
  for (size_t i = 0; i < history.size() && shown < 10; ++i) {
    if (in_order.contains(i)) continue;
    absl::StrAppend(&judgement.why, "  ", Describe(history[i]), "\n");
    ++shown;
  }
  return judgement;
}

}  // namespace kvstore
