#include "engine/task/security_label.h"

#include <gtest/gtest.h>

namespace dormouse::engine {
namespace {

using enum SecurityModule;

TEST(SecurityLabelTest, TheModeIsNoPartOfAProfilesName) {
  EXPECT_EQ(label_of("docker-default (enforce)\n"), "docker-default");
  EXPECT_EQ(label_of("unconfined\n"), "");
  EXPECT_EQ(label_of(std::string_view("system_u:system_r:container_t:s0:c1,c2\0", 39)),
            "system_u:system_r:container_t:s0:c1,c2");
  EXPECT_EQ(label_of(""), "");
}

TEST(SecurityLabelTest, AnOptionGoesBeforeTheImage) {
  EXPECT_EQ(*label_to_restore(kApparmor, kApparmor, "docker-default", ""), "docker-default");
  EXPECT_EQ(*label_to_restore(kApparmor, kApparmor, "docker-default", "apparmor:other"), "other");
  EXPECT_EQ(*label_to_restore(kNone, kApparmor, "docker-default", "none"), "");
  EXPECT_EQ(*label_to_restore(kSelinux, kNone, "", "selinux:a:b:c:s0"), "a:b:c:s0");
  EXPECT_EQ(*label_to_restore(kNone, kNone, "", ""), "");
}

TEST(SecurityLabelTest, ALabelOfAnotherModuleIsRefused) {
  const auto refused = label_to_restore(kNone, kApparmor, "docker-default", "");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message(),
            "security label 'docker-default': this node has no security module, not AppArmor (choose another one "
            "with --lsm-profile, or --lsm-profile=none)");
  EXPECT_EQ(label_to_restore(kNone, kNone, "", "tomoyo:x").error().kind(), Error::Kind::kBadOption);
}

TEST(SecurityLabelTest, TheThreadWritesItsOwnAttribute) {
  parasite::Program program;
  append_label(program, append_label_file(program), kApparmor, "docker-default");
  EXPECT_EQ(program.print(),
            "0: fsopen(data+0x0, 1)  ; a proc file system for the security label\n"
            "1: fsconfig(result#0, 6)  ; a proc file system for the security label\n"
            "2: fsmount(result#0, 1)  ; a proc file system for the security label\n"
            "3: openat(result#2, data+0x8, 0x80001)  ; the thread's security label\n"
            "4: write(result#3, data+0x28, 28)  ; security label 'docker-default'\n"
            "5: close(result#3)\n"
            "6: close(result#2)\n"
            "7: close(result#0)\n");
}

}  // namespace
}  // namespace dormouse::engine
