#ifndef THIRD_PARTY_SMOKE_SMOKE_BPF_H_
#define THIRD_PARTY_SMOKE_SMOKE_BPF_H_

#include <linux/types.h>

struct smoke_value {
  __u64 packets;
  __u64 bytes;
};

#endif  // THIRD_PARTY_SMOKE_SMOKE_BPF_H_
