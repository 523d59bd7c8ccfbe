// Runs the eBPF programs, one packet at a time (BPF_PROG_TEST_RUN): no interface, no timing. They are those
// that a SouthWrapper has attached, so its methods are tested with them.
//
// Needs root, and says so; makes a network namespace of its own, which goes with the process.
#ifndef UNDERSTUDY_TCPSHIM_SOUTH_PROGRAM_FOR_TEST_H_
#define UNDERSTUDY_TCPSHIM_SOUTH_PROGRAM_FOR_TEST_H_

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <net/if.h>
#include <sched.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tcpshim/frames_for_test.h"
#include "tcpshim/segment.h"
#include "tcpshim/south_attachment.h"
#include "tcpshim/south_wrapper.h"
#include "tcpshim/unique_fd.h"

namespace understudy::tcpshim {

inline constexpr int kPass = -1;    // TC_ACT_UNSPEC
inline constexpr int kSwallow = 4;  // TC_ACT_STOLEN, or TC_ACT_REDIRECT to nowhere
inline constexpr SocketAddress kService = {0xc6120001, 7000};
inline constexpr uint32_t kClientIp = 0xc6120002;
inline constexpr Seq kIss = 5;  // of what the tests add to the table
inline constexpr bool kByHand = true;
inline constexpr uint16_t kHandIpId = 0x1234;

inline constexpr SegmentFlags kAck = {.ack = true};
inline constexpr SegmentFlags kSynAck = {.syn = true, .ack = true};
inline constexpr SegmentFlags kFinAck = {.fin = true, .ack = true};
inline constexpr SegmentFlags kRstAck = {.rst = true, .ack = true};

struct Verdict {
  int action;
  std::string frame;
};

class SouthProgramTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    ASSERT_EQ(unshare(CLONE_NEWNET), 0)
        << "this test must run as root: it loads BPF programs in a network namespace of its own";
    ASSERT_EQ(system("ip link add south0 type veth peer name south1"), 0);
    south_ = Attach(kService).release();
    ASSERT_NE(south_, nullptr);
    south_->OpenGate();
    south_->RenewUntil(std::chrono::steady_clock::now() + std::chrono::hours(1));
    egress_ = ProgramFd(SouthAttachment::kEgress);
    ingress_ = ProgramFd(SouthAttachment::kIngress);
    elsewhere_ = ProgramFd(SouthAttachment::kEgress, kService, "south1");
    ASSERT_GE(egress_, 0);
    ASSERT_GE(ingress_, 0);
  }

  static void TearDownTestSuite() {
    delete south_;
    close(egress_);
    close(ingress_);
    close(elsewhere_);
  }

  static std::unique_ptr<SouthWrapper> Attach(const SocketAddress& service) {
    SouthWrapper::Options options;
    options.interface = "south0";
    options.service = service;
    options.hand_ip_id = kHandIpId;
    options.max_connections = 64;
    auto south = SouthWrapper::Attach(options);
    EXPECT_TRUE(south.ok()) << south.status();
    return south.ok() ? *std::move(south) : nullptr;
  }

  static int ProgramFd(SouthAttachment::Direction direction, const SocketAddress& service = kService,
                       const char* interface = "south0") {
    const south_service who = {htonl(service.ip), htons(service.port), 0};
    const auto ids = SouthAttachment::ProgramIds(static_cast<int>(if_nametoindex(interface)), direction, who);
    EXPECT_EQ(ids.size(), 1u) << interface;
    return ids.empty() ? -1 : bpf_prog_get_fd_by_id(ids[0]);
  }

  void SetUp() override {
    ASSERT_NE(south_, nullptr) << "no south wrapper: see the first failure";
    static uint16_t port = 20000;
    client_ = {kClientIp, ++port};
    DrainEvents();
    counters_ = south_->Counters();
  }
  void TearDown() override {
    for (SouthWrapper::Slot slot : slots_) south_->Remove(slot);
  }

  // The verdict program behind the entry program `entry`, for the same direction.
  static int BehindEntry(int entry) {
    std::array<uint32_t, 32> ids = {};
    bpf_prog_info info = {};
    info.nr_map_ids = ids.size();
    info.map_ids = reinterpret_cast<uintptr_t>(ids.data());
    uint32_t size = sizeof(info);
    EXPECT_EQ(bpf_obj_get_info_by_fd(entry, &info, &size), 0);
    const std::string_view name = info.name;
    const uint32_t place =
        name.starts_with("south_egress_el") ? SOUTH_VERDICT_ELSEWHERE : SOUTH_VERDICT_EGRESS;
    for (uint32_t i = 0; i < info.nr_map_ids; ++i) {
      const UniqueFd map(bpf_map_get_fd_by_id(ids[i]));
      bpf_map_info about = {};
      size = sizeof(about);
      if (bpf_obj_get_info_by_fd(map.get(), &about, &size) != 0 || about.type != BPF_MAP_TYPE_PROG_ARRAY)
        continue;
      uint32_t program = 0;
      EXPECT_EQ(bpf_map_lookup_elem(map.get(), &place, &program), 0);
      return bpf_prog_get_fd_by_id(program);
    }
    ADD_FAILURE() << info.name << " has no program array";
    return -1;
  }

  // `by_hand`: which the entry programs know by the packet's socket. Packets of a test run have one that
  // nobody knows, so that these go to the verdict program directly, with what the entry program would say.
  Verdict Run(int program, const std::string& frame, bool by_hand = false, uint32_t mark = 0) {
    std::vector<char> out(frame.size() + 512);
    __sk_buff context = {};
    context.mark = mark;
    UniqueFd verdict;
    if (by_hand) {
      verdict = UniqueFd(BehindEntry(program));
      program = verdict.get();
      context.cb[SOUTH_CB_BY_HAND] = 1;
    }
    bpf_test_run_opts options = {};
    options.sz = sizeof(options);
    options.data_in = frame.data();
    options.data_size_in = static_cast<uint32_t>(frame.size());
    options.data_out = out.data();
    options.data_size_out = static_cast<uint32_t>(out.size());
    options.ctx_in = &context;
    options.ctx_size_in = sizeof(context);
    options.repeat = 1;
    const int error = bpf_prog_test_run_opts(program, &options);
    EXPECT_EQ(error, 0) << strerror(-error) << " frame of " << frame.size();
    const int action = static_cast<int>(options.retval);
    return {action == 7 ? kSwallow : action, std::string(out.data(), options.data_size_out)};
  }
  int Egress(const std::string& frame, bool by_hand = false) { return Run(egress_, frame, by_hand).action; }
  int Egress(const Segment& segment, bool by_hand = false) {
    return Egress(Frame(*BuildPacket(segment)), by_hand);
  }
  int Elsewhere(const Segment& segment, bool by_hand = false) {
    return Run(elsewhere_, Frame(*BuildPacket(segment)), by_hand).action;
  }
  int Ingress(const Segment& segment) { return Run(ingress_, Frame(*BuildPacket(segment))).action; }

  // The counters that have changed since the last call, by name.
  std::map<std::string, uint64_t> Counted() {
    const auto now = south_->Counters();
    std::map<std::string, uint64_t> changed;
    for (int i = 0; i < SOUTH_COUNTERS; ++i) {
      if (now[i] != counters_[i]) changed[SouthWrapper::CounterName(i)] = now[i] - counters_[i];
    }
    counters_ = now;
    return changed;
  }

  std::vector<south_event> DrainEvents() {
    std::vector<south_event> events;
    south_->PollEvents([&events](const south_event& event) { events.push_back(event); }, 1 << 20);
    return events;
  }

  Segment FromServer(Seq seq, Seq ack, SegmentFlags flags, uint16_t window = 500) {
    Segment segment;
    segment.source = kService;
    segment.destination = client_;
    segment.seq = seq;
    segment.ack = ack;
    segment.flags = flags;
    segment.window = window;
    return segment;
  }
  Segment FromClient(Seq seq, Seq ack, SegmentFlags flags, uint16_t window = 400) {
    Segment segment = FromServer(seq, ack, flags, window);
    std::swap(segment.source, segment.destination);
    return segment;
  }

  SouthWrapper::Slot Add(Seq stable, uint32_t flags = SOUTH_OPEN, uint8_t wscale = 7) {
    auto slot = south_->Add({kService, client_}, kIss, stable, flags, wscale);
    EXPECT_TRUE(slot.ok()) << slot.status();
    slots_.push_back(*slot);
    return *slot;
  }

  static inline SouthWrapper* south_ = nullptr;
  static inline int egress_ = -1;
  static inline int ingress_ = -1;
  static inline int elsewhere_ = -1;  // egress of another interface
  SocketAddress client_;
  std::vector<SouthWrapper::Slot> slots_;
  std::array<uint64_t, SOUTH_COUNTERS> counters_;
};

}  // namespace understudy::tcpshim

#endif  // UNDERSTUDY_TCPSHIM_SOUTH_PROGRAM_FOR_TEST_H_
