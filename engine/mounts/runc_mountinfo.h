// For tests: /proc/PID/mountinfo of a container that `runc spec` describes, on a node with cgroup v1.
#pragma once

namespace dormouse::engine {

inline constexpr char kRuncMountinfo[] =
    R"(97 43 254:0 /bundle/rootfs / rw,relatime - ext4 /dev/vda rw,discard,resuid=65534
101 97 0:40 / /proc rw,relatime - proc proc rw
105 97 0:41 / /dev rw,nosuid - tmpfs tmpfs rw,size=65536k,mode=755
108 105 0:55 / /dev/pts rw,nosuid,noexec,relatime - devpts devpts rw,gid=5,mode=620,ptmxmode=666
110 105 0:58 / /dev/shm rw,nosuid,nodev,noexec,relatime - tmpfs shm rw,size=65536k
112 105 0:39 / /dev/mqueue rw,nosuid,nodev,noexec,relatime - mqueue mqueue rw
113 97 0:59 / /sys ro,nosuid,nodev,noexec,relatime - sysfs sysfs ro
114 113 0:60 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime - tmpfs tmpfs rw,mode=755
115 114 0:29 /box /sys/fs/cgroup/cpu ro,nosuid,nodev,noexec,relatime - cgroup cgroup rw,cpu
123 114 0:37 /box /sys/fs/cgroup/systemd ro,nosuid,nodev,noexec,relatime - cgroup cgroup rw,name=systemd
44 101 0:40 /bus /proc/bus ro,relatime - proc proc rw
58 101 0:40 /sys /proc/sys ro,relatime - proc proc rw
59 101 0:61 / /proc/acpi ro,relatime - tmpfs tmpfs ro
60 101 0:41 /null /proc/keys rw,nosuid - tmpfs tmpfs rw,size=65536k,mode=755
62 113 0:62 / /sys/firmware ro,relatime - tmpfs tmpfs ro
)";

}  // namespace dormouse::engine
