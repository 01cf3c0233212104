#include <linux/bpf.h>
#include <sys/syscall.h>

#include "tests/workloads/workload.h"

WORKLOAD("holds a bpf program") {
  const bpf_insn code[] = {{BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, 0}, {BPF_JMP | BPF_EXIT, 0, 0, 0, 0}};
  bpf_attr attributes{};
  attributes.prog_type = BPF_PROG_TYPE_SOCKET_FILTER;
  attributes.insns = reinterpret_cast<uint64_t>(code);
  attributes.insn_cnt = 2;
  attributes.license = reinterpret_cast<uint64_t>("GPL");
  if (syscall(SYS_bpf, BPF_PROG_LOAD, &attributes, sizeof attributes) < 0) workload::skip("this kernel lets us load no bpf program");
  workload::checkpoint_here();
}
