// The benchmarks, by the names that --only takes.
#ifndef UNDERSTUDY_BENCH_SUITES_H_
#define UNDERSTUDY_BENCH_SUITES_H_

#include "bench/report.h"

namespace understudy::bench {

void EchoOne(Report& report);      // echo1: latency over one connection, against a bare TCP round trip
void EchoMany(Report& report);     // echo50: throughput and CPU over fifty
void Bulk(Report& report);         // bulk: upload and download
void PauseOnKill(Report& report);  // kill: pause on kill -9, and the reply in flight
void PauseOnCut(Report& report);   // cut: pause on a power cut
void Restore(Report& report);      // restore: a takeover with a thousand connections

// The key-value store beside Redis (bench/kv):
void KvSet(Report& report);       // kvset: SET over fifty connections
void KvGet(Report& report);       // kvget: GET over fifty connections
void KvPipeline(Report& report);  // kvpipe: SET in pipelines of sixteen
void KvOne(Report& report);       // kv1: latency over one connection
void KvMany(Report& report);      // kvmany: ten thousand connections against fifty

}  // namespace understudy::bench

#endif  // UNDERSTUDY_BENCH_SUITES_H_
