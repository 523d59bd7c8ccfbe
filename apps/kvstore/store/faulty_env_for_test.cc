// Compiled without RTTI, as LevelDB's own classes are.
#include "apps/kvstore/store/faulty_env_for_test.h"

#include <atomic>
#include <string>

#include "leveldb/env.h"
#include "leveldb/status.h"

namespace kvstore {
namespace {

using leveldb::Slice;
using leveldb::Status;

struct Switches {
  std::atomic<bool> fail_writes{false};
  std::atomic<bool> fail_reads{false};

  Status Write() const { return fail_writes ? Status::IOError("No space left on device") : Status::OK(); }
  Status Read() const { return fail_reads ? Status::IOError("Input/output error") : Status::OK(); }
};

class FaultyWritableFile final : public leveldb::WritableFile {
 public:
  FaultyWritableFile(const Switches* switches, leveldb::WritableFile* file)
      : switches_(switches), file_(file) {}
  Status Append(const Slice& data) override {
    return Checked([&] { return file_->Append(data); });
  }
  Status Close() override { return file_->Close(); }
  Status Flush() override {
    return Checked([&] { return file_->Flush(); });
  }
  Status Sync() override {
    return Checked([&] { return file_->Sync(); });
  }

 private:
  template <typename Write>
  Status Checked(Write write) {
    const Status status = switches_->Write();
    return status.ok() ? write() : status;
  }

  const Switches* const switches_;
  const std::unique_ptr<leveldb::WritableFile> file_;
};

class FaultyRandomAccessFile final : public leveldb::RandomAccessFile {
 public:
  FaultyRandomAccessFile(const Switches* switches, leveldb::RandomAccessFile* file)
      : switches_(switches), file_(file) {}
  Status Read(uint64_t offset, size_t n, Slice* result, char* scratch) const override {
    const Status status = switches_->Read();
    return status.ok() ? file_->Read(offset, n, result, scratch) : status;
  }

 private:
  const Switches* const switches_;
  const std::unique_ptr<leveldb::RandomAccessFile> file_;
};

}  // namespace

class FaultyEnv::Impl final : public leveldb::EnvWrapper {
 public:
  Impl() : EnvWrapper(leveldb::Env::Default()) {}

  Status NewWritableFile(const std::string& name, leveldb::WritableFile** result) override {
    const Status status = switches.Write();
    return status.ok() ? Wrap(target()->NewWritableFile(name, result), result) : status;
  }
  Status NewAppendableFile(const std::string& name, leveldb::WritableFile** result) override {
    const Status status = switches.Write();
    return status.ok() ? Wrap(target()->NewAppendableFile(name, result), result) : status;
  }
  Status NewRandomAccessFile(const std::string& name, leveldb::RandomAccessFile** result) override {
    const Status status = target()->NewRandomAccessFile(name, result);
    if (status.ok()) *result = new FaultyRandomAccessFile(&switches, *result);
    return status;
  }

  Switches switches;

 private:
  Status Wrap(const Status& status, leveldb::WritableFile** result) {
    if (status.ok()) *result = new FaultyWritableFile(&switches, *result);
    return status;
  }
};

FaultyEnv::FaultyEnv() : impl_(std::make_unique<Impl>()) {}
FaultyEnv::~FaultyEnv() = default;
leveldb::Env* FaultyEnv::env() const { return impl_.get(); }
void FaultyEnv::FailWrites(bool fail) { impl_->switches.fail_writes = fail; }
void FaultyEnv::FailReads(bool fail) { impl_->switches.fail_reads = fail; }

}  // namespace kvstore
