// recode_images FROM TO: decodes the checkpoint in FROM and writes it again, sealed, to TO.
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>

#include "images/recode.h"

using namespace dormouse;

static Result<> run(const char* from, const char* to) {
  const Fd source(::open(from, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const Fd target(::open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const auto in = TRY(images::InputDirectory::open(source.get()));
  TRY(in.verify());
  auto out = TRY(images::OutputDirectory::open(target.get()));
  TRY(images::recode(in, out));
  return out.seal({}, false);
}

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fputs("usage: recode_images FROM TO\n", stderr);
    return 2;
  }
  const auto done = run(argv[1], argv[2]);
  if (!done) std::fprintf(stderr, "%s\n", done.error().message().c_str());
  return done ? 0 : 1;
}
