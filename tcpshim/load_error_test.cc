#include "tcpshim/load_error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tcpshim/unverifiable_for_test.skel.h"

namespace understudy::tcpshim {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

// As Linux 6.1 and libbpf 1.1 say it.
TEST(WhyNotLoaded, IsTheLastLineOfTheLogBeforeItsFigures) {
  EXPECT_EQ(WhyNotLoaded("libbpf: prog 'south_egress_verdict': BPF program load failed: Permission denied\n"
                         "libbpf: prog 'south_egress_verdict': -- BEGIN PROG LOAD LOG --\n"
                         "0: R1=ctx(off=0,imm=0) R10=fp0\n"
                         "; struct scratch* scratch = bpf_map_lookup_elem(&scratches, &zero);\n"
                         "391: (85) call bpf_skb_load_bytes#26\n"
                         "R4 invalid zero-sized read: u64=[0,40]\n"
                         "R3 min value is outside of the allowed memory range\n"
                         "processed 1234 insns (limit 1000000) max_states_per_insn 4 total_states 78 "
                         "peak_states 78 mark_read 23\n"
                         "-- END PROG LOAD LOG --\n"
                         "libbpf: prog 'south_egress_verdict': failed to load: -13\n"
                         "libbpf: failed to load object 'south'\n"),
            "south_egress_verdict: R3 min value is outside of the allowed memory range");
}

TEST(WhyNotLoaded, WithoutALogIsTheFirstComplaint) {
  EXPECT_EQ(WhyNotLoaded("libbpf: Error in bpf_create_map_xattr(events):Invalid argument(-22)\n"
                         "libbpf: failed to load object 'south'\n"),
            "Error in bpf_create_map_xattr(events):Invalid argument(-22)");
  EXPECT_EQ(WhyNotLoaded(""), "");
}

TEST(WhyNotLoaded, OfALogThatIsCutIsStillALine) {
  EXPECT_EQ(WhyNotLoaded("prog 'p': -- BEGIN PROG LOAD LOG --\n1: (b7) r0 = 0\n"), "p: 1: (b7) r0 = 0");
  EXPECT_EQ(WhyNotLoaded("-- BEGIN PROG LOAD LOG --\nno\n"), "no");
}

// The kernel's own words, of a program it cannot like.
TEST(LibbpfComplaints, HoldTheReasonHoweverLongTheLog) {
  LibbpfComplaints complaints;
  unverifiable_for_test* skeleton = unverifiable_for_test__open_and_load();
  ASSERT_EQ(skeleton, nullptr);
  EXPECT_GT(complaints.text().size(), 100000u) << "more than a message of glog can hold";
  const std::string why = WhyNotLoaded(complaints.text());
  EXPECT_THAT(why, StartsWith("reads_unchecked: "));
  EXPECT_THAT(why, HasSubstr("outside of the packet"));
}

TEST(LibbpfComplaints, AreThoseSinceTheInnermostBegan) {
  LibbpfComplaints outer;
  {
    LibbpfComplaints inner;
    EXPECT_EQ(unverifiable_for_test__open_and_load(), nullptr);
    EXPECT_NE(inner.text(), "");
  }
  EXPECT_EQ(outer.text(), "");
  EXPECT_EQ(unverifiable_for_test__open_and_load(), nullptr);
  EXPECT_NE(outer.text(), "");
}

}  // namespace
}  // namespace understudy::tcpshim
