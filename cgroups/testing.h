// For the tests of this room: a directory tree that stands in for a hierarchy, and a real group.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <string_view>

#include "base/format.h"
#include "cgroups/layout.h"
#include "kernel/file.h"

namespace dormouse::cgroups {

class FakeTree {
 public:
  FakeTree() {
    std::string name = testing::TempDir() + "/dormouse-cgroups-XXXXXX";
    path_ = ::mkdtemp(name.data());
  }
  FakeTree(const FakeTree&) = delete;
  FakeTree& operator=(const FakeTree&) = delete;
  ~FakeTree() { std::filesystem::remove_all(path_); }

  const std::string& path() const { return path_; }
  void write(std::string_view name, std::string_view text) const {
    const std::filesystem::path file = std::filesystem::path(path_) / name;
    std::filesystem::create_directories(file.parent_path());
    const auto fd = sys::openat(AT_FDCWD, file.string(), O_WRONLY | O_CREAT | O_TRUNC, 0644).value();
    ASSERT_TRUE(sys::write_all(fd.get(), text));
  }
  std::string read(std::string_view name) const {
    return sys::read_file(AT_FDCWD, path_ + "/" + std::string(name)).value_or("(missing)");
  }
  bool exists(std::string_view name) const {
    return std::filesystem::exists(std::filesystem::path(path_) / name);
  }

 private:
  std::string path_;
};

// A new, empty group of this node, removed with the object. False without root or without the controller.
class LiveGroup {
 public:
  explicit LiveGroup(std::string_view controller) {
    if (::geteuid() != 0) {
      why_not_ = "not root";
      return;
    }
    auto layout = Layout::discover();
    const Hierarchy* const hierarchy = layout ? layout->find(controller) : nullptr;
    if (!hierarchy) {
      why_not_ = format("no hierarchy with '{}'", controller);
      return;
    }
    const auto own = layout->open(*hierarchy, hierarchy->own_path);
    name_ = format("dormouse-test-{}", ::getpid());
    if (!own || !sys::mkdirat(own->get(), name_, 0755)) {
      why_not_ = "cannot make a group";
      return;
    }
    parent_ = sys::openat(own->get(), ".", O_RDONLY | O_DIRECTORY).value();
    path_ = hierarchy->own_path + (hierarchy->own_path.ends_with('/') ? "" : "/") + name_;
    directory_ = sys::readlinkat(AT_FDCWD, format("/proc/self/fd/{}", parent_.get())).value() + "/" + name_;
  }
  LiveGroup(const LiveGroup&) = delete;
  LiveGroup& operator=(const LiveGroup&) = delete;
  ~LiveGroup() {
    // The kernel counts a killed task for a moment longer than wait() does.
    for (int i = 0; parent_ && i < 100; ++i) {
      if (sys::unlinkat(parent_.get(), name_, AT_REMOVEDIR)) return;
      ::usleep(1000);
    }
  }
  explicit operator bool() const { return static_cast<bool>(parent_); }
  const std::string& why_not() const { return why_not_; }
  const std::string& directory() const { return directory_; }  // on this node
  const std::string& path() const { return path_; }            // in its hierarchy
  void add(pid_t pid) const {
    ASSERT_TRUE(sys::write_file(parent_.get(), name_ + "/cgroup.procs", std::to_string(pid)));
  }

 private:
  Fd parent_;
  std::string name_, path_, directory_, why_not_;
};

}  // namespace dormouse::cgroups
