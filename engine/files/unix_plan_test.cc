#include "engine/files/unix_plan.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include "images/schema/files.pb.h"

namespace dormouse::engine {
namespace {

class UnixPlanTest : public testing::Test {
 protected:
  pb::unix_sk_entry& add(std::uint32_t inode, int type, int state, std::uint32_t peer, std::string name = "") {
    pb::file_entry& file = files_[inode];
    file.set_type(pb::UNIXSK);
    file.set_id(inode);
    pb::unix_sk_entry& entry = *file.mutable_usk();
    entry.set_id(inode);
    entry.set_ino(inode);
    entry.set_type(static_cast<std::uint32_t>(type));
    entry.set_state(static_cast<std::uint32_t>(state));
    entry.set_peer(peer);
    entry.set_name(std::move(name));
    return entry;
  }
  Result<UnixPlan> plan(std::set<std::uint32_t> fed = {}) { return plan_unix_sockets(files_, fed); }
  UnixBirth birth(std::size_t index, std::set<std::uint32_t> fed = {}) {
    const auto planned = plan(std::move(fed));
    if (!planned) ADD_FAILURE() << planned.error().message();
    return planned ? planned->sockets.at(index).birth : UnixBirth::kOutside;
  }

  std::map<std::uint32_t, pb::file_entry> files_;
};

TEST_F(UnixPlanTest, EndsThatNameEachOtherAreAPair) {
  add(1, SOCK_STREAM, kEstablished, 2);
  add(2, SOCK_STREAM, kEstablished, 1);
  EXPECT_EQ(birth(0), UnixBirth::kPair);
  EXPECT_TRUE(plan()->connections.empty());
}

TEST_F(UnixPlanTest, WhoHasTheNameOfAListenerIsAccepted) {
  add(1, SOCK_STREAM, kListening, 0, "/l");
  add(2, SOCK_STREAM, kEstablished, 3);
  add(3, SOCK_STREAM, kEstablished, 2, "/l");
  const auto planned = plan();
  ASSERT_TRUE(planned);
  EXPECT_EQ(planned->sockets[2].birth, UnixBirth::kAccepted);
  EXPECT_TRUE(planned->sockets[2].accepted);
  EXPECT_FALSE(planned->sockets[2].binds);
  EXPECT_FALSE(planned->sockets[1].accepted);
}

TEST_F(UnixPlanTest, AStreamWithoutAPeerIsAnOrphan) {
  add(1, SOCK_STREAM, kEstablished, 0);
  EXPECT_EQ(birth(0), UnixBirth::kOrphan);
}

TEST_F(UnixPlanTest, ADatagramSocketThatSomebodyIsConnectedToIsNone) {
  add(1, SOCK_DGRAM, kEstablished, 0, "/a");
  add(2, SOCK_DGRAM, kEstablished, 1);
  EXPECT_EQ(birth(0), UnixBirth::kAlone);
  EXPECT_EQ(birth(0, {1}), UnixBirth::kFed);
}

TEST_F(UnixPlanTest, ConnectsBeforeItsPeerDoes) {
  add(1, SOCK_DGRAM, kEstablished, 2, "/a");
  add(2, SOCK_DGRAM, kEstablished, 3, "/b");
  add(3, SOCK_DGRAM, kClosed, 0, "/c");
  add(4, SOCK_DGRAM, kEstablished, 1);
  const auto planned = plan();
  ASSERT_TRUE(planned);
  EXPECT_EQ(planned->connections, (std::vector<std::size_t>{3, 0, 1}));
}

TEST_F(UnixPlanTest, APairWithMoreWhoAreConnectedToItIsConnectedByName) {
  add(1, SOCK_DGRAM, kEstablished, 2, "/a");
  add(2, SOCK_DGRAM, kEstablished, 1, "/b");
  add(3, SOCK_DGRAM, kEstablished, 1);
  const auto planned = plan();
  ASSERT_TRUE(planned);
  EXPECT_EQ(planned->sockets[0].birth, UnixBirth::kAlone);
  EXPECT_EQ(planned->connections, (std::vector<std::size_t>{1, 2, 0}));
}

TEST_F(UnixPlanTest, OneMayBeConnectedToItself) {
  add(1, SOCK_DGRAM, kEstablished, 1, "/a");
  const auto planned = plan();
  ASSERT_TRUE(planned);
  EXPECT_EQ(planned->connections, (std::vector<std::size_t>{0}));
}

TEST_F(UnixPlanTest, RefusesNonsense) {
  const auto refused = [&](auto&& make) {
    files_.clear();
    make();
    const auto planned = plan();
    return !planned && planned.error().kind() == Error::Kind::kCorruptImage;
  };
  EXPECT_TRUE(refused([&] { add(1, SOCK_RAW, kClosed, 0); }));
  EXPECT_TRUE(refused([&] { add(1, SOCK_STREAM, 5, 0); }));
  EXPECT_TRUE(refused([&] { add(1, SOCK_STREAM, kClosed, 0, std::string(200, 'x')); }));
  EXPECT_TRUE(refused([&] { add(1, SOCK_STREAM, kClosed, 0).set_deleted(true); }));
  EXPECT_TRUE(refused([&] { add(1, SOCK_STREAM, kClosed, 0).set_ino(0); }));
  EXPECT_TRUE(refused([&] {
    add(1, SOCK_STREAM, kEstablished, 2);
    add(2, SOCK_SEQPACKET, kEstablished, 1);
  }));
  EXPECT_TRUE(refused([&] {
    add(1, SOCK_DGRAM, kEstablished, 2);
    add(2, SOCK_DGRAM, kClosed, 0);
  }));
  EXPECT_TRUE(refused([&] {
    add(1, SOCK_STREAM, kEstablished, 2);
    add(2, SOCK_STREAM, kClosed, 0, "/a");
  }));
  EXPECT_TRUE(refused([&] {
    add(1, SOCK_DGRAM, kClosed, 0);
    add(2, SOCK_DGRAM, kClosed, 0).set_ino(1);
  }));
}

TEST(UnixNameTest, TellsPathsFromAbstractNames) {
  EXPECT_EQ(unix_path(std::string_view("/a/b\0", 5)), "/a/b");
  EXPECT_EQ(unix_path(std::string_view("\0a", 2)), "");
  EXPECT_EQ(unix_path(""), "");
  EXPECT_EQ(printable_name(std::string_view("\0a\0b", 4)), "@a@b");
}

TEST(UnixNameTest, FindsTheDirectoryARelativeNameBeganIn) {
  EXPECT_EQ(directory_of_name("/run/x/s", "x/s"), "/run");
  EXPECT_EQ(directory_of_name("/run/s", "./s"), "/run");
  EXPECT_EQ(directory_of_name("/s", "s"), "/");
  EXPECT_EQ(directory_of_name("/run/xs", "s"), std::nullopt);
  EXPECT_EQ(directory_of_name("/run/other", "s"), std::nullopt);
}

}  // namespace
}  // namespace dormouse::engine
