#include "engine/plan/family.h"

#include <map>

#include "base/format.h"
#include "engine/memory/memory_plan.h"

namespace dormouse::engine {
namespace {

Error of_task(Error error, const ImageTask& task) {
  return std::move(error).object(format("task {} ({})", task.tree.pid(), task.core.tc().comm()));
}

}  // namespace

Result<Family> plan_family(const Image& image, bool shell_job) {
  Family family;
  family.members.resize(image.tasks.size());
  std::map<std::uint32_t, std::size_t> index;
  for (std::size_t i = 0; i < image.tasks.size(); ++i) {
    index[image.tasks[i].tree.pid()] = i;
    if (i == 0) continue;
    family.members[i].parent = index.at(image.tasks[i].tree.ppid());
    family.members[family.members[i].parent].children.push_back(i);
  }

  // The session each task is in when it is born; the root's comes from outside and has no number.
  std::vector<std::uint32_t> born_session(image.tasks.size(), 0);
  for (std::size_t i = 0; i < image.tasks.size(); ++i) {
    const ImageTask& task = image.tasks[i];
    FamilyMember& member = family.members[i];
    const std::uint32_t pid = task.tree.pid(), sid = task.tree.sid();
    member.makes_session = sid == pid;
    if (i == 0 && !member.makes_session && !(shell_job || sid == 0))
      return fail(of_task(Error::unsupported(format("its session {} was led by a process outside the tree", sid)), task)
                      .remedy("use --shell-job if the caller's session is to take its place"));
    if (i != 0 && !member.makes_session && sid != born_session[i])
      return fail(of_task(Error::unsupported(format("session {} has no leader it could inherit it from", sid)), task)
                      .remedy("sessions whose leader is gone are not supported yet"));
    member.session_first = member.makes_session;
    for (const std::size_t child : member.children) {
      const ImageTask& c = image.tasks[child];
      FamilyMember& m = family.members[child];
      m.inherits_memory = inherits_memory(task, c);
      const bool in_own_session = c.tree.sid() == sid || c.tree.sid() == c.tree.pid();
      const bool in_old_session = c.tree.sid() == born_session[i] && !in_own_session;
      if (in_old_session) member.session_first = false;
      if (in_old_session) m.born = m.inherits_memory ? BornWhen::kWithMemory : BornWhen::kEmpty;
      else m.born = m.inherits_memory || !member.session_first ? BornWhen::kInSession : BornWhen::kEmpty;
      born_session[child] = in_old_session ? born_session[i] : sid;
    }
    // A later child may have taken `session_first` back: then nobody of the new session comes early.
    if (member.makes_session && !member.session_first)
      for (const std::size_t child : member.children)
        if (born_session[child] == sid) family.members[child].born = BornWhen::kInSession;
    const std::uint32_t pgid = task.tree.pgid();
    member.makes_group = pgid == pid && !member.makes_session;
    member.joins_group = pgid != pid && !(i == 0 && !index.contains(pgid)) &&
                         (i == 0 || pgid != image.tasks[member.parent].tree.pgid());
    if (member.joins_group && !index.contains(pgid))
      return fail(of_task(Error::unsupported(format("the leader of its process group {} is gone", pgid)), task)
                      .remedy("groups whose leader is gone are not supported yet"));
  }
  return family;
}

}  // namespace dormouse::engine
