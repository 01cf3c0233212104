// What /proc/self/smaps says of one mapping.
#pragma once

#include "tests/workloads/workload.h"

namespace workload {

// Calls `look(line)` for each line about the mapping that `address` lies in.
template <class Look>
void look_into_smaps(const void* address, Look look) {
  FILE* smaps = MUST(fopen("/proc/self/smaps", "re"));
  const auto at = reinterpret_cast<unsigned long>(address);
  char line[512];
  bool inside = false;
  while (fgets(line, sizeof line, smaps)) {
    unsigned long from, to;
    if (sscanf(line, "%lx-%lx ", &from, &to) == 2) inside = from <= at && at < to;
    else if (inside) look(line);
  }
  fclose(smaps);
}

// Whether its VmFlags have the word.
inline bool has_vm_flag(const void* address, const char* flag) {
  char wanted[8];
  snprintf(wanted, sizeof wanted, " %s ", flag);
  bool found = false;
  look_into_smaps(address, [&](const char* line) {
    if (strncmp(line, "VmFlags:", 8) == 0) found = strstr(line, wanted) != nullptr;
  });
  return found;
}

// A number of kilobytes, "Private_Dirty" for example.
inline long smaps_kilobytes(const void* address, const char* key) {
  long found = 0;
  const size_t length = strlen(key);
  look_into_smaps(address, [&](const char* line) {
    if (strncmp(line, key, length) == 0 && line[length] == ':') found = atol(line + length + 1);
  });
  return found;
}

}  // namespace workload
