// What the south wrapper costs each packet: nanoseconds in the egress and ingress programs, by verdict.
// Run as root; makes a network namespace of its own.
//
// Measured by the kernel (BPF_PROG_TEST_RUN). A clamped packet is another packet afterwards, so clamping
// is the median of single runs, which includes some 20 ns of reading the clock.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <glog/logging.h>
#include <net/if.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "tcpshim/segment.h"
#include "tcpshim/south_wrapper.h"

namespace understudy::tcpshim {
namespace {

constexpr SocketAddress kService = {0xc6120001, 7000};
constexpr SocketAddress kClient = {0xc6120002, 40000};

// Of the one filter there.
int ProgramFd(bpf_prog_type type, const char* name) {
  uint32_t id = 0;
  int found = -1;
  while (bpf_prog_get_next_id(id, &id) == 0) {
    const int fd = bpf_prog_get_fd_by_id(id);
    bpf_prog_info info = {};
    uint32_t size = sizeof(info);
    if (fd >= 0 && bpf_obj_get_info_by_fd(fd, &info, &size) == 0 && info.type == type &&
        strcmp(info.name, name) == 0) {
      if (found >= 0) close(found);
      found = fd;  // the newest
    } else if (fd >= 0) {
      close(fd);
    }
  }
  CHECK_GE(found, 0) << name;
  return found;
}

uint32_t Run(int program, const std::string& packet, int repeat) {
  const std::string frame = std::string(12, '\2') + std::string("\x08\0", 2) + packet;
  bpf_test_run_opts options = {};
  options.sz = sizeof(options);
  options.data_in = frame.data();
  options.data_size_in = static_cast<uint32_t>(frame.size());
  options.repeat = repeat;
  CHECK_EQ(bpf_prog_test_run_opts(program, &options), 0);
  return options.duration;
}

void Print(const char* what, uint32_t ns) { printf("%-50s %5u ns\n", what, ns); }

uint32_t Median(int program, const std::string& packet) {
  std::vector<uint32_t> runs;
  for (int i = 0; i < 100000; ++i) runs.push_back(Run(program, packet, 1));
  std::nth_element(runs.begin(), runs.begin() + 50000, runs.end());
  return runs[50000];
}

int Main() {
  constexpr int kRepeat = 1000000;
  CHECK_EQ(unshare(CLONE_NEWNET), 0) << "must run as root";
  CHECK_EQ(system("ip link add south0 type veth peer name south1"), 0);
  SouthWrapper::Options options;
  options.interface = "south0";
  options.service = kService;
  auto south = SouthWrapper::Attach(options);
  CHECK(south.ok()) << south.status();
  const int egress = ProgramFd(BPF_PROG_TYPE_SCHED_CLS, "south_egress");
  const int ingress = ProgramFd(BPF_PROG_TYPE_SCHED_CLS, "south_ingress");

  Segment ack;
  ack.source = kService;
  ack.destination = kClient;
  ack.seq = 50;
  ack.ack = 1000;
  ack.flags.ack = true;
  ack.window = 500;
  ack.timestamps = Segment::Timestamps{10, 20};
  const std::string stable = *BuildPacket(ack);
  Segment segment = ack;
  segment.source.ip = kClient.ip;
  const std::string other = *BuildPacket(segment);
  segment = ack;
  segment.ack = 2000;
  const std::string held = *BuildPacket(segment);
  const std::string payload(1000, 'p');
  segment.payload = payload;
  const std::string clamped = *BuildPacket(segment);
  segment.ack = 1000;
  const std::string data = *BuildPacket(segment);
  // TIMESTAMPS and one SACK block, as Linux lays them out.
  segment = ack;
  segment.ack = 2000;
  segment.payload = payload;
  std::string sack = *BuildPacket(segment);
  sack.insert(52, std::string("\1\1\5\n\0\0\xb\xb8\0\0\xf\xa0", 12));
  sack[32] = static_cast<char>(11 << 4);
  sack[2] = static_cast<char>(sack.size() >> 8);
  sack[3] = static_cast<char>(sack.size());
  segment = ack;
  std::swap(segment.source, segment.destination);
  segment.seq = 1000;
  segment.ack = 50;
  const std::string in = *BuildPacket(segment);

  Print("egress, not from the service address", Run(egress, other, kRepeat));
  Print("egress, gate closed", Run(egress, stable, kRepeat));
  (*south)->OpenGate();
  (*south)->RenewUntil(std::chrono::steady_clock::now() + std::chrono::hours(1));
  auto slot = (*south)->Add({kService, kClient}, 1, 1000, SOUTH_OPEN, 7);
  CHECK(slot.ok()) << slot.status();
  Print("egress, lone ACK that is stable: pass", Run(egress, stable, kRepeat));
  Print("egress, data with an ACK that is stable: pass", Run(egress, data, kRepeat));
  Print("egress, lone ACK past the stable point: hold", Run(egress, held, kRepeat));
  Print("egress, the pass above in single runs", Median(egress, data));
  Print("egress, data past the stable point: clamp", Median(egress, clamped));
  Print("egress, the same with a SACK block to blank", Median(egress, sack));
  Print("ingress, ACK of a known connection", Run(ingress, in, kRepeat));
  close(egress);
  close(ingress);
  return 0;
}

}  // namespace
}  // namespace understudy::tcpshim

int main(int, char** argv) {
  google::InitGoogleLogging(argv[0]);
  FLAGS_logtostderr = true;
  return understudy::tcpshim::Main();
}
