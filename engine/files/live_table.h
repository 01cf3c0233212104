// For tests: a child process with a descriptor table of the test's making, its dump into a temporary
// directory, and the table opened again from there.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/format.h"
#include "engine/files/files_dump.h"
#include "engine/files/files_restore.h"
#include "engine/mounts/mount_table.h"
#include "kernel/file.h"
#include "kernel/process.h"

namespace dormouse::engine {

// The value, or a test failure that says why not.
template <class T>
T must(Result<T> result) {
  if (!result) {
    ADD_FAILURE() << result.error().message();
    if constexpr (!std::is_void_v<T>) abort();
  }
  if constexpr (!std::is_void_v<T>) return std::move(result).value();
}

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string name = testing::TempDir() + "dormouse-files-XXXXXX";
    path_ = ::mkdtemp(name.data());
    fd_ = must(sys::openat(AT_FDCWD, path_, O_RDONLY | O_DIRECTORY));
  }
  ~TemporaryDirectory() { remove(path_); }
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  int fd() const { return fd_.get(); }

 private:
  static void remove(const std::string& path) {
    if (auto entries = sys::list_directory(AT_FDCWD, path))
      for (const auto& entry : *entries) {
        const std::string below = path + "/" + entry.name;
        if (::unlink(below.c_str()) != 0) remove(below);
      }
    ::rmdir(path.c_str());
  }
  std::string path_;
  Fd fd_;
};

// A forked child that ran `prepare` and waits. What it opens is up to `prepare`; it gets 0, 1 and 2 as
// /dev/null and no other descriptor of the test.
class Child {
 public:
  explicit Child(const std::function<void()>& prepare) {
    int ready[2];
    if (::pipe2(ready, O_CLOEXEC) != 0) abort();
    task_ = std::make_unique<Task>();
    task_->pid = task_->ns_pid = ::fork();
    if (task_->pid == 0) run(ready[1], prepare);
    ::close(ready[1]);
    char byte;
    // A byte, and then the end of the file: the child's end is out of its table by then.
    const bool prepared = ::read(ready[0], &byte, 1) == 1 && ::read(ready[0], &byte, 1) == 0;
    ::close(ready[0]);
    EXPECT_TRUE(prepared) << "the child died while it prepared its table";
    pid_ = task_->pid;
    task_->comm = "victim";
    task_->ns_pgid = ::getpgid(task_->pid);
    task_->ns_sid = ::getsid(task_->pid);
    task_->files_id = 1;
    task_->threads = {{task_->pid, task_->pid}};
    task_->pidfd = must(sys::pidfd_open(task_->pid));
    task_->proc = must(sys::openat(AT_FDCWD, format("/proc/{}", task_->pid), O_PATH | O_DIRECTORY));
  }
  Child(const Child&) = delete;
  ~Child() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  pid_t pid() const { return pid_; }
  // What the child tells its readiness with. A process that `prepare` forks and leaves must close it.
  static constexpr int kReady = 900;
  std::unique_ptr<Task> take_task() { return std::move(task_); }

 private:
  [[noreturn]] static void run(int ready, const std::function<void()>& prepare) {
    ::dup3(ready, kReady, O_CLOEXEC);
    const int null = ::open("/dev/null", O_RDWR);
    for (int number = 0; number < 3; ++number) ::dup2(null, number);
    ::close_range(3, kReady - 1, 0);
    ::close_range(kReady + 1, ~0u, 0);
    prepare();
    (void)!::write(kReady, "x", 1);
    ::close(kReady);
    for (;;) ::pause();
  }
  std::unique_ptr<Task> task_;
  pid_t pid_ = 0;
};

class LiveTable : public testing::Test {
 protected:
  // One more task of the tree; the first is its root.
  Child& add_child(const std::function<void()>& prepare) {
    children_.push_back(std::make_unique<Child>(prepare));
    tree_.tasks.push_back(children_.back()->take_task());
    tree_.tasks.back()->files_id = static_cast<std::uint32_t>(tree_.tasks.size());
    return *children_.back();
  }
  Task& task(std::size_t index = 0) { return *tree_.tasks[index]; }

  // Dumps every task's table. True if nothing stood in the way; blockers() tells otherwise.
  bool dump() {
    blockers_ = std::make_unique<Blockers>();
    out_ = std::make_unique<images::OutputDirectory>(must(images::OutputDirectory::open(images_.fd())));
    context_ = std::make_unique<DumpContext>(DumpContext{options, log_, *out_, tree_, *blockers_});
    mounts_ = std::make_unique<MountTable>(
        must(MountTable::of(must(sys::read_file(AT_FDCWD, "/proc/self/mountinfo")))));
    files_ = std::make_unique<FilesDump>(must(FilesDump::begin(*context_, *mounts_)));
    std::vector<const Task*> tasks;
    for (const auto& each : tree_.tasks) tasks.push_back(each.get());
    must(files_->save_tables(tasks));
    before_finish();
    blockers_->note(files_->save_in_flight());
    must(files_->finish());
    return blockers_->empty();
  }
  // For paths and other things to save between tables and the end.
  virtual void before_finish() {}
  std::vector<std::string> blockers() {
    std::vector<std::string> messages;
    for (const Error& error : std::move(*blockers_).take()) messages.push_back(error.message());
    return messages;
  }
  FilesDump& saved() { return *files_; }
  // As if the checkpoint had failed.
  void drop_dump() { files_.reset(); }
  std::string image_path(const std::string& name) const { return images_ / name; }

  // Reads the image back.
  void load() {
    in_ = std::make_unique<images::InputDirectory>(must(images::InputDirectory::open(images_.fd())));
    auto files = must(in_->reader(images::kFiles));
    pb::file_entry file;
    while (must(files.next(file))) image.files[file.id()] = file;
    for (const auto& each : tree_.tasks) {
      auto table = must(in_->reader(images::kFdinfo, each->files_id));
      pb::fdinfo_entry descriptor;
      while (must(table.next(descriptor))) image.descriptors[each->files_id].push_back(descriptor);
    }
    restore_context_ = std::make_unique<RestoreContext>(RestoreContext{restore_options, log_, *in_, image});
    Fd root = must(sys::openat(AT_FDCWD, "/", O_PATH | O_DIRECTORY));
    restored_ = std::make_unique<FilesRestore>(must(FilesRestore::begin(*restore_context_, std::move(root))));
  }
  // The saved descriptor of a table, or null.
  const pb::fdinfo_entry* descriptor(int number, std::uint32_t files_id = 1) const {
    for (const auto& each : image.descriptors.at(files_id))
      if (each.fd() == static_cast<std::uint32_t>(number)) return &each;
    return nullptr;
  }
  const pb::file_entry& saved_file(int number, std::uint32_t files_id = 1) const {
    const auto* const found = descriptor(number, files_id);
    if (found == nullptr) ADD_FAILURE() << "descriptor " << number << " was not saved";
    return image.files.at(found->id());
  }
  Result<images::Reader> image_reader(const images::ImageType& type) const { return in_->reader(type); }
  FilesRestore& restored() { return *restored_; }
  Result<int> reopen(int number, std::uint32_t files_id = 1) {
    return restored_->open(descriptor(number, files_id)->id());
  }
  // Kills the victims, as a checkpoint does.
  void end() { children_.clear(); }

  TemporaryDirectory scratch;
  CheckpointOptions options;
  RestoreOptions restore_options;
  Image image;

 private:
  TemporaryDirectory images_;
  NullLog log_;
  Tree tree_;
  std::vector<std::unique_ptr<Child>> children_;
  std::unique_ptr<Blockers> blockers_;
  std::unique_ptr<images::OutputDirectory> out_;
  std::unique_ptr<DumpContext> context_;
  std::unique_ptr<MountTable> mounts_;
  std::unique_ptr<FilesDump> files_;
  std::unique_ptr<images::InputDirectory> in_;
  std::unique_ptr<RestoreContext> restore_context_;
  std::unique_ptr<FilesRestore> restored_;
};

// For a child's set-up: gives an open file this descriptor, and no other.
inline void place(int fd, int number) {
  ::dup2(fd, number);
  ::close(fd);
}

// The whole content from the current position on.
inline std::string read_rest(int fd) { return must(sys::read_all(fd)); }

inline void write_text(const std::string& path, std::string_view text) {
  const Fd file = must(sys::openat(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, 0644));
  must(sys::write_all(file.get(), text));
}

}  // namespace dormouse::engine
