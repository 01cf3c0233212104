#include "engine/task/credentials.h"

#include <linux/capability.h>
#include <linux/securebits.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <cerrno>

#include "base/format.h"
#include "images/schema/credentials.pb.h"

namespace dormouse::engine {
namespace {

constexpr std::uint32_t kNobody = ~std::uint32_t{0};  // changes nothing, where an id is expected

using Words = google::protobuf::RepeatedField<std::uint32_t>;

void save_set(std::uint64_t set, Words* to) {
  to->Add(static_cast<std::uint32_t>(set));
  to->Add(static_cast<std::uint32_t>(set >> 32));
}
std::uint64_t set_of(const Words& words) {
  std::uint64_t set = 0;
  for (int i = 0; i < words.size() && i < 2; ++i) set |= std::uint64_t{words[i]} << (32 * i);
  return set;
}

struct Capabilities {
  std::uint64_t inheritable = 0, permitted = 0, effective = 0, bounding = 0, ambient = 0;
};

Result<Capabilities> capabilities_of(const pb::creds_entry& from, unsigned last) {
  Capabilities set{set_of(from.cap_inh()), set_of(from.cap_prm()), set_of(from.cap_eff()),
                   set_of(from.cap_bnd()), set_of(from.cap_amb())};
  const std::uint64_t known = last >= 63 ? ~std::uint64_t{0} : (std::uint64_t{1} << (last + 1)) - 1;
  if (const std::uint64_t unknown = set.permitted & ~known; unknown != 0)
    return fail(Error::unsupported(format("{} is not known to this kernel",
                                          capability_name(static_cast<unsigned>(__builtin_ctzll(unknown)))))
                    .remedy("restore on a newer kernel"));
  // What may be used is checked above; what might be gained by an exec on a kernel that does not know it
  // is no loss.
  set.inheritable &= known, set.bounding &= known;
  return set;
}

void append_capset(parasite::Program& program, std::string label, const Capabilities& set) {
  const __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2];
  for (unsigned i = 0; i < 2; ++i)
    data[i] = {static_cast<std::uint32_t>(set.effective >> (32 * i)),
               static_cast<std::uint32_t>(set.permitted >> (32 * i)),
               static_cast<std::uint32_t>(set.inheritable >> (32 * i))};
  program.call(std::move(label), SYS_capset, {program.value(header), program.value(data)});
}

void append_ids(parasite::Program& program, const pb::creds_entry& from) {
  const auto groups = std::as_bytes(std::span(from.groups().data(), static_cast<std::size_t>(from.groups_size())));
  program.call(format("{} supplementary groups", from.groups_size()), SYS_setgroups,
               {from.groups_size(), program.data(groups)});
  // Ids may change without the capability sets following. Where that is not allowed and yet needed, setting
  // the capabilities fails further down and says so.
  program.call("keep capabilities over the change of ids", SYS_prctl,
               {PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0}, parasite::ok_or(EPERM));
  program.call(format("group ids {}, {}, {}", from.gid(), from.egid(), from.sgid()), SYS_setresgid,
               {from.gid(), from.egid(), from.sgid()});
  program.call(format("user ids {}, {}, {}", from.uid(), from.euid(), from.suid()), SYS_setresuid,
               {from.uid(), from.euid(), from.suid()});
  // These tell the former id, whether they worked or not; asked a second time, whether they did.
  const auto set_fs_id = [&](std::string label, long call, std::uint32_t id) {
    program.call("", call, {id}, parasite::anything());
    program.call(std::move(label), call, {kNobody}, parasite::exactly(id));
  };
  set_fs_id(format("file system group id {}", from.fsgid()), SYS_setfsgid, from.fsgid());
  set_fs_id(format("file system user id {}", from.fsuid()), SYS_setfsuid, from.fsuid());
}

// A capability that is absent already may be "dropped" only by a thread with CAP_SETPCAP, so what counts is
// that it is absent afterwards.
void append_bounding_set(parasite::Program& program, std::uint64_t bounding, unsigned last) {
  for (unsigned number = 0; number <= last; ++number) {
    if (bounding & (std::uint64_t{1} << number)) continue;
    program.call("", SYS_prctl, {PR_CAPBSET_DROP, number, 0, 0, 0}, parasite::anything());
    program.call("without " + capability_name(number) + " in the bounding set", SYS_prctl,
                 {PR_CAPBSET_READ, number, 0, 0, 0}, parasite::exactly(0));
  }
}

void append_securebits(parasite::Program& program, std::uint32_t bits) {
  // Nothing to take back if the bit above was refused.
  program.call(format("securebits {:#x}", bits), SYS_prctl, {PR_SET_SECUREBITS, bits, 0, 0, 0},
               bits == 0 ? parasite::ok_or(EPERM) : parasite::ok());
}

}  // namespace

std::string capability_name(unsigned number) {
  if (number > CAP_LAST_CAP) return format("capability {}", number);
  char* name = ::cap_to_name(static_cast<cap_value_t>(number));
  if (name == nullptr) return format("capability {}", number);
  std::string upper = name;
  ::cap_free(name);
  for (char& c : upper)
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  return upper;
}

unsigned last_capability() {
  static const unsigned last = [] {
    unsigned number = 63;
    while (number > 0 && ::prctl(PR_CAPBSET_READ, number, 0, 0, 0) < 0) --number;
    return number;
  }();
  return last;
}

CredentialsAsked ask_credentials(parasite::Program& program, std::size_t group_count) {
  CredentialsAsked asked;
  constexpr std::uint32_t kId = sizeof(std::uint32_t);
  asked.uids = program.zeros(3 * kId);
  asked.gids = program.zeros(3 * kId);
  asked.groups = program.zeros(group_count * kId);
  asked.group_count = group_count;
  program.call("ask for user ids", SYS_getresuid, {asked.uids, asked.uids + kId, asked.uids + 2 * kId});
  program.call("ask for group ids", SYS_getresgid, {asked.gids, asked.gids + kId, asked.gids + 2 * kId});
  asked.fsuid = program.call("ask for the file system user id", SYS_setfsuid, {kNobody}, parasite::anything());
  asked.fsgid = program.call("ask for the file system group id", SYS_setfsgid, {kNobody}, parasite::anything());
  if (group_count > 0)
    program.call("ask for supplementary groups", SYS_getgroups, {group_count, asked.groups},
                 parasite::exactly(static_cast<std::int64_t>(group_count)));
  asked.securebits = program.call("ask for securebits", SYS_prctl, {PR_GET_SECUREBITS, 0, 0, 0, 0});
  return asked;
}

void save_credentials(const parasite::Placed& placed, const CredentialsAsked& asked, const proc::Status& status,
                      const std::string& label, pb::creds_entry& to) {
  struct Ids {
    std::uint32_t real, effective, saved;
  };
  const auto uids = placed.value<Ids>(asked.uids);
  const auto gids = placed.value<Ids>(asked.gids);
  to.set_uid(uids.real), to.set_euid(uids.effective), to.set_suid(uids.saved);
  to.set_gid(gids.real), to.set_egid(gids.effective), to.set_sgid(gids.saved);
  to.set_fsuid(static_cast<std::uint32_t>(placed.result(asked.fsuid)));
  to.set_fsgid(static_cast<std::uint32_t>(placed.result(asked.fsgid)));
  for (std::size_t i = 0; i < asked.group_count; ++i)
    to.add_groups(placed.value<std::uint32_t>(asked.groups + static_cast<std::uint32_t>(i * sizeof(std::uint32_t))));
  to.set_secbits(static_cast<std::uint32_t>(placed.result(asked.securebits)));
  save_set(status.cap_inheritable, to.mutable_cap_inh());
  save_set(status.cap_permitted, to.mutable_cap_prm());
  save_set(status.cap_effective, to.mutable_cap_eff());
  save_set(status.cap_bounding, to.mutable_cap_bnd());
  save_set(status.cap_ambient, to.mutable_cap_amb());
  if (status.no_new_privs) to.set_no_new_privs(1);
  if (!label.empty()) to.set_lsm_profile(label);
}

// Each step needs what a later one takes away: changing ids needs CAP_SETUID and CAP_SETGID, the bounding set
// and the securebits CAP_SETPCAP. A security label may forbid all of it, and no_new_privs a change of label.
Result<> append_credentials(parasite::Program& program, const pb::creds_entry& from, SecurityModule module,
                            const std::string& label) {
  const unsigned last = last_capability();
  const Capabilities wanted = TRY(capabilities_of(from, last));
  LabelFile label_file;
  if (!label.empty()) label_file = append_label_file(program);
  append_ids(program, from);
  // Inheritable capabilities outside the bounding set must be there before that is cut down; ambient ones
  // can be raised only while the securebits allow it. Both are rare.
  if (wanted.ambient != 0 || (wanted.inheritable & ~wanted.bounding) != 0) {
    Capabilities wide = wanted;
    wide.permitted |= std::uint64_t{1} << CAP_SETPCAP;
    wide.effective |= std::uint64_t{1} << CAP_SETPCAP;
    append_capset(program, "inheritable capabilities", wide);
    for (unsigned number = 0; number <= last; ++number)
      if (wanted.ambient & (std::uint64_t{1} << number))
        program.call("ambient " + capability_name(number), SYS_prctl,
                     {PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number, 0, 0});
  }
  append_bounding_set(program, wanted.bounding, last);
  append_securebits(program, from.secbits());
  append_capset(program, "capabilities", wanted);
  if (!label.empty()) append_label(program, label_file, module, label);
  if (from.no_new_privs() != 0)
    program.call("no_new_privs", SYS_prctl, {PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0});
  return {};
}

}  // namespace dormouse::engine
