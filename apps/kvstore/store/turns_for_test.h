// Work for a store that is the same each time: turn after turn, by a seed.
#ifndef UNDERSTUDY_APPS_KVSTORE_STORE_TURNS_FOR_TEST_H_
#define UNDERSTUDY_APPS_KVSTORE_STORE_TURNS_FOR_TEST_H_

#include <cstdint>
#include <string>

#include "apps/kvstore/store/keyspace.h"

namespace kvstore {

// Changes of all kinds to a few dozen keys; time passes, too, by up to 10 ms. Depends on the seed, the turn,
// and on what the keyspace holds. At the end the key "turn" has the turn's number. The first turn is 1.
void ApplyTurn(Keyspace& keys, uint32_t seed, uint64_t turn);
// As "turn" says; 0: there is none.
uint64_t LastTurn(Keyspace& keys);
// The time in a turn, which is that of the whole turn.
int64_t TimeOfTurn(uint64_t turn);

}  // namespace kvstore

#endif  // UNDERSTUDY_APPS_KVSTORE_STORE_TURNS_FOR_TEST_H_
