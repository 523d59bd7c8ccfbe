// Commands about the connection itself: PING, ECHO, HELLO, AUTH, SELECT, RESET, QUIT, CLIENT.
#include <algorithm>
#include <string>
#include <string_view>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "apps/kvstore/commands/auth.h"
#include "apps/kvstore/commands/command.h"
#include "apps/kvstore/commands/dispatcher.h"
#include "apps/kvstore/commands/transactions.h"
#include "apps/kvstore/resp/number.h"

namespace kvstore {
namespace {

// What is spoken here, for clients that ask.
constexpr std::string_view kRedisVersion = "7.0.15";

// Between quotes in an error, as far as C would print it.
std::string Quoted(std::string_view word) { return "'" + std::string(word.substr(0, word.find('\0'))) + "'"; }

void Ping(Call& call) {
  if (call.args.size() > 2) return WrongArity(call);
  if (call.args.size() == 2) return call.reply.Bulk(call.args[1]);
  call.reply.Simple("PONG");
}

void Echo(Call& call) { call.reply.Bulk(call.args[1]); }

void Quit(Call& call) {
  call.session.closing = true;
  call.reply.Ok();
}

void Reset(Call& call) {
  DiscardTransaction(call.instance, call.session);
  ResetAuthentication(call.instance, call.session);
  call.session.name.clear();
  call.session.no_touch = false;
  call.session.protocol = 2;  // NO-EVICT stays, as in Redis
  call.reply.set_protocol(2);
  call.reply.Simple("RESET");
}

void Select(Call& call) {
  if (GetDatabase(call, call.args[1])) call.reply.Ok();
}

void Auth(Call& call) {
  if (call.args.size() > 3) return call.reply.Error(kSyntaxError);
  if (call.args.size() == 2 && call.instance.settings.password.empty()) {
    return call.reply.Error(
        "ERR AUTH <password> called without any password configured for the default user. Are you sure your "
        "configuration is correct?");
  }
  const std::string_view user = call.args.size() == 2 ? "default" : call.args[1];
  if (!Authenticate(call.instance, call.session, user, call.args.back())) {
    return call.reply.Error(kWrongPassword);
  }
  call.reply.Ok();
}

// --- HELLO ---------------------------------------------------------------------------------------

// Without characters that CLIENT LIST could not show.
bool IsPrintable(std::string_view name) {
  return std::none_of(name.begin(), name.end(), [](char c) { return c < '!' || c > '~'; });
}

// False, and the error is written.
bool SetName(Call& call, std::string_view name) {
  if (!IsPrintable(name)) {
    call.reply.Error("ERR Client names cannot contain spaces, newlines or special characters.");
    return false;
  }
  call.session.name = std::string(name);
  return true;
}

bool HelloOptions(Call& call) {
  for (size_t i = 2; i < call.args.size(); ++i) {
    const size_t more = call.args.size() - 1 - i;
    if (Is(call.args[i], "auth") && more >= 2) {
      if (!Authenticate(call.instance, call.session, call.args[i + 1], call.args[i + 2])) {
        call.reply.Error(kWrongPassword);
        return false;
      }
      i += 2;
    } else if (Is(call.args[i], "setname") && more >= 1) {
      if (!SetName(call, call.args[i + 1])) return false;
      ++i;
    } else {
      call.reply.Error("ERR Syntax error in HELLO option " + Quoted(call.args[i]));
      return false;
    }
  }
  return true;
}

void Hello(Call& call) {
  int protocol = call.session.protocol;
  if (call.args.size() > 1) {
    const auto version = ParseInteger(call.args[1]);
    if (!version) return call.reply.Error("ERR Protocol version is not an integer or out of range");
    if (*version != 2 && *version != 3) return call.reply.Error("NOPROTO unsupported protocol version");
    if (!HelloOptions(call)) return;
    protocol = static_cast<int>(*version);
  }
  if (!call.session.authenticated) {
    return call.reply.Error(
        "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH "
        "<user> <pass> option can be used to authenticate the client and select the RESP protocol version at "
        "the same time");
  }
  call.session.protocol = protocol;
  call.reply.set_protocol(protocol);
  Reply& reply = call.reply;
  reply.Map(7);
  reply.Bulk("server");
  reply.Bulk("redis");
  reply.Bulk("version");
  reply.Bulk(kRedisVersion);
  reply.Bulk("proto");
  reply.Integer(call.session.protocol);
  reply.Bulk("id");
  reply.Integer(static_cast<int64_t>(call.session.id));
  reply.Bulk("mode");
  reply.Bulk("standalone");
  reply.Bulk("role");
  reply.Bulk("master");
  reply.Bulk("modules");
  reply.Array(0);
}

// --- CLIENT --------------------------------------------------------------------------------------

void ClientId(Call& call) { call.reply.Integer(static_cast<int64_t>(call.session.id)); }

void ClientGetName(Call& call) {
  if (call.session.name.empty()) return call.reply.Null();
  call.reply.Bulk(call.session.name);
}

void ClientSetName(Call& call) {
  if (SetName(call, call.args[2])) call.reply.Ok();
}

void ClientNoEvict(Call& call) {
  if (!Is(call.args[2], "on") && !Is(call.args[2], "off")) return call.reply.Error(kSyntaxError);
  call.session.no_evict = Is(call.args[2], "on");
  call.reply.Ok();
}

// Nothing here depends on when a key was used last.
void ClientNoTouch(Call& call) {
  if (!Is(call.args[2], "on") && !Is(call.args[2], "off")) return call.reply.Error(kSyntaxError);
  call.session.no_touch = Is(call.args[2], "on");
  call.reply.Ok();
}

void ClientSetInfo(Call& call) {
  const bool name = Is(call.args[2], "lib-name");
  if (!name && !Is(call.args[2], "lib-ver")) {
    return call.reply.Error("ERR Unrecognized option " + Quoted(call.args[2]));
  }
  if (!IsPrintable(call.args[3])) {
    return call.reply.Error(absl::StrCat("ERR ", name ? "lib-name" : "lib-ver",
                                         " cannot contain spaces, newlines or special characters."));
  }
  (name ? call.session.library_name : call.session.library_version) = std::string(call.args[3]);
  call.reply.Ok();
}

// Redis's line, of which clients read fields by name. What differs from node to node (descriptors, memory)
// is -1 or 0 here.
std::string LineOf(const Session& session, int64_t now_ms) {
  std::string flags;
  if (session.in_multi) flags += 'x';
  if (session.watcher.touched) flags += 'd';
  if (session.no_evict) flags += 'e';
  if (flags.empty()) flags += 'N';
  const int64_t queued = session.in_multi ? static_cast<int64_t>(session.queued.size()) : -1;
  return absl::StrCat("id=", session.id, " addr=", session.peer, " laddr=", session.local,
                      " fd=-1 name=", session.name, " age=", (now_ms - session.connected_ms) / 1000,
                      " idle=", (now_ms - session.last_command_ms) / 1000, " flags=", flags,
                      " db=0 sub=0 psub=0 ssub=0 multi=", queued,
                      " qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=", session.queued_bytes,
                      " rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem=0 events=r cmd=",
                      session.last_command.empty() ? std::string("NULL") : std::string(session.last_command),
                      " user=default redir=-1 resp=", session.protocol, "\n");
}

void ClientInfo(Call& call) { call.reply.Verbatim(LineOf(call.session, call.now_ms())); }

void ClientListOf(Call& call, Arguments ids) {
  std::string lines;
  for (const std::string_view text : ids) {
    const auto id = ParseInteger(text);
    if (!id) return call.reply.Error("ERR Invalid client ID");
    const auto found = call.instance.sessions.find(static_cast<uint64_t>(*id));
    if (found != call.instance.sessions.end()) lines += LineOf(*found->second, call.now_ms());
    if (!call.reply.HasRoomFor(lines.size())) break;  // one may be named as often as the client likes
  }
  call.reply.Verbatim(lines);
}

void ClientList(Call& call) {
  const Arguments args = call.args;
  if (args.size() > 3 && Is(args[2], "id")) return ClientListOf(call, args.subspan(3));
  bool normal = true;
  if (args.size() == 4 && Is(args[2], "type")) {
    normal = Is(args[3], "normal");
    // The other kinds that Redis knows; there is none of them here.
    if (!normal && !Is(args[3], "master") && !Is(args[3], "replica") && !Is(args[3], "slave") &&
        !Is(args[3], "pubsub")) {
      return call.reply.Error("ERR Unknown client type " + Quoted(args[3]));
    }
  } else if (args.size() != 2) {
    return call.reply.Error(kSyntaxError);
  }
  std::string lines;
  if (normal) {
    for (const auto& [id, session] : call.instance.sessions) {
      lines += LineOf(*session, call.now_ms());
      if (!call.reply.HasRoomFor(lines.size())) break;
    }
  }
  call.reply.Verbatim(lines);
}

void ClientHelp(Call& call) {
  ReplyHelp(call, {"GETNAME", "    The name of this connection.", "ID",
                   "    The number of this connection: it is never used again.", "INFO",
                   "    What LIST says of this connection.", "LIST [ID <id> [...] | TYPE <type>]",
                   "    One line for each connection.", "NO-EVICT (ON|OFF)",
                   "    Accepted; no connection is ever evicted.", "NO-TOUCH (ON|OFF)",
                   "    Accepted; no key is ever evicted.", "SETINFO (LIB-NAME <name>|LIB-VER <version>)",
                   "    Says which library this client uses.", "SETNAME <name>",
                   "    Gives this connection a name."});
}

// --- The table -----------------------------------------------------------------------------------

constexpr uint32_t kAlways = kLoading | kStale;
constexpr uint32_t kAnybody = kNoScript | kAlways | kFast | kNoAuth | kAllowBusy;

constexpr Command Row(std::string_view name, int arity, uint32_t flags, void (*run)(Call&),
                      std::string_view since, std::string_view complexity, std::string_view summary) {
  return {.name = name,
          .arity = arity,
          .flags = flags,
          .run = run,
          .group = "connection",
          .since = since,
          .complexity = complexity,
          .summary = summary};
}

constexpr std::string_view kPerConnection = "O(N), N the number of connections";
constexpr uint32_t kOwn = kNoScript | kAlways;

constexpr Command kClientCommands[] = {
    Row("getname", 2, kOwn, ClientGetName, "2.6.9", "O(1)", "The name of this connection"),
    Row("help", 2, kAlways, ClientHelp, "5.0.0", "O(1)", "What CLIENT can do"),
    Row("id", 2, kOwn, ClientId, "5.0.0", "O(1)", "The number of this connection"),
    Row("info", 2, kOwn, ClientInfo, "6.2.0", "O(1)", "What CLIENT LIST says of this connection"),
    Row("list", -2, kAdmin | kOwn, ClientList, "2.4.0", kPerConnection, "One line for each connection"),
    Row("no-evict", 3, kAdmin | kOwn, ClientNoEvict, "7.0.0", "O(1)", "Accepted; nobody is evicted"),
    Row("no-touch", 3, kOwn, ClientNoTouch, "7.2.0", "O(1)", "Accepted; no key is ever evicted"),
    Row("setinfo", 4, kOwn, ClientSetInfo, "7.2.0", "O(1)", "Say which library this client uses"),
    Row("setname", 3, kOwn, ClientSetName, "2.6.9", "O(1)", "Give this connection a name"),
};

constexpr Command Container(Command row, absl::Span<const Command> subcommands) {
  row.subcommands = subcommands;
  return row;
}

constexpr Command kCommands[] = {
    Row("auth", -2, kAnybody, Auth, "1.0.0", "O(1)", "Say who you are"),
    Container(Row("client", -2, 0, nullptr, "2.4.0", "That of the subcommand", "About connections"),
              kClientCommands),
    Row("echo", 2, kAlways | kFast, Echo, "1.0.0", "O(1)", "Send it back"),
    Row("hello", -1, kAnybody, Hello, "6.0.0", "O(1)", "Choose the protocol, and learn who answers"),
    Row("ping", -1, kFast, Ping, "1.0.0", "O(1)", "Ask for an answer"),
    Row("quit", -1, kAnybody, Quit, "1.0.0", "O(1)", "Close the connection"),
    Row("reset", 1, kAnybody, Reset, "6.2.0", "O(1)", "Begin anew on this connection"),
    Row("select", 2, kAlways | kFast, Select, "1.0.0", "O(1)", "Choose the database; there is only 0"),
};

}  // namespace

absl::Span<const Command> ConnectionCommands() { return kCommands; }

}  // namespace kvstore
