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

// Sorted by key, for the search below.
constexpr Field kFields[] = {
    {"CapAmb", [](Scan& s, Status& t) { read_number(s, t.cap_ambient, 16); }},
    {"CapBnd", [](Scan& s, Status& t) { read_number(s, t.cap_bounding, 16); }},
    {"CapEff", [](Scan& s, Status& t) { read_number(s, t.cap_effective, 16); }},
    {"CapInh", [](Scan& s, Status& t) { read_number(s, t.cap_inheritable, 16); }},
    {"CapPrm", [](Scan& s, Status& t) { read_number(s, t.cap_permitted, 16); }},
    {"CoreDumping", [](Scan& s, Status& t) { t.dumping_core = s.number<int>() != 0; }},
    {"Gid", [](Scan& s, Status& t) { read_four(s, t.gid); }},
    {"Groups", [](Scan& s, Status& t) { read_list(s, t.groups); }},
    {"Kthread", [](Scan& s, Status& t) { t.kernel_thread = s.number<int>() != 0; }},
    {"NSpgid", [](Scan& s, Status& t) { read_list(s, t.ns_pgid); }},
    {"NSpid", [](Scan& s, Status& t) { read_list(s, t.ns_pid); }},
    {"NSsid", [](Scan& s, Status& t) { read_list(s, t.ns_sid); }},
    {"NStgid", [](Scan& s, Status& t) { read_list(s, t.ns_tgid); }},
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
    {"NoNewPrivs", [](Scan& s, Status& t) { t.no_new_privs = s.number<int>() != 0; }},
    {"PPid", [](Scan& s, Status& t) { read_number(s, t.ppid); }},
    {"Pid", [](Scan& s, Status& t) { read_number(s, t.pid); }},
    {"Seccomp", [](Scan& s, Status& t) { read_number(s, t.seccomp); }},
    {"Seccomp_filters", [](Scan& s, Status& t) { read_number(s, t.seccomp_filters); }},
    {"ShdPnd", [](Scan& s, Status& t) { read_number(s, t.shared_pending, 16); }},
    {"SigBlk", [](Scan& s, Status& t) { read_number(s, t.blocked, 16); }},
    {"SigCgt", [](Scan& s, Status& t) { read_number(s, t.caught, 16); }},
    {"SigIgn", [](Scan& s, Status& t) { read_number(s, t.ignored, 16); }},
    {"SigPnd", [](Scan& s, Status& t) { read_number(s, t.pending, 16); }},
    {"SigQ", [](Scan& s, Status& t) {
       read_number(s, t.queued_signals);
       s.expect('/');
       read_number(s, t.queued_signals_limit);
     }},
    {"State", [](Scan& s, Status& t) { t.state = s.at_end() ? '?' : s.rest().front(); }},
    {"THP_enabled", [](Scan& s, Status& t) { t.thp_enabled = s.number<int>() != 0; }},
    {"Tgid", [](Scan& s, Status& t) { read_number(s, t.tgid); }},
    {"Threads", [](Scan& s, Status& t) { read_number(s, t.threads); }},
    {"TracerPid", [](Scan& s, Status& t) { read_number(s, t.tracer_pid); }},
    {"Uid", [](Scan& s, Status& t) { read_four(s, t.uid); }},
    {"Umask", [](Scan& s, Status& t) { read_number(s, t.umask, 8); }},
    {"VmLck", [](Scan& s, Status& t) { read_number(s, t.vm_locked_kb); }},
    {"VmRSS", [](Scan& s, Status& t) { read_number(s, t.vm_rss_kb); }},
    {"VmSize", [](Scan& s, Status& t) { read_number(s, t.vm_size_kb); }},
};
static_assert(std::ranges::is_sorted(kFields, {}, &Field::key));

}  // namespace

Result<Status> parse_status(std::string_view text) {
  Status status;
  while (!text.empty()) {
    const std::string_view line = take_until(text, '\n');
    const auto colon = line.find(':');
    if (colon == std::string_view::npos) return fail(unexpected_line("status", line));
    const auto* field = std::ranges::lower_bound(kFields, line.substr(0, colon), {}, &Field::key);
    if (field == std::end(kFields) || field->key != line.substr(0, colon)) continue;
    Scan scan(line.substr(colon + 1));
    // Exactly one tab, so that a name may begin with a blank; numbers may be padded.
    if (!scan.at_end()) scan.expect('\t');
    if (field->key != "Name") scan.blanks();
    field->read(scan, status);
    if (!scan.ok()) return fail(unexpected_line("status", line));
  }
  if (status.pid == 0) return fail(Error::unsupported("status has no Pid line"));
  return status;
}

}  // namespace dormouse::proc
