// Workbench: a Server that behaves as the test or the benchmark at the other end asks it to. The first
// line of a connection says how:
//
//   ECHO                   send back what comes; close when the client is done
//   SINK                   read; when the client is done, answer "<bytes> <crc32c>\n" and close
//   SOURCE <bytes> <seed>  send that much of the pattern (pattern.h), then close
//   HALFCLOSE <name>       half-close at once, read on; when the client is done, keep count and CRC of
//                          what came under <name> and close
//   REPORT <name>          answer "<bytes> <crc32c>\n" of that connection, or "none\n", and close
//   TIMER <ms> <ticks>     every <ms> a line "<tick> <now in us> <random> <chain>\n", then close. `chain`
//                          covers all lines before, so one node that disagrees with another about time
//                          or chance gives itself away
//   GATHER <bytes>         leave everything unread until that much is there, then answer "<crc32c>\n" of it
//                          and begin again; close when the client is done
//   RECORD                 each line "<word>" is answered "kept <word>\n", or "full\n" while there is no room
//                          to keep anything (OnStorage); "?" is answered with the last word that was kept;
//                          FILL makes that room end; close when the client is done
//   FLOOD <bytes> <seed>   send that much of the pattern, whether anybody reads or not, then close
//   ANSWER <bytes> <seed>  each further line is answered with the next that many bytes of the pattern, but
//                          left unread while pending_output() is at --answer_mark; close when the client
//                          is done
//   STALL <ms>             wait that long, in real time, inside this one call; then answer "done\n" and close
//   BURN <ms>              the same, computing
//   THROW                  throw an exception
//   CRASH                  die of SIGSEGV
//   CLOSE                  close at once
//   ABORT                  reset
//
// Anything else is answered "what?\n" and closed. With --greeting the server speaks first. The other flags
// make it what a server with a disk may be.
#include <gflags/gflags.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <fstream>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "framework/run.h"
#include "framework/server.h"
#include "tests/apps/pattern.h"

DEFINE_string(greeting, "", "What the server says to each new connection, followed by a newline");
DEFINE_string(initial_state, "", "What the server says it begins with");
DEFINE_string(cannot_start, "", "There can be no server, for this reason");
DEFINE_bool(stalls, true, "STALL and BURN take the time they are asked to take");
DEFINE_string(commit_fails_if, "", "Path: while there is something, the server cannot commit, and is broken");
DEFINE_string(commit_full_if, "", "Path: while there is something, the server cannot commit now");
DEFINE_string(commit_alone_to, "",
              "Path: where a commit that is told to be alone writes down how far it went");
DEFINE_uint64(answer_mark, 0, "Pending output from which on ANSWER reads no more; 0: high_water()");
DEFINE_bool(transactional, false, "A call that throws has changed nothing");
DEFINE_string(must_agree, "", "What both nodes must be given alike");

DEFINE_string(hangs_if, "", "Path: while there is something, calls of the server do not end");

namespace understudy::workbench {

class Workbench : public Server {
 public:
  std::string InitialState() override { return FLAGS_initial_state; }

  bool Transactional() const override { return FLAGS_transactional; }
  Settings MustAgree() override { return ValuesOfFlags({"must_agree"}); }

  absl::Status Commit(const CommitPoint& point) override {
    if (IsThere(FLAGS_commit_fails_if)) return absl::UnavailableError("the workbench is broken");
    if (IsThere(FLAGS_commit_full_if)) return absl::ResourceExhaustedError("no space left on the workbench");
    if (point.alone && !FLAGS_commit_alone_to.empty()) {
      if (!IsThere(FLAGS_commit_alone_to)) usleep(300'000);  // so that what does not wait for it is found out
      std::ofstream(FLAGS_commit_alone_to) << point.executed << "\n";
    }
    return absl::OkStatus();
  }

  void OnStorage(bool writable) override { writable_ = writable; }

  void OnConnect(Connection& c) override {
    c.set_context(std::make_unique<Job>());
    if (!FLAGS_greeting.empty()) c.Send(FLAGS_greeting + "\n");
  }

  size_t OnData(Connection& c, std::string_view unread) override {
    while (!FLAGS_hangs_if.empty() && access(FLAGS_hangs_if.c_str(), F_OK) == 0) usleep(1000);
    Job& job = JobOf(c);
    size_t consumed = 0;
    if (job.kind == Kind::kUnknown) {
      size_t end = unread.substr(0, kMaxLine).find('\n');
      if (end == std::string_view::npos) {
        if (unread.size() >= kMaxLine) Refuse(c);
        return unread.size() >= kMaxLine ? unread.size() : 0;
      }
      Begin(c, unread.substr(0, end));
      consumed = end + 1;
    }
    std::string_view bytes = unread.substr(consumed);
    if (job.kind == Kind::kEcho) {
      c.Send(bytes);
    } else if (job.kind == Kind::kSink || job.kind == Kind::kHalfClose) {
      job.bytes += bytes.size();
      job.crc = ExtendCrc(job.crc, bytes);
    } else if (job.kind == Kind::kGather) {
      for (; bytes.size() >= job.bytes; bytes.remove_prefix(job.bytes)) {
        c.Send(std::to_string(ExtendCrc(0, bytes.substr(0, job.bytes))) + "\n");
      }
      return unread.size() - bytes.size();
    } else if (job.kind == Kind::kAnswer) {
      return consumed + Answer(c, bytes);
    } else if (job.kind == Kind::kRecord) {
      return consumed + Record(c, bytes);
    }
    return unread.size();
  }

  void OnPeerClosed(Connection& c) override {
    Job& job = JobOf(c);
    if (job.kind == Kind::kSink) c.Send(Total(job));
    if (job.kind == Kind::kHalfClose) totals_[job.name] = Total(job);
    // A client may be done with asking and still want its answer.
    if (job.kind != Kind::kSource && job.kind != Kind::kTimer) c.Close();
  }

  void OnWritable(Connection& c) override {
    if (JobOf(c).kind == Kind::kSource) Pour(c);
  }

  void OnTimer(Connection& c, uint32_t) override {
    Job& job = JobOf(c);
    std::string line = std::to_string(job.tick++) + " " + std::to_string(c.Now().time_since_epoch().count()) +
                       " " + std::to_string(c.Random());
    job.crc = ExtendCrc(job.crc, line);
    c.Send(line + " " + std::to_string(job.crc) + "\n");
    if (job.tick < job.bytes) {
      c.SetTimer(0, job.period);
    } else {
      c.Close();
    }
  }

 private:
  static constexpr size_t kMaxLine = 256;

  enum class Kind { kUnknown, kEcho, kSink, kSource, kHalfClose, kTimer, kGather, kAnswer, kRecord, kDone };

  struct Job : Connection::Context {
    Kind kind = Kind::kUnknown;
    std::string name;
    uint64_t bytes = 0;  // received; of a source: to send; of a timer: ticks; see GATHER
    uint64_t sent = 0;
    uint64_t seed = 0;
    uint64_t tick = 0;
    uint32_t crc = 0;
    std::chrono::milliseconds period{0};
  };

  static bool IsThere(const std::string& path) { return !path.empty() && access(path.c_str(), F_OK) == 0; }
  static Job& JobOf(Connection& c) { return static_cast<Job&>(*c.context()); }
  static std::string Total(const Job& job) {
    return std::to_string(job.bytes) + " " + std::to_string(job.crc) + "\n";
  }

  static std::vector<std::string_view> Words(std::string_view line) {
    std::vector<std::string_view> words;
    while (!line.empty()) {
      size_t end = std::min(line.find(' '), line.size());
      if (end > 0) words.push_back(line.substr(0, end));
      line.remove_prefix(std::min(end + 1, line.size()));
    }
    return words;
  }

  static bool Number(std::string_view word, uint64_t* number) {
    auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), *number);
    return error == std::errc() && end == word.data() + word.size();
  }

  static void Refuse(Connection& c) {
    JobOf(c).kind = Kind::kDone;
    c.Send("what?\n");
    c.Close();
  }

  void Begin(Connection& c, std::string_view line) {
    Job& job = JobOf(c);
    std::vector<std::string_view> words = Words(line);
    std::string_view verb = words.empty() ? "" : words[0];
    uint64_t period = 0;
    if (verb == "ECHO" && words.size() == 1) {
      job.kind = Kind::kEcho;
    } else if (verb == "SINK" && words.size() == 1) {
      job.kind = Kind::kSink;
    } else if (verb == "SOURCE" && words.size() == 3 && Number(words[1], &job.bytes) &&
               Number(words[2], &job.seed)) {
      job.kind = Kind::kSource;
      Pour(c);
    } else if (verb == "FLOOD" && words.size() == 3 && Number(words[1], &job.bytes) &&
               Number(words[2], &job.seed)) {
      job.kind = Kind::kDone;
      while (job.sent < job.bytes) SendPattern(c, job.bytes - job.sent);
      c.Close();
    } else if (verb == "HALFCLOSE" && words.size() == 2) {
      job.kind = Kind::kHalfClose;
      job.name = std::string(words[1]);
      c.HalfClose();
    } else if (verb == "REPORT" && words.size() == 2) {
      job.kind = Kind::kDone;
      auto total = totals_.find(std::string(words[1]));
      c.Send(total == totals_.end() ? "none\n" : total->second);
      c.Close();
    } else if (verb == "TIMER" && words.size() == 3 && Number(words[1], &period) &&
               Number(words[2], &job.bytes) && job.bytes > 0) {
      job.kind = Kind::kTimer;
      job.period = std::chrono::milliseconds(period);
      c.SetTimer(0, job.period);
    } else if (verb == "GATHER" && words.size() == 2 && Number(words[1], &job.bytes) && job.bytes > 0) {
      job.kind = Kind::kGather;
    } else if (verb == "RECORD" && words.size() == 1) {
      job.kind = Kind::kRecord;
    } else if (verb == "ANSWER" && words.size() == 3 && Number(words[1], &job.bytes) &&
               Number(words[2], &job.seed)) {
      job.kind = Kind::kAnswer;
    } else if ((verb == "STALL" || verb == "BURN") && words.size() == 2 && Number(words[1], &period)) {
      job.kind = Kind::kDone;
      if (FLAGS_stalls) Stall(std::chrono::milliseconds(period), verb == "BURN");
      c.Send("done\n");
      c.Close();
    } else if (verb == "THROW" && words.size() == 1) {
      throw std::runtime_error("as it was asked to");
    } else if (verb == "CRASH" && words.size() == 1) {
      raise(SIGSEGV);
    } else if (verb == "CLOSE" && words.size() == 1) {
      job.kind = Kind::kDone;
      c.Close();
    } else if (verb == "ABORT" && words.size() == 1) {
      job.kind = Kind::kDone;
      c.Abort();
    } else {
      Refuse(c);
    }
  }

  // What is sent does not depend on how long it really took.
  static void Stall(std::chrono::milliseconds span, bool computing) {
    const auto until = std::chrono::steady_clock::now() + span;
    if (!computing) return std::this_thread::sleep_until(until);
    while (std::chrono::steady_clock::now() < until) {
    }
  }

  size_t Record(Connection& c, std::string_view lines) {
    size_t consumed = 0;
    for (size_t end; (end = lines.find('\n', consumed)) != std::string_view::npos; consumed = end + 1) {
      const std::string word(lines.substr(consumed, end - consumed));
      if (word == "?") {
        c.Send(kept_ + "\n");
      } else if (!writable_) {
        c.Send("full\n");
      } else {
        if (word == "FILL") std::ofstream(FLAGS_commit_full_if) << "yes";
        kept_ = word;
        c.Send("kept " + word + "\n");
      }
    }
    return consumed;
  }

  // How much of `lines` is consumed.
  size_t Answer(Connection& c, std::string_view lines) {
    Job& job = JobOf(c);
    size_t consumed = 0;
    const size_t mark = FLAGS_answer_mark == 0 ? c.high_water() : FLAGS_answer_mark;
    while (c.pending_output() < mark) {
      const size_t end = lines.find('\n', consumed);
      if (end == std::string_view::npos) break;
      consumed = end + 1;
      for (uint64_t left = job.bytes; left > 0;) left -= SendPattern(c, left);
    }
    return consumed;
  }

  // The next bytes of the job's pattern, at most `most`. Returns how many.
  size_t SendPattern(Connection& c, uint64_t most) {
    Job& job = JobOf(c);
    std::array<char, 65536> piece;
    const size_t n = std::min<uint64_t>(piece.size(), most);
    FillPattern(job.seed, job.sent, piece.data(), n);
    c.Send({piece.data(), n});
    job.sent += n;
    return n;
  }

  void Pour(Connection& c) {
    Job& job = JobOf(c);
    while (job.sent < job.bytes && c.pending_output() < c.high_water()) {
      SendPattern(c, job.bytes - job.sent);
    }
    if (job.sent < job.bytes) return;
    job.kind = Kind::kDone;
    c.Close();
  }

  bool writable_ = true;
  std::string kept_ = "none";
  std::map<std::string, std::string> totals_;  // of HALFCLOSE, by name
};

}  // namespace understudy::workbench

int main(int argc, char** argv) {
  using understudy::workbench::Workbench;
  return understudy::RunMain(argc, argv, []() -> absl::StatusOr<std::unique_ptr<understudy::Server>> {
    if (!FLAGS_cannot_start.empty()) return absl::FailedPreconditionError(FLAGS_cannot_start);
    return std::make_unique<Workbench>();
  });
}
