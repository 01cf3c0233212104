// /proc/PID/ns/…: a descriptor of a namespace that tasks live in.
#pragma once

#include <optional>
#include <string_view>

#include "engine/files/file_kind.h"
#include "engine/namespaces/kinds.h"

namespace dormouse::engine {

class NamespaceFile final : public FileKind {
 public:
  std::string_view name() const override { return "namespace"; }
  int type() const override;
  bool matches(const OpenFile& file) const override;
  Result<> save(const OpenFile& file, std::uint32_t id, FilesSaver& saver) override;
  Result<Fd> open(const pb::file_entry& entry, FilesOpener& opener) override;
};

// Of what kind the namespace is that a link of /proc/PID/fd names, "net:[4026531840]"; null: it names none.
const NamespaceKind* namespace_kind_of_link(std::string_view link);
// What task_kobj_ids_entry says about that kind; 0: nothing.
std::uint32_t namespace_number(const pb::task_kobj_ids_entry& ids, std::uint64_t flag);

}  // namespace dormouse::engine
