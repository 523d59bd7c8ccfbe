// A store in a directory of its own, for tests.
#ifndef UNDERSTUDY_APPS_KVSTORE_STORE_STORE_FOR_TEST_H_
#define UNDERSTUDY_APPS_KVSTORE_STORE_STORE_FOR_TEST_H_

#include <chrono>
#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "apps/kvstore/store/keyspace.h"
#include "apps/kvstore/store/table.h"
#include "apps/kvstore/store/watches.h"

namespace kvstore {

// A new directory, removed with all that is in it.
class TestDirectory {
 public:
  TestDirectory();
  TestDirectory(const TestDirectory&) = delete;
  TestDirectory& operator=(const TestDirectory&) = delete;
  ~TestDirectory();
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// Table, watches and keyspace. What fails here fails the test.
class TestStore {
 public:
  explicit TestStore(size_t cache_bytes = size_t{1} << 20, leveldb::Env* env = nullptr,
                     std::chrono::milliseconds write_behind = {});
  // On what is in `directory`, which outlives it.
  TestStore(const std::string& directory, size_t cache_bytes, leveldb::Env* env,
            std::chrono::milliseconds write_behind = {});
  ~TestStore();

  Keyspace& keys() { return *keys_; }
  Table& table() { return *table_; }
  Watches& watches() { return watches_; }
  const std::string& directory() const { return options_.directory; }

  // What was not committed is lost, as when the process dies.
  void Reopen();
  // Commits until there is no garbage left, and returns all records that LevelDB has then.
  std::map<std::string, std::string> RecordsWithoutGarbage();

 private:
  void Open();
  void Close();

  std::unique_ptr<TestDirectory> own_;
  Table::Options options_;
  Watches watches_;
  std::unique_ptr<Table> table_;
  std::unique_ptr<Keyspace> keys_;
};

// All records of a table, also the uncommitted ones.
std::map<std::string, std::string> AllRecords(Table& table);
// Counts the records of one kind, of all generations. Fences and counters are of no kind.
size_t CountKind(const std::map<std::string, std::string>& records, char kind);

}  // namespace kvstore

#endif  // UNDERSTUDY_APPS_KVSTORE_STORE_STORE_FOR_TEST_H_
