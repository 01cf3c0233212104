#include "kernel/proc/status.h"

#include <algorithm>

#include "base/text.h"
#include "kernel/proc/scan.h"

namespace dormouse::proc {

namespace {

template <class T>
void read_list(Scan& scan, std::vector<T>& to) {
  for (scan.blanks(); !scan.at_end() && scan.ok(); scan.blanks()) to.push_back(scan.number<T>());
}
void read_four(Scan& scan, FourIds& to) {
  for (auto& id : to) {
    scan.blanks();
    id = scan.number<std::uint32_t>();
  }
}
template <class T>
void read_number(Scan& scan, T& to, int base = 10) {
  to = scan.number<T>(base);
}

using Read = void (*)(Scan&, Status&);
struct Field {
  std::string_view key;
  Read read;
};

// In the order in which the kernel has them (fs/proc/array.c), for the search below.
constexpr Field kFields[] = {
    // The name's own newlines and backslashes are escaped.
    {"Name", [](Scan& s, Status& t) {
       for (std::string_view rest = s.rest(); !rest.empty(); rest.remove_prefix(1)) {
         if (rest.starts_with("\\n") || rest.starts_with("\\\\")) {
           t.name += rest[1] == 'n' ? '\n' : '\\';
           rest.remove_prefix(1);
         } else {
           t.name += rest.front();
         }
       }
     }},
    {"Umask", [](Scan& s, Status& t) { read_number(s, t.umask, 8); }},
    {"State", [](Scan& s, Status& t) { t.state = s.at_end() ? '?' : s.rest().front(); }},
    {"Tgid", [](Scan& s, Status& t) { read_number(s, t.tgid); }},
    {"Pid", [](Scan& s, Status& t) { read_number(s, t.pid); }},
    {"PPid", [](Scan& s, Status& t) { read_number(s, t.ppid); }},
    {"TracerPid", [](Scan& s, Status& t) { read_number(s, t.tracer_pid); }},
    {"Uid", [](Scan& s, Status& t) { read_four(s, t.uid); }},
    {"Gid", [](Scan& s, Status& t) { read_four(s, t.gid); }},
    {"Groups", [](Scan& s, Status& t) { read_list(s, t.groups); }},
    {"NStgid", [](Scan& s, Status& t) { read_list(s, t.ns_tgid); }},
    {"NSpid", [](Scan& s, Status& t) { read_list(s, t.ns_pid); }},
    {"NSpgid", [](Scan& s, Status& t) { read_list(s, t.ns_pgid); }},
    {"NSsid", [](Scan& s, Status& t) { read_list(s, t.ns_sid); }},
    {"Kthread", [](Scan& s, Status& t) { t.kernel_thread = s.number<int>() != 0; }},
    {"VmSize", [](Scan& s, Status& t) { read_number(s, t.vm_size_kb); }},
    {"VmLck", [](Scan& s, Status& t) { read_number(s, t.vm_locked_kb); }},
    {"VmRSS", [](Scan& s, Status& t) { read_number(s, t.vm_rss_kb); }},
    {"CoreDumping", [](Scan& s, Status& t) { t.dumping_core = s.number<int>() != 0; }},
    {"THP_enabled", [](Scan& s, Status& t) { t.thp_enabled = s.number<int>() != 0; }},
    {"Threads", [](Scan& s, Status& t) { read_number(s, t.threads); }},
    {"SigQ", [](Scan& s, Status& t) {
       read_number(s, t.queued_signals);
       s.expect('/');
       read_number(s, t.queued_signals_limit);
     }},
    {"SigPnd", [](Scan& s, Status& t) { read_number(s, t.pending, 16); }},
    {"ShdPnd", [](Scan& s, Status& t) { read_number(s, t.shared_pending, 16); }},
    {"SigBlk", [](Scan& s, Status& t) { read_number(s, t.blocked, 16); }},
    {"SigIgn", [](Scan& s, Status& t) { read_number(s, t.ignored, 16); }},
    {"SigCgt", [](Scan& s, Status& t) { read_number(s, t.caught, 16); }},
    {"CapInh", [](Scan& s, Status& t) { read_number(s, t.cap_inheritable, 16); }},
    {"CapPrm", [](Scan& s, Status& t) { read_number(s, t.cap_permitted, 16); }},
    {"CapEff", [](Scan& s, Status& t) { read_number(s, t.cap_effective, 16); }},
    {"CapBnd", [](Scan& s, Status& t) { read_number(s, t.cap_bounding, 16); }},
    {"CapAmb", [](Scan& s, Status& t) { read_number(s, t.cap_ambient, 16); }},
    {"NoNewPrivs", [](Scan& s, Status& t) { t.no_new_privs = s.number<int>() != 0; }},
    {"Seccomp", [](Scan& s, Status& t) { read_number(s, t.seccomp); }},
    {"Seccomp_filters", [](Scan& s, Status& t) { read_number(s, t.seccomp_filters); }},
};

// The next one is where the last one was, nearly always.
const Field* find_field(std::string_view key, const Field* from) {
  const auto found = std::find_if(from, std::end(kFields), [key](const Field& field) { return field.key == key; });
  if (found != std::end(kFields)) return found;
  const auto before = std::find_if(std::begin(kFields), from, [key](const Field& field) { return field.key == key; });
  return before == from ? nullptr : before;
}

}  // namespace

Result<Status> parse_status(std::string_view text) {
  Status status;
  const Field* next = std::begin(kFields);
  while (!text.empty()) {
    const std::string_view line = take_until(text, '\n');
    const auto colon = line.find(':');
    if (colon == std::string_view::npos) return fail(unexpected_line("status", line));
    const Field* const field = find_field(line.substr(0, colon), next);
    if (field == nullptr) continue;
    next = field + 1;
    Scan scan(line.substr(colon + 1));
    // Exactly one tab, so that a name (the first field) may begin with a blank; numbers may be padded.
    if (!scan.at_end()) scan.expect('\t');
    if (field != std::begin(kFields)) scan.blanks();
    field->read(scan, status);
    if (!scan.ok()) return fail(unexpected_line("status", line));
  }
  if (status.pid == 0) return fail(Error::unsupported("status has no Pid line"));
  return status;
}

}  // namespace dormouse::proc
