// An ordered table of byte strings: LevelDB, a cache before it, and one atomic write for many changes.
//
// What is Put or Deleted is seen by every later call at once, and reaches LevelDB with the next Commit, all
// of it or nothing. LevelDB hands it to the operating system there (no fsync): it survives the end of the
// process, not always that of the machine.
//
// A failing disk shows in status(), which never becomes OK again; until its owner looks, reads may miss
// what is there. Not thread-safe (LevelDB compacts on a thread of its own).
#ifndef UNDERSTUDY_APPS_KVSTORE_STORE_TABLE_H_
#define UNDERSTUDY_APPS_KVSTORE_STORE_TABLE_H_

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace leveldb {
class Env;
}

namespace kvstore {

class Table {
 public:
  struct Options {
    std::string directory;                  // made when it is not there
    size_t cache_bytes = size_t{64} << 20;  // of keys and values; more only while it is uncommitted
    // A Commit's changes are written this much later, and with all that came since. 0: before it returns.
    std::chrono::milliseconds write_behind{0};
    leveldb::Env* env = nullptr;  // outlives the table; nullptr: the operating system's
  };
  // The error names the directory and LevelDB's reason.
  static absl::StatusOr<std::unique_ptr<Table>> Open(const Options& options);
  // What was not committed is lost. What was is written when it returns; with write-behind what is late is
  // only if there is nothing uncommitted.
  virtual ~Table() = default;

  // Get or Put of this key is likely to come soon, after a few more calls of this: may bring what it needs
  // into the processor's cache. Changes nothing; what Get has returned stays good.
  virtual void Expect(std::string_view key) = 0;
  // nullopt: no such key. Good until the next call of anything.
  virtual std::optional<std::string_view> Get(std::string_view key) = 0;
  // The same without asking the disk: nullopt as well when only LevelDB knows.
  virtual std::optional<std::string_view> GetCached(std::string_view key) = 0;
  // The value is `head` and `tail` together. No argument may point into what Get has returned.
  virtual void Put(std::string_view key, std::string_view head, std::string_view tail = {}) = 0;
  virtual void Delete(std::string_view key) = 0;

  // How many keys have been changed since the last Commit.
  virtual size_t uncommitted() const = 0;
  // Everything since the last Commit, in one atomic write. Returns status(). With write-behind it has to be
  // called now and then for what is late to be written, also when nothing was changed. REQUIRES: no iterator.
  virtual absl::Status Commit() = 0;
  // Suspends write-behind: what is late is written as fast as it can be, and from then on each Commit writes
  // before it returns. That it catches up takes some Commits, none of which takes long.
  virtual void WriteThrough(bool on) = 0;
  virtual absl::Status status() const = 0;
  // For who finds that what is stored makes no sense: status() is this from now on, unless it is bad already.
  virtual void Fail(absl::Status why) = 0;

  // Walks keys in order of their bytes, either way, and sees the table as it is: uncommitted
  // changes too, also those made ahead of it while it walks. Making one is cheap as long as nothing
  // was committed since the last. Must be gone before the next Commit, and before the table.
  class Iterator {
   public:
    virtual ~Iterator() = default;
    virtual void Seek(std::string_view at_or_behind) = 0;
    virtual bool Valid() const = 0;  // false: past the end, also after a read error
    virtual void Next() = 0;         // REQUIRES: Valid(), and not since SeekBefore
    // The other way round: to the last key before this one, and on to smaller ones.
    virtual void SeekBefore(std::string_view key) = 0;
    virtual void Previous() = 0;  // REQUIRES: Valid(), since SeekBefore
    // REQUIRES: Valid(). Until the next move, the value also only until this key is changed.
    virtual std::string_view key() const = 0;
    virtual std::string_view value() const = 0;
  };
  virtual std::unique_ptr<Iterator> NewIterator() = 0;
};

}  // namespace kvstore

#endif  // UNDERSTUDY_APPS_KVSTORE_STORE_TABLE_H_
