#include <linux/keyctl.h>
#include <sys/syscall.h>

#include "tests/workloads/workload.h"

WORKLOAD("keyrings of a process and of a thread that are empty, or were never asked for, are no obstacle") {
  const long thread = syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_THREAD_KEYRING, 1);
  if (thread < 0) workload::skip("no keyrings can be made here");
  workload::checkpoint_here();
  CHECK(syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_THREAD_KEYRING, 1) > 0);
  CHECK(syscall(SYS_add_key, "user", "dormouse:key", "x", 1, KEY_SPEC_THREAD_KEYRING) > 0);
}
