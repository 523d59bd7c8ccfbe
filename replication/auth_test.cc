#include "replication/auth.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "absl/strings/escaping.h"

namespace understudy::replication {
namespace {

using testing::HasSubstr;

std::string KeyFile(const std::string& content, mode_t mode = 0600) {
  std::string path = testing::TempDir() + "/keyXXXXXX";
  const int fd = mkstemp(path.data());
  EXPECT_GE(fd, 0);
  close(fd);
  std::ofstream(path) << content;
  EXPECT_EQ(chmod(path.c_str(), mode), 0);
  return path;
}

void ExpectRefused(const std::string& path, const std::string& why) {
  const auto key = LoadReplicationKey(path);
  EXPECT_EQ(key.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(key.status().message()), HasSubstr("--replication_key_file=" + path));
  EXPECT_THAT(std::string(key.status().message()), HasSubstr(why));
}

TEST(AuthTest, LoadsAKeyThatIsPrivate) {
  const std::string bytes = std::string(31, 'k') + std::string("\0", 1);
  EXPECT_EQ(LoadReplicationKey(KeyFile(bytes)).value(), bytes);
  EXPECT_EQ(LoadReplicationKey(KeyFile(bytes, 0400)).value(), bytes);
}

TEST(AuthTest, RefusesAKeyThatIsNot) {
  const std::string bytes(32, 'k');
  for (mode_t mode : {0640, 0604, 0644, 0660, 0601}) {
    ExpectRefused(KeyFile(bytes, mode), "others than its owner can use it (mode 0");
  }
  if (geteuid() == 0) {
    const std::string path = KeyFile(bytes);
    // In a sandbox there may be no other user to give it to.
    if (chown(path.c_str(), 12345, 0) == 0) ExpectRefused(path, "belongs to user 12345");
  }
}

TEST(AuthTest, RefusesWhatIsNoKey) {
  ExpectRefused(KeyFile(std::string(31, 'k')), "wants 32 to 4096 bytes, has 31");
  ExpectRefused(KeyFile(""), "has 0");
  ExpectRefused(KeyFile(std::string(4097, 'k')), "has more");
  ExpectRefused("/nonexistent/key", "No such file");
  ExpectRefused(testing::TempDir(), "is no regular file");
  std::string fifo = testing::TempDir() + "/fifo";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  ExpectRefused(fifo, "is no regular file");
}

TEST(AuthTest, HmacIsThatOfRfc4231) {
  EXPECT_EQ(absl::BytesToHexString(Hmac(std::string(20, '\x0b'), "Hi There")),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
  EXPECT_EQ(absl::BytesToHexString(Hmac("Jefe", "what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}

std::string Mac(FrameMac& mac, std::string_view frame) {
  std::string out(FrameMac::kSize, '\0');
  mac.Next(frame, reinterpret_cast<uint8_t*>(out.data()));
  return out;
}

const LinkTranscript kLink{"10.0.0.1:80", "b", "a", std::string(32, 'D'), std::string(32, 'A')};
const std::string kKey(32, 'k');

TEST(AuthTest, BothEndsAgreeOnTheCodesOfAFrame) {
  FrameMac sends(kKey, kLink, true), hears(kKey, kLink, true);
  for (const char* frame : {"one", "", "one", "a longer frame than the ones before"}) {
    EXPECT_TRUE(SameMac(Mac(sends, frame), Mac(hears, frame)));
  }
}

TEST(AuthTest, EverythingCounts) {
  const std::string frame = "frame";
  FrameMac mac(kKey, kLink, true);
  const std::string first = Mac(mac, frame);
  EXPECT_NE(Mac(mac, frame), first) << "the position";
  const auto differs = [&](std::string_view key, const LinkTranscript& link, bool of_dialer) {
    FrameMac other(key, link, of_dialer);
    return !SameMac(Mac(other, frame), first);
  };
  EXPECT_FALSE(differs(kKey, kLink, true));
  EXPECT_TRUE(differs(kKey, kLink, false)) << "the direction";
  EXPECT_TRUE(differs(std::string(32, 'l'), kLink, true)) << "the key";
  FrameMac again(kKey, kLink, true);
  EXPECT_NE(Mac(again, "frama"), first) << "the bytes";
  for (std::string LinkTranscript::*field :
       {&LinkTranscript::service, &LinkTranscript::dialer, &LinkTranscript::acceptor,
        &LinkTranscript::dialer_nonce, &LinkTranscript::acceptor_nonce}) {
    LinkTranscript changed = kLink;
    (changed.*field).back() ^= 1;
    EXPECT_TRUE(differs(kKey, changed, true));
    EXPECT_NE(AcceptorProof(kKey, changed), AcceptorProof(kKey, kLink));
  }
  // Fields do not run into each other.
  LinkTranscript moved = kLink;
  moved.dialer = "ba";
  moved.acceptor = "";
  EXPECT_TRUE(differs(kKey, moved, true));
}

TEST(AuthTest, NoncesAreNew) {
  const std::string nonce = NewNonce();
  EXPECT_EQ(nonce.size(), kNonceSize);
  EXPECT_NE(NewNonce(), nonce);
}

}  // namespace
}  // namespace understudy::replication
