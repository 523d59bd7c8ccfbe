// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
//
// A program that no kernel's verifier lets pass, after so long a look at it that the reason is at the end of
// a log of hundreds of kilobytes.
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

SEC("tc")
int reads_unchecked(struct __sk_buff* skb) {
  volatile __u32 sum = 0;
#pragma clang loop unroll(disable)
  for (int i = 0; i < 2000; ++i) sum += i;
  const __u8* data = (const __u8*)(long)skb->data;  // read without a look at data_end
  return sum + data[0];
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
