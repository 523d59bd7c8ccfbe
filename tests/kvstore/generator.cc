#include "tests/kvstore/generator.h"

#include <algorithm>
#include <cctype>
#include <utility>

#include "absl/strings/numbers.h"

namespace kvstore::test {
namespace {

// Connections 0 to 2 say anything; 1 begins in RESP3. What is picked at random needs one that is in no
// transaction.
constexpr uint64_t kAnything = 3;
constexpr size_t kResp3 = 1;
constexpr size_t kPicks = 3;

int TotalWeight() {
  int total = 0;
  for (const Form& form : Grammar()) total += form.weight;
  return total;
}

std::string Upper(std::string text) {
  for (char& c : text) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return text;
}

// A value in place of a time that comes soon, or for SET is over: see values.h.
void KeepTimesFarAway(std::vector<std::string>* args, Dice& dice) {
  constexpr int64_t kSoon = 1'000'000, kLate = 4'102'444'800;
  const std::string name = Upper((*args)[0]);
  for (size_t i = 2; i < args->size(); ++i) {
    const std::string before = Upper((*args)[i - 1]);
    const bool second =
        i == 2 && (name == "SETEX" || name == "PSETEX" || name == "EXPIRE" || name == "PEXPIRE");
    int64_t value = 0;
    if (!absl::SimpleAtoi((*args)[i], &value) || value <= 0) continue;
    if ((second || before == "EX" || before == "PX") && value < kSoon) {
      (*args)[i] = RandomValue("pttl", dice);
    }
    if (name == "SET" && (before == "EXAT" || before == "PXAT") && value < kLate) {
      (*args)[i] = RandomValue("plater", dice);
    }
  }
}

}  // namespace

const Form& Generator::AnyForm() {
  static const int total = TotalWeight();
  int left = static_cast<int>(dice_.Below(static_cast<uint64_t>(total)));
  for (const Form& form : Grammar()) {
    if ((left -= form.weight) < 0) return form;
  }
  return Grammar()[0];
}

std::vector<std::string> Generator::MakeArgs(const Form& form) {
  Choice choice;
  choice.below = [this](uint64_t n) { return dice_.Below(n); };
  choice.value = [this](std::string_view kind) -> std::vector<std::string> {
    if (kind == "request") return MakeArgs(AnyForm());
    return {RandomValue(kind, dice_)};
  };
  return Expand(form, choice);
}

void Generator::Spoil(std::vector<std::string>* args) {
  const size_t at = dice_.Below(args->size());
  const auto where = args->begin() + static_cast<std::ptrdiff_t>(at);
  static constexpr std::string_view kKinds[] = {"junk", "value", "int", "key"};
  switch (dice_.Below(5)) {
    case 0:
      if (args->size() > 1) args->erase(where);
      return;
    case 1: args->insert(where, RandomValue(dice_.OneOf(kKinds), dice_)); return;
    case 2: *where = RandomValue(dice_.OneOf(kKinds), dice_); return;
    case 3: args->push_back(*where); return;
    default: std::swap(*where, (*args)[dice_.Below(args->size())]); return;
  }
}

Request Generator::MakeRequest() {
  Request request;
  const Form& form = AnyForm();
  request.args = MakeArgs(form);
  // A spoiled SPOP may pop at random, and a spoiled SRANDMEMBER may ask for billions.
  if (form.name != "SPOP" && form.name != "SRANDMEMBER" && form.name != "ZRANDMEMBER" && dice_.Percent(7)) {
    Spoil(&request.args);
  }
  KeepTimesFarAway(&request.args, dice_);
  if (request.args[0] == "DEBUG" && request.args.size() == 3)
    request.args[2] = "0";  // not asleep for a minute
  if (request.args[0] == "SYNC")
    request.args[0] = "NOSYNC";  // FLUSHALL's, spoiled: no replica is wanted here
  // Names and options in any case; keys and values stay.
  for (std::string& arg : request.args) {
    const bool word = std::all_of(arg.begin(), arg.end(), [](char c) { return c >= 'A' && c <= 'Z'; });
    if (!word || !dice_.Percent(50)) continue;
    for (char& c : arg) c = dice_.Percent(50) ? static_cast<char>(std::tolower(c)) : c;
  }
  size_t bytes = 0;
  for (const std::string& arg : request.args) bytes += arg.size();
  request.inline_form = bytes < 1000 && dice_.Percent(5);
  return request;
}

Batch Generator::MakeBatch(size_t connection) {
  Batch batch;
  batch.connection = connection;
  batch.split = dice_.Percent(30) ? dice_.Number() | 1 : 0;
  do {
    batch.requests.push_back(MakeRequest());
    const std::string& name = batch.requests.back().args[0];
    if (name == "MULTI") in_multi_[connection] = true;
    if (name == "EXEC" || name == "DISCARD") in_multi_[connection] = false;
  } while (batch.requests.size() < 30 && dice_.Percent(85));
  if (in_multi_[connection] && dice_.Percent(60)) {
    batch.requests.push_back({{"EXEC"}});
    in_multi_[connection] = false;
  }
  return batch;
}

Batch Generator::MakePick() {
  Batch batch;
  batch.kind = Batch::Kind::kPick;
  batch.connection = kPicks;
  const std::string key = RandomValue("t", dice_);
  switch (dice_.Below(6)) {
    case 0: batch.requests.push_back({{"RANDOMKEY"}}); break;
    case 1: batch.requests.push_back({{"SPOP", key}}); break;
    case 2: batch.requests.push_back({{"SPOP", key, RandomValue("count", dice_)}}); break;
    case 3: batch.requests.push_back({{"SRANDMEMBER", key}}); break;
    case 4:
      batch.requests.push_back({{"ZRANDMEMBER", RandomValue("z", dice_), RandomValue("count", dice_)}});
      break;
    default: batch.requests.push_back({{"SRANDMEMBER", key, RandomValue("count", dice_)}}); break;
  }
  return batch;
}

Batch Generator::MakeWalk() {
  static constexpr Form kWalks[] = {
      {"SCAN", "0 {MATCH <pattern>|COUNT <walk>|TYPE <type>}", 1},
      {"HSCAN", "<h> 0 {MATCH <pattern>|COUNT <walk>}", 1},
      {"SSCAN", "<t> 0 {MATCH <pattern>|COUNT <walk>}", 1},
      {"ZSCAN", "<z> 0 {MATCH <pattern>|COUNT <walk>}", 1},
  };
  Batch batch;
  batch.kind = Batch::Kind::kWalk;
  Choice choice;
  choice.below = [this](uint64_t n) { return dice_.Below(n); };
  choice.value = [this](std::string_view kind) -> std::vector<std::string> {
    if (kind == "walk") return {std::to_string(1 + dice_.Below(12))};
    return {RandomValue(kind, dice_)};
  };
  batch.requests.push_back({Expand(dice_.OneOf(kWalks), choice)});
  return batch;
}

// A transaction with watched keys, and somebody who may change them.
void Generator::AddTransaction(Stream* stream) {
  const size_t one = dice_.Below(kAnything), other = (one + 1) % kAnything;
  Batch watch, change, transaction;
  watch.connection = transaction.connection = one;
  change.connection = other;
  Request keys = {{"WATCH"}};
  for (uint64_t i = 0; i <= dice_.Below(4); ++i) keys.args.push_back(RandomValue("key", dice_));
  watch.requests.push_back(std::move(keys));
  for (uint64_t i = 0; i <= dice_.Below(3); ++i) change.requests.push_back(MakeRequest());
  transaction.requests.push_back({{"MULTI"}});
  for (uint64_t i = 0; i < dice_.Below(6); ++i) transaction.requests.push_back(MakeRequest());
  transaction.requests.push_back({{dice_.Percent(90) ? "EXEC" : "DISCARD"}});
  in_multi_[one] = false;
  stream->push_back(std::move(watch));
  stream->push_back(std::move(change));
  stream->push_back(std::move(transaction));
}

Stream Generator::MakeStream() {
  Stream stream;
  Batch hello;
  hello.connection = kResp3;
  hello.requests.push_back({{"HELLO", "3"}});
  stream.push_back(hello);
  if (dice_.Percent(50)) {
    hello.connection = kPicks;
    stream.push_back(hello);
  }
  const uint64_t batches = 20 + dice_.Below(60);
  while (stream.size() < batches) {
    const uint64_t what = dice_.Below(100);
    if (what < 8) {
      stream.push_back(MakePick());
    } else if (what < 13) {
      stream.push_back(MakeWalk());
    } else if (what < 25) {
      AddTransaction(&stream);
    } else {
      stream.push_back(MakeBatch(dice_.Below(kAnything)));
    }
  }
  return stream;
}

}  // namespace kvstore::test
