#include "tcpshim/tcp_types.h"

#include <gtest/gtest.h>

namespace understudy::tcpshim {
namespace {

TEST(TcpTypesTest, SequenceNumbersWrap) {
  EXPECT_TRUE(SeqBefore(1, 2));
  EXPECT_FALSE(SeqBefore(2, 2));
  EXPECT_TRUE(SeqBefore(0xfffffff0u, 5));
  EXPECT_FALSE(SeqBefore(5, 0xfffffff0u));
  EXPECT_TRUE(SeqAfter(5, 0xfffffff0u));
  EXPECT_FALSE(SeqAfter(7, 7));
  EXPECT_EQ(SeqMax(0xfffffff0u, 5), 5u);
  EXPECT_EQ(SeqMax(5, 0xfffffff0u), 5u);
  EXPECT_EQ(SeqMax(9, 9), 9u);
}

TEST(TcpTypesTest, PrintedAsPeopleWriteThem) {
  FourTuple tuple = {{0xc6120001, 7000}, {0xc61200ff, 40000}};
  EXPECT_EQ(tuple.local.ToString(), "198.18.0.1:7000");
  EXPECT_EQ(tuple.ToString(), "198.18.0.1:7000 <- 198.18.0.255:40000");
  EXPECT_EQ(SocketAddress().ToString(), "0.0.0.0:0");
}

}  // namespace
}  // namespace understudy::tcpshim
