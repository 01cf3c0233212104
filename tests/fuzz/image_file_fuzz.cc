// Any bytes as any image: decoding must end in records or a named error. What was decoded and is written again must
// be decodable again. The kind is taken from the file's own magic number.
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <string>

#include "images/catalogue.h"
#include "images/recode.h"

using namespace dormouse;

namespace {

// A directory in memory, removed at the end of the program.
class Directory {
 public:
  Directory() {
    if (!::mkdtemp(path_)) ::abort();
    fd_ = Fd(::open(path_, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  }
  ~Directory() {
    ::unlinkat(fd_.get(), name_.c_str(), 0);
    ::rmdir(path_);
  }
  int fd() const { return fd_.get(); }
  void put(const std::string& name, const std::uint8_t* data, std::size_t size) {
    if (name != name_) ::unlinkat(fd_.get(), name_.c_str(), 0);
    name_ = name;
    const Fd file(::openat(fd_.get(), name.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (::write(file.get(), data, size) != static_cast<ssize_t>(size)) ::abort();
  }

 private:
  char path_[64] = "/dev/shm/dormouse-fuzz-XXXXXX";
  std::string name_ = "-";
  Fd fd_;
};

std::uint32_t number_at(const std::uint8_t* data, std::size_t size, std::size_t at) {
  std::uint32_t number = 0;
  for (std::size_t i = 0; i < 4 && at + i < size; ++i) number |= std::uint32_t{data[at + i]} << 8 * i;
  return number;
}

const images::ImageKind* kind_of(const std::uint8_t* data, std::size_t size) {
  const std::uint32_t first = number_at(data, size, 0), second = number_at(data, size, 4);
  for (const images::ImageKind& kind : images::all_kinds()) {
    if (!kind.first) continue;
    const bool own = kind.type->preamble == images::Preamble::kOwnOnly;
    if (kind.type->magic == (own ? first : second)) return &kind;
  }
  return nullptr;
}

void must(const Result<>& done, const char* what) {
  if (done) return;
  std::fprintf(stderr, "%s: %s\n", what, done.error().message().c_str());
  ::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static Directory source, target;
  const images::ImageKind* kind = kind_of(data, size);
  if (!kind || kind->type->preamble == images::Preamble::kService) return 0;
  const std::string name = images::file_name(*kind->type, 1);
  source.put(name, data, size);
  const auto in = images::InputDirectory::open(source.fd());
  if (!in) ::abort();
  auto out = images::OutputDirectory::open(target.fd());
  if (!out) ::abort();
  const Result<> recoded = images::recode(*in, *out);
  if (recoded) {
    const auto again = images::InputDirectory::open(target.fd());
    must(images::check_records(*again), "what was written");
  } else if (recoded.error().object() != name) {
    must(recoded, "the error does not name the file");
  }
  out->discard();
  return 0;
}
