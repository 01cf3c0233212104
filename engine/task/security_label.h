// The label a security module (AppArmor, SELinux) has put on a thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"
#include "parasite/host/program.h"

namespace dormouse::engine {

// The numbers are those of the image's lsmtype.
enum class SecurityModule : std::uint8_t { kNone = 0, kSelinux = 1, kApparmor = 2 };

// The one that is in force on this node.
SecurityModule security_module();

// What /proc/TID/attr/current means: "docker-default (enforce)\n" is the profile docker-default,
// "unconfined" is none.
std::string label_of(std::string_view text);

// The label to restore. `option` ("apparmor:NAME", "selinux:NAME", "none") goes before what was saved, which is
// `saved` by `saved_by`. Empty: none. kUnsupported if this node has another security module.
Result<std::string> label_to_restore(SecurityModule here, SecurityModule saved_by, std::string_view saved,
                                     std::string_view option);

// The thread's own attribute file. Only the thread itself may write it (Linux 5.13), and there may be no /proc where
// it lives: needs the privilege to mount one.
struct LabelFile {
  parasite::OpRef file_system, mount, attribute;
};
LabelFile append_label_file(parasite::Program& program);
// The thread takes the label on. From then on it may do only what that allows.
void append_label(parasite::Program& program, const LabelFile& file, SecurityModule here, const std::string& label);

}  // namespace dormouse::engine
