#include "replication/auth.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <initializer_list>

#include "absl/cleanup/cleanup.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "glog/logging.h"

namespace understudy::replication {
namespace {

constexpr size_t kMaxKeySize = 4096;

// Each field with its length, so that no two lists of fields look alike.
std::string Join(std::initializer_list<std::string_view> fields) {
  std::string out;
  for (const std::string_view field : fields) {
    const auto size = static_cast<uint32_t>(field.size());
    out.append(reinterpret_cast<const char*>(&size), sizeof size);
    out.append(field);
  }
  return out;
}

std::string Derive(std::string_view key, std::string_view purpose, const LinkTranscript& t) {
  return Hmac(key, Join({purpose, t.service, t.dialer, t.acceptor, t.dialer_nonce, t.acceptor_nonce}));
}

// Fetched once: a fetch takes longer than a code. Null: this OpenSSL has been configured not to have it.
EVP_MAC* HmacAlgorithm() {
  static EVP_MAC* const mac = EVP_MAC_fetch(nullptr, "HMAC", nullptr);
  return mac;
}
EVP_CIPHER* FrameCipher() {
  static EVP_CIPHER* const cipher = EVP_CIPHER_fetch(nullptr, "AES-256-GCM", nullptr);
  return cipher;
}

absl::Status Wrong(const std::string& path, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat("--replication_key_file=", path, ": ", what));
}

absl::Status CheckFile(const std::string& path, const struct stat& info) {
  if (!S_ISREG(info.st_mode)) return Wrong(path, "is no regular file");
  if (info.st_uid != 0 && info.st_uid != geteuid()) {
    return Wrong(path,
                 absl::StrCat("belongs to user ", info.st_uid, "; wants root, or the user of this node"));
  }
  if ((info.st_mode & 077) != 0) {
    return Wrong(path, absl::StrFormat("others than its owner can use it (mode %04o): chmod 600",
                                       static_cast<unsigned>(info.st_mode & 07777)));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> LoadReplicationKey(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return Wrong(path, std::strerror(errno));
  const absl::Cleanup close_fd = [fd] { close(fd); };
  struct stat info;
  if (fstat(fd, &info) != 0) return Wrong(path, std::strerror(errno));
  if (absl::Status fit = CheckFile(path, info); !fit.ok()) return fit;
  std::string key(kMaxKeySize + 1, '\0');
  const ssize_t size = read(fd, key.data(), key.size());
  if (size < 0) return Wrong(path, std::strerror(errno));
  key.resize(static_cast<size_t>(size));
  if (key.size() < kMinKeySize || key.size() > kMaxKeySize) {
    return Wrong(path, absl::StrCat("wants ", kMinKeySize, " to ", kMaxKeySize, " bytes, ",
                                    key.size() < kMinKeySize ? absl::StrCat("has ", key.size()) : "has more",
                                    " (head -c 32 /dev/urandom makes a good one)"));
  }
  if (HmacAlgorithm() == nullptr || FrameCipher() == nullptr) {
    return Wrong(path, "the OpenSSL of this host offers no HMAC or no AES-256-GCM");
  }
  return key;
}

std::string Hmac(std::string_view key, std::string_view message) {
  CHECK(HmacAlgorithm() != nullptr) << "a key has been loaded without asking for its use";
  EVP_MAC_CTX* const context = EVP_MAC_CTX_new(HmacAlgorithm());
  char digest[] = "SHA256";
  const OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
                               OSSL_PARAM_construct_end()};
  std::string out(kHmacSize, '\0');
  size_t size = 0;
  const bool done =
      context != nullptr &&
      EVP_MAC_init(context, reinterpret_cast<const uint8_t*>(key.data()), key.size(), params) == 1 &&
      EVP_MAC_update(context, reinterpret_cast<const uint8_t*>(message.data()), message.size()) == 1 &&
      EVP_MAC_final(context, reinterpret_cast<uint8_t*>(out.data()), &size, out.size()) == 1;
  EVP_MAC_CTX_free(context);
  CHECK(done && size == out.size()) << "HMAC-SHA256 of bytes in memory";
  return out;
}

bool SameMac(std::string_view a, std::string_view b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

std::string NewNonce() {
  std::string nonce(kNonceSize, '\0');
  if (RAND_bytes(reinterpret_cast<uint8_t*>(nonce.data()), static_cast<int>(nonce.size())) != 1)
    nonce.clear();
  return nonce;
}

std::string AcceptorProof(std::string_view key, const LinkTranscript& transcript) {
  return Derive(key, "understudy: the acceptor has the key", transcript);
}

// GMAC is GCM of nothing but associated data. Asked for as a cipher it takes a third less time for a short
// frame than as an EVP_MAC: each request of a client has four of them on its way.
struct FrameMac::Impl {
  EVP_CIPHER_CTX* context = nullptr;
  uint64_t next = 0;
};

FrameMac::FrameMac(std::string_view key, const LinkTranscript& transcript, bool of_dialer)
    : impl_(std::make_unique<Impl>()) {
  const std::string own = Derive(
      key, of_dialer ? "understudy: frames of the dialer" : "understudy: frames of the acceptor", transcript);
  impl_->context = EVP_CIPHER_CTX_new();
  CHECK(impl_->context != nullptr &&
        EVP_EncryptInit_ex2(impl_->context, FrameCipher(), reinterpret_cast<const uint8_t*>(own.data()),
                            nullptr, nullptr) == 1)
      << "a key has been loaded without asking for its use";
}

FrameMac::~FrameMac() { EVP_CIPHER_CTX_free(impl_->context); }

void FrameMac::Next(std::string_view frame, uint8_t* mac) {
  // The position is the nonce: no key sees the same one twice, and frames cannot change places.
  uint8_t nonce[12] = {};
  std::memcpy(nonce, &impl_->next, sizeof impl_->next);
  ++impl_->next;
  int size = 0;
  const bool done =
      EVP_EncryptInit_ex2(impl_->context, nullptr, nullptr, nonce, nullptr) == 1 &&
      EVP_EncryptUpdate(impl_->context, nullptr, &size, reinterpret_cast<const uint8_t*>(frame.data()),
                        static_cast<int>(frame.size())) == 1 &&
      EVP_EncryptFinal_ex(impl_->context, mac, &size) == 1 &&
      EVP_CIPHER_CTX_ctrl(impl_->context, EVP_CTRL_AEAD_GET_TAG, kSize, mac) == 1;
  CHECK(done) << "GMAC of bytes in memory";
}

}  // namespace understudy::replication
