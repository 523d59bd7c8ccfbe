// The last word: proof that a process is dead, better than any silence.
//
// Before a node's process does anything else it draws 32 random bytes, leaves them to a witness
// (framework/witness.h) and keeps their SHA-256. Whoever joins the node is told the hash. When the kernel
// tells the witness that the process is gone, and only then, it says the word: a datagram to the port of
// the pulse. Who finds that a word fits the hash it was told knows that this very process will never send
// anything again, and need not wait for its lease to run out.
//
// So a word cannot be made up by who has not heard it, not even by who has read all that the pair has sent
// so far; and it is worth nothing against any other life of the node. It may be lost like any datagram:
// then the lease runs out.
#ifndef UNDERSTUDY_REPLICATION_LAST_WORD_H_
#define UNDERSTUDY_REPLICATION_LAST_WORD_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace understudy::replication {

// The call of the Server that the process died of, by a signal (SIGSEGV and the like). The other node has not
// got the client's bytes that it was for, or has survived them; the client will send them again. Nobody
// proves that: it is what the dying process believed.
struct FatalCall {
  uint64_t lsn = 0;         // of the record that was executed; 0: it did not die of one
  uint64_t connection = 0;  // that the call was for; 0: none
  uint64_t ending = 0;      // 1: the call was OnClosed
  // Not of the call: of the protocol, as agreed with the node that joined last; 0: none has. Whoever hears
  // the word takes the rest of this for what it says only if that is the version it has agreed upon.
  uint64_t version = 0;
};

inline constexpr size_t kLastWordSize = 32;
inline constexpr size_t kLastWordHashSize = 32;

// Random bytes of the kernel. Empty: it has none to give.
std::string NewLastWord();
// SHA-256.
std::string HashOfLastWord(std::string_view word);

struct LastWord {
  std::string word;
  FatalCall fatal;
};
// The datagram: magic, word, the fatal call, and with a key (auth.h) an HMAC of all that: who forwards a word
// shall not name another connection.
std::string EncodeLastWord(const LastWord& last, std::string_view key);
// nullopt: not one of these, or not of one who has the key.
std::optional<LastWord> DecodeLastWord(std::string_view datagram, std::string_view key);

}  // namespace understudy::replication

#endif  // UNDERSTUDY_REPLICATION_LAST_WORD_H_
