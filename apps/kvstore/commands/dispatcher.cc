#include "apps/kvstore/commands/dispatcher.h"

#include <algorithm>
#include <cstddef>
#include <string>

#include "absl/strings/ascii.h"
#include "apps/kvstore/commands/auth.h"
#include "apps/kvstore/commands/client_memory.h"
#include "apps/kvstore/commands/transactions.h"

namespace kvstore {
namespace {

// --- The table -----------------------------------------------------------------------------------

struct Row {
  const Command* command;
  std::string full_name;  // "client|getname"
  std::vector<Row> subcommands;
  bool queued = true;  // in MULTI; otherwise it runs at once
};

class CommandTable {
 public:
  CommandTable();

  const Row* Find(std::string_view name) const {
    for (size_t slot = HashOf(name);; ++slot) {
      const Row* row = slots_[slot % kSlots];
      if (row == nullptr || Is(name, row->command->name)) return row;
    }
  }
  const std::vector<Row>& rows() const { return rows_; }
  absl::Span<const Command* const> commands() const { return commands_; }

 private:
  static constexpr size_t kSlots = 1024;  // many more than commands: nearly every look-up is one comparison

  // The same for upper and lower case.
  static size_t HashOf(std::string_view name) {
    size_t hash = name.size();
    for (const char c : name) hash = hash * 31 + (c | 0x20);
    return hash;
  }

  std::vector<Row> rows_;  // in order of name
  std::vector<const Command*> commands_;
  const Row* slots_[kSlots] = {};
};

Row MakeRow(const Command& command, const std::string& container) {
  Row row{.command = &command, .full_name = container + std::string(command.name), .subcommands = {}};
  for (const Command& sub : command.subcommands) {
    row.subcommands.push_back(MakeRow(sub, row.full_name + "|"));
  }
  for (const std::string_view now : {"exec", "discard", "multi", "watch", "quit", "reset"}) {
    if (command.name == now) row.queued = false;
  }
  return row;
}

CommandTable::CommandTable() {
  for (const auto file :
       {StringCommands(), GenericCommands(), ExpiryCommands(), HashCommands(), ListCommands(), SetCommands(),
        SortedSetCommands(), SortedSetRangeCommands(), SortedSetAlgebraCommands(), TransactionCommands(),
        ConnectionCommands(), ServerCommands(), IntrospectionCommands()}) {
    for (const Command& command : file) rows_.push_back(MakeRow(command, ""));
  }
  std::sort(rows_.begin(), rows_.end(),
            [](const Row& a, const Row& b) { return a.command->name < b.command->name; });
  for (const Row& row : rows_) {
    commands_.push_back(row.command);
    size_t slot = HashOf(row.command->name);
    while (slots_[slot % kSlots] != nullptr) ++slot;
    slots_[slot % kSlots] = &row;
  }
}

const CommandTable& TheTable() {
  static const auto& table = *new CommandTable;  // for ever: views into it are in sessions
  return table;
}

const Row* FindSubcommand(const Row& container, std::string_view name) {
  for (const Row& sub : container.subcommands) {
    if (Is(name, sub.command->name)) return &sub;
  }
  return nullptr;
}

// --- Errors before a command runs ----------------------------------------------------------------

constexpr size_t kMaxQuoted = 128;

// What C's %.*s would print.
std::string_view Printed(std::string_view text, size_t most) {
  text = text.substr(0, most);
  return text.substr(0, text.find('\0'));
}

std::string UnknownCommand(Arguments args) {
  std::string text = "ERR unknown command '";
  text.append(Printed(args[0], kMaxQuoted)).append("', with args beginning with: ");
  const size_t begin = text.size();
  for (size_t i = 1; i < args.size() && text.size() - begin < kMaxQuoted; ++i) {
    const std::string_view printed = Printed(args[i], kMaxQuoted - (text.size() - begin));
    text.append("'").append(printed).append("' ");
  }
  return text;
}

std::string UnknownSubcommand(const Row& container, std::string_view name) {
  std::string text = "ERR unknown subcommand '";
  return text.append(Printed(name, kMaxQuoted)).append("'. Try ") +
         absl::AsciiStrToUpper(container.full_name) + " HELP.";
}

std::string WrongArityOf(const Row& row) {
  return "wrong number of arguments for '" + row.full_name + "' command";
}

bool ArityFits(int arity, size_t arguments) {
  return arity >= 0 ? arguments == static_cast<size_t>(arity) : arguments >= static_cast<size_t>(-arity);
}

// The request is not executed, so a transaction that it should have been part of is not either.
void Reject(Session& session, Reply& reply, const std::string& error) {
  if (session.in_multi) session.multi_failed = true;
  reply.Error(error);
}

// The row for a request. nullptr: the error is written.
const Row* Resolve(Instance& instance, Session& session, Reply& reply, Arguments args) {
  const Row* row = TheTable().Find(args[0]);
  session.last_command = {};
  if (row == nullptr) {
    // No Redis client says that: it is a browser that somebody has led here, to send commands in a request's
    // body. As Redis does.
    session.closing = Is(args[0], "post") || Is(args[0], "host:");
    if (!session.closing) Reject(session, reply, UnknownCommand(args));
    return nullptr;
  }
  if (!row->subcommands.empty() && args.size() > 1) {
    const Row* sub = FindSubcommand(*row, args[1]);
    if (sub == nullptr) {
      Reject(session, reply, UnknownSubcommand(*row, args[1]));
      return nullptr;
    }
    row = sub;
  }
  session.last_command = row->full_name;
  if (ArityFits(row->command->arity, args.size())) {
    const std::string not_allowed = NotAllowed(instance, session, *row->command);
    if (not_allowed.empty()) return row;
    Reject(session, reply, not_allowed);
    return nullptr;
  }
  if (row->command->name == "exec") {
    DiscardTransaction(instance, session);
    reply.Error("EXECABORT Transaction discarded because of: " + WrongArityOf(*row));
  } else {
    Reject(session, reply, "ERR " + WrongArityOf(*row));
  }
  return nullptr;
}

// --- MULTI ---------------------------------------------------------------------------------------

// Bytes that a queued request takes besides those of its arguments, and one of these besides its own.
constexpr size_t kPerQueued = 2 * sizeof(std::vector<std::string>);
constexpr size_t kPerQueuedArgument = sizeof(std::string) + 16;

void Queue(const Instance& instance, Session& session, Reply& reply, Arguments args) {
  // What cannot be executed any more need not be kept.
  if (!session.multi_failed && !session.watcher.touched) {
    session.queued_bytes += kPerQueued;
    for (const std::string_view arg : args) session.queued_bytes += kPerQueuedArgument + arg.size();
    if (IsOverOwnLimit(instance, session))
      return;  // as for any request that is too long: there is no answer to it
    session.queued.emplace_back(args.begin(), args.end());
  }
  reply.Simple("QUEUED");
}

bool QueuedWrites(const Session& session) {
  return std::any_of(session.queued.begin(), session.queued.end(), [](const std::vector<std::string>& args) {
    const Row* row = TheTable().Find(args[0]);
    return row != nullptr && (row->command->flags & kWrite) != 0;
  });
}

void Run(Instance& instance, Session& session, understudy::Connection& connection, Reply& reply,
         const Command& command, Arguments args) {
  ++instance.commands_processed;
  Call call{.instance = instance,
            .keys = *instance.keys,
            .session = session,
            .connection = connection,
            .reply = reply,
            .command = command,
            .args = args};
  command.run(call);
}

}  // namespace

const Command* FindCommand(std::string_view name) {
  const Row* row = TheTable().Find(name);
  return row == nullptr ? nullptr : row->command;
}

absl::Span<const Command* const> AllCommands() { return TheTable().commands(); }

std::string_view FullName(const Command& command) {
  for (const Row& row : TheTable().rows()) {
    if (row.command == &command) return row.full_name;
    for (const Row& sub : row.subcommands) {
      if (sub.command == &command) return sub.full_name;
    }
  }
  return command.name;
}

void Dispatch(Instance& instance, Session& session, understudy::Connection& connection, Reply& reply,
              Arguments args) {
  const int64_t now_ms =
      std::chrono::duration_cast<std::chrono::milliseconds>(connection.Now().time_since_epoch()).count();
  instance.keys->SetNow(now_ms);
  session.last_command_ms = now_ms;
  const Row* row = Resolve(instance, session, reply, args);
  if (row == nullptr) return;
  if (session.in_multi && !instance.storage_writable && row->command->name == "exec" &&
      QueuedWrites(session)) {
    DiscardTransaction(instance, session);
    return reply.Error("EXECABORT Transaction discarded because of: " + std::string(kNoRoom));
  }
  if (session.in_multi && row->queued) return Queue(instance, session, reply, args);
  Run(instance, session, connection, reply, *row->command, args);
}

void Execute(Instance& instance, Session& session, understudy::Connection& connection, Reply& reply,
             const Command& command, Arguments args) {
  const Row* row = args.size() > 1 && !command.subcommands.empty() ? TheTable().Find(args[0]) : nullptr;
  if (row != nullptr) row = FindSubcommand(*row, args[1]);
  Run(instance, session, connection, reply, row == nullptr ? command : *row->command, args);
}

}  // namespace kvstore
