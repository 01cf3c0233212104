// The trials behind kernel/features.h. Each leaves nothing behind and says false when it cannot tell.
#pragma once

namespace dormouse::sys::probes {

bool pagemap_scan();
bool pagemap_scan_guard();
bool soft_dirty();
bool userfaultfd();
bool userfaultfd_fork();
bool userfaultfd_wp_async();
bool process_vm();
bool memfd();
bool memfd_hugetlb();
bool map_vdso();
bool aio_remap();

bool pidfd_getfd();
bool clone3_set_tid();
bool clone_into_cgroup();
bool rseq_configuration();
bool suspend_seccomp();
bool seccomp_filters();
bool hardware_breakpoints();
bool timer_restore_ids();
bool kcmp_epoll();
bool compat_tasks();
bool user_namespace();
bool cgroup_namespace();
bool time_namespace();
bool ns_pid();
bool loginuid();
bool apparmor_stacking();

bool mount_id();
bool fdinfo_lock();
bool timerfd();
bool openat2();
bool move_mount();
bool move_mount_set_group();
bool mount_setattr();
bool autofs();
bool overlay_maps();

bool socket_namespace();
bool socket_unix_file();
bool socket_buffer_lock();
bool ipv6_freebind();
bool tcp_half_closed();
bool net_diag_raw();
bool nsid();
bool link_nsid();
bool new_ifindex();
bool tun();
bool tun_namespace();
bool nftables();
bool iptables_legacy();

}  // namespace dormouse::sys::probes
