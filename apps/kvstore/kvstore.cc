#include "apps/kvstore/kvstore.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "apps/kvstore/commands/auth.h"
#include "apps/kvstore/commands/client_memory.h"
#include "apps/kvstore/commands/dispatcher.h"
#include "apps/kvstore/commands/transactions.h"
#include "apps/kvstore/private_directory.h"
#include "apps/kvstore/resp/likely_keys.h"
#include "apps/kvstore/store/digest.h"

namespace kvstore {
namespace {

using understudy::Connection;

// Replies are handed on in pieces of about this size: small enough to stay in the processor's cache.
constexpr size_t kSendAt = 256 << 10;
// A buffer that one long reply made larger than this is given back.
constexpr size_t kKeepCapacity = 1 << 20;
// Requests, in bytes, that may wait for room for their replies: the client's next ones are still read then.
constexpr size_t kMostUnread = 512 << 10;
// Requests of one record that are looked at ahead: as many as the processor's cache may hold until they come.
constexpr int kMostExpected = 32;
// Of what a log means to the commands of this program: nodes that differ in it would answer differently.
constexpr int kStateVersion = 4;

Session& SessionOf(const Connection& connection) { return *static_cast<Session*>(connection.context()); }

int64_t Milliseconds(understudy::LoggedTime time) { return time.time_since_epoch().count() / 1000; }

}  // namespace

absl::StatusOr<std::unique_ptr<understudy::Server>> KvStore::Open(const Options& options) {
  std::unique_ptr<KvStore> store(new KvStore);
  std::string directory = options.data_dir;
  if (directory.empty()) {
    auto made = TemporaryDirectory::Make();
    if (!made.ok()) return made.status();
    store->temporary_ = *std::move(made);
    directory = store->temporary_->path();
  }
  if (absl::Status made = MakePrivateDirectory(directory); !made.ok()) return made;
  store->disk_room_ = std::make_unique<DiskRoom>(DiskRoom::Of(directory), options.min_free_disk);
  auto table = Table::Open(
      {.directory = directory, .cache_bytes = options.cache_bytes, .write_behind = options.write_behind});
  if (!table.ok()) return table.status();
  store->table_ = *std::move(table);
  auto keys = Keyspace::Open(store->table_.get(), &store->instance_.watches);
  if (!keys.ok()) return keys.status();
  store->keys_ = *std::move(keys);
  store->instance_.keys = store->keys_.get();
  store->instance_.limits.max_bulk = options.max_bulk;
  store->instance_.settings = options.settings;
  return std::unique_ptr<understudy::Server>(std::move(store));
}

KvStore::~KvStore() = default;

std::string KvStore::InitialState() {
  return absl::StrCat("kvstore ", kStateVersion, ", ", keys_->size() == 0 ? "empty" : DigestOf(*keys_));
}

understudy::Settings KvStore::MustAgree() {
  const Configuration& settings = instance_.settings;
  // Of the password only enough to tell two apart: this is logged.
  const std::string password =
      settings.password.empty() ? "none" : absl::StrCat("#", WalkPosition(settings.password) % 10'000);
  constexpr const char* kDebug[] = {"no", "local", "yes"};
  return {{"--proto_max_bulk_mb", absl::StrCat(instance_.limits.max_bulk >> 20)},
          {"--client_query_buffer_limit_mb", absl::StrCat(settings.max_query_buffer >> 20)},
          {"--maxmemory_clients_mb", absl::StrCat(settings.max_clients_memory >> 20)},
          {"--maxclients", absl::StrCat(settings.max_clients)},
          {"--requirepass_file (its password)", password},
          {"--protected_mode", settings.protected_mode ? "true" : "false"},
          {"--enable_debug_command", kDebug[static_cast<int>(settings.debug)]}};
}

// What is executed and not stable yet is written, too. A node that has lost its role begins with other data
// than the other's then, or with none (InitialState), and is not let join.
absl::Status KvStore::Commit(const understudy::CommitPoint& point) {
  if (absl::Status room = disk_room_->Check(std::chrono::steady_clock::now()); !room.ok()) return room;
  table_->WriteThrough(point.alone && temporary_ == nullptr);
  return keys_->Commit();
}

void KvStore::OnStorage(bool writable) { instance_.storage_writable = writable; }

void KvStore::OnConnect(Connection& connection) {
  auto session = std::make_unique<Session>();
  const int64_t now_ms = Milliseconds(connection.Now());
  session->id = connection.id();
  session->connection = &connection;
  session->peer = connection.peer();
  session->local = connection.local();
  session->connected_ms = session->last_command_ms = now_ms;
  if (instance_.started_ms == 0) instance_.started_ms = now_ms;
  ++instance_.connections_received;
  ResetAuthentication(instance_, *session);
  if (const std::string refusal = Refusal(instance_, *session); !refusal.empty()) {
    session->closing = true;
    connection.set_context(std::move(session));
    connection.Send(refusal);
    return connection.Close();
  }
  instance_.sessions[session->id] = session.get();
  connection.set_context(std::move(session));
}

size_t KvStore::OnData(Connection& connection, std::string_view unread) {
  Session& session = SessionOf(connection);
  Reply reply(&out_, session.protocol);
  size_t consumed = 0;
  LetItSend(connection, unread.size());
  // What is not read now, for want of room for its replies, is given again when there is room.
  size_t room = Room(connection);
  while (consumed < unread.size() && out_.size() < room && !session.closing) {
    const size_t taken = Serve(connection, session, reply, unread.substr(consumed));
    if (taken == 0) break;
    consumed += taken;
    if (out_.size() < kSendAt) continue;
    Flush(connection);
    room = Room(connection);
  }
  Flush(connection);
  if (session.closing) Leave(connection, session);
  return consumed;
}

void KvStore::Expect(std::string_view bytes) {
  LikelyKeys keys(bytes);
  std::string_view key;
  for (int i = 0; i < kMostExpected && keys.Next(&key); ++i) keys_->Expect(key);
}

size_t KvStore::Serve(Connection& connection, Session& session, Reply& reply, std::string_view unread) {
  reply.Allow(LargestReply(instance_));
  switch (session.parser.Parse(unread, instance_.limits)) {
    case RequestParser::Result::kRequest:
      if (!session.parser.args().empty()) {
        Dispatch(instance_, session, connection, reply, session.parser.args());
        if (reply.full()) EndOverReply(instance_, session);
      }
      session.parser.Forget();
      CountMemory(instance_, session);
      return session.parser.size();
    case RequestParser::Result::kIncomplete:
      // Redis closes here without a word, too.
      if (!IsOverOwnLimit(instance_, session, unread.size())) CountMemory(instance_, session);
      return 0;
    case RequestParser::Result::kError:
      reply.Error(session.parser.error());
      session.closing = true;
      return 0;
  }
  return 0;
}

// A client may send all of a long pipeline before it reads any reply. If it were made to wait at some point,
// both would, for ever; so from a point on its replies are kept for it, as Redis does, up to
// --max_pending_output_mb.
void KvStore::LetItSend(Connection& connection, size_t unread) {
  if (unread > kMostUnread) {
    connection.SetHighWater(SIZE_MAX);
  } else if (connection.high_water() == SIZE_MAX &&
             connection.pending_output() < Connection::kDefaultHighWater) {
    connection.SetHighWater(Connection::kDefaultHighWater);
  }
}

size_t KvStore::Room(const Connection& connection) {
  const size_t pending = connection.pending_output(), most = connection.high_water();
  return pending >= most ? 0 : most - pending;
}

void KvStore::Flush(Connection& connection) {
  if (!out_.empty()) connection.Send(out_);
  out_.clear();
  if (out_.capacity() > kKeepCapacity) out_.shrink_to_fit();
}

void KvStore::Leave(Connection& connection, Session& session) {
  Forget(session);
  connection.Close();
}

void KvStore::Forget(Session& session) {
  DiscardTransaction(instance_, session);
  ForgetMemory(instance_, session);
  instance_.sessions.erase(session.id);
}

void KvStore::OnPeerClosed(Connection& connection) { Leave(connection, SessionOf(connection)); }

void KvStore::OnClosed(Connection& connection, understudy::CloseReason) { Forget(SessionOf(connection)); }

}  // namespace kvstore
