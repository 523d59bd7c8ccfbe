// Included before everything else when the node's code is compiled for the simulator: hash tables
// become ordered ones. A hash table's order depends on addresses, and one seed shall decide all.
#ifndef UNDERSTUDY_TESTS_SIM_DETERMINISTIC_CONTAINERS_H_
#define UNDERSTUDY_TESTS_SIM_DETERMINISTIC_CONTAINERS_H_

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"

#define flat_hash_map btree_map
#define flat_hash_set btree_set

#endif  // UNDERSTUDY_TESTS_SIM_DETERMINISTIC_CONTAINERS_H_
