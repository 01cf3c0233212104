// Device rules for cgroup v2: there they are not files but a small program that the kernel asks on
// every opening of a device node (Linux 4.15).
#pragma once

#include <linux/bpf.h>

#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "oci/config.h"

namespace dormouse::shim {

// The last rule that covers an access decides, as if the rules were applied one after the other;
// without one the answer is no.
std::vector<bpf_insn> device_filter(std::span<const oci::DeviceRule> rules);

// Loads the rules' program and attaches it to the cgroup, beside those that are there.
[[nodiscard]] Result<> attach_device_filter(const std::string& cgroup_directory,
                                            std::span<const oci::DeviceRule> rules);

}  // namespace dormouse::shim
