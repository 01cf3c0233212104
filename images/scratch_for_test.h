// A directory that goes away with the test, and its files as strings.
#pragma once

#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "base/fd.h"

namespace dormouse::images {

class Scratch {
 public:
  Scratch() {
    // In memory where that is possible: some tests write a file a thousand times.
    path_ = "/dev/shm/dormouse-images-XXXXXX";
    if (::mkdtemp(path_.data()) == nullptr) {
      path_ = testing::TempDir() + "/dormouse-images-XXXXXX";
      if (::mkdtemp(path_.data()) == nullptr) ::abort();
    }
    fd_ = Fd(::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() {
    for (const std::string& name : names()) ::unlinkat(fd_.get(), name.c_str(), 0);
    ::rmdir(path_.c_str());
  }

  int fd() const { return fd_.get(); }
  const std::string& path() const { return path_; }

  std::vector<std::string> names() const {
    std::vector<std::string> names;
    DIR* dir = ::opendir(path_.c_str());
    while (const dirent* entry = ::readdir(dir))
      if (std::string_view(entry->d_name) != "." && std::string_view(entry->d_name) != "..")
        names.emplace_back(entry->d_name);
    ::closedir(dir);
    return names;
  }
  bool has(const std::string& name) const { return ::faccessat(fd_.get(), name.c_str(), F_OK, 0) == 0; }
  void put(const std::string& name, std::string_view content) const {
    const Fd file(::openat(fd_.get(), name.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    ASSERT_EQ(::write(file.get(), content.data(), content.size()), static_cast<ssize_t>(content.size()));
  }
  std::string get(const std::string& name) const {
    const Fd file(::openat(fd_.get(), name.c_str(), O_RDONLY | O_CLOEXEC));
    std::string content;
    char piece[4096];
    for (ssize_t got; (got = ::read(file.get(), piece, sizeof piece)) > 0;)
      content.append(piece, static_cast<std::size_t>(got));
    return content;
  }
  void remove(const std::string& name) const { ::unlinkat(fd_.get(), name.c_str(), 0); }

 private:
  std::string path_;
  Fd fd_;
};

}  // namespace dormouse::images
