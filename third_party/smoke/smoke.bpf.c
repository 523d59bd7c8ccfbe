#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_helpers.h>

#include "third_party/smoke/smoke_bpf.h"

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct smoke_value);
} totals SEC(".maps");

SEC("tc")
int smoke_count(struct __sk_buff* skb) {
  __u32 key = 0;
  struct smoke_value* value = bpf_map_lookup_elem(&totals, &key);
  if (value) {
    __sync_fetch_and_add(&value->packets, 1);
    __sync_fetch_and_add(&value->bytes, skb->len);
  }
  return TC_ACT_OK;
}

char LICENSE[] SEC("license") = "GPL";
