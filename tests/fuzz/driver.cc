// A stand-in for libFuzzer: NAME SECONDS FOLDER… takes the files in the folders, damages them in the ways that
// damage decoders, and runs the target on the results. It does not watch coverage. A crash ends the program; the
// input that did it is then in crash-input in the current directory.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "base/fd.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using Random = std::mt19937_64;

std::string content(const std::string& path) {
  const dormouse::Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::string text(64 << 10, '\0');
  const ssize_t got = ::read(file.get(), text.data(), text.size());
  text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  return text;
}

std::vector<std::string> read_seeds(int folders, char** paths) {
  std::vector<std::string> seeds;
  for (int i = 0; i < folders; ++i) {
    DIR* folder = ::opendir(paths[i]);
    if (!folder) continue;
    while (const dirent* entry = ::readdir(folder))
      if (entry->d_type == DT_REG) seeds.push_back(content(std::string(paths[i]) + "/" + entry->d_name));
    ::closedir(folder);
  }
  return seeds;
}

// One kind of damage. Sizes that are too large, wrap around or end too early are what decoders trip over.
void damage(std::string& text, const std::vector<std::string>& seeds, Random& random) {
  static constexpr std::uint64_t kNumbers[] = {0,      1,          0x7f,       0x80,       0xff,          0xffff,
                                               1 << 20, 0x7fffffff, 0x80000000, 0xffffffff, 1ull << 40, ~0ull};
  const auto below = [&](std::size_t n) { return n == 0 ? 0 : random() % n; };
  const std::size_t at = below(text.size());
  switch (below(7)) {
    case 0:
      if (!text.empty()) text[at] = static_cast<char>(text[at] ^ (1 << below(8)));
      return;
    case 1:
      if (!text.empty()) text[at] = static_cast<char>(random());
      return;
    case 2: text.resize(at); return;
    case 3: text.erase(at, below(16)); return;
    case 4: text.insert(at, text.substr(below(text.size()), below(64))); return;
    case 5: {
      const std::uint64_t number = kNumbers[below(std::size(kNumbers))];
      const std::size_t width = std::size_t{1} << below(4);
      if (text.size() < at + width) return;
      for (std::size_t i = 0; i < width; ++i) text[at + i] = static_cast<char>(number >> 8 * i);
      return;
    }
    default: {
      const std::string& other = seeds[below(seeds.size())];
      text = text.substr(0, at) + other.substr(below(other.size()));
    }
  }
}

void keep(const std::string& input) {
  const dormouse::Fd file(::open("crash-input", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (::write(file.get(), input.data(), input.size()) < 0) std::perror("crash-input");
}

// What is being tried, for the handler.
const std::string* current = nullptr;

void crashed(int signal) {
  if (current) keep(*current);
  ::signal(signal, SIG_DFL);
  ::raise(signal);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: %s SECONDS FOLDER…\n", argv[0]);
    return 2;
  }
  const std::vector<std::string> seeds = read_seeds(argc - 2, argv + 2);
  if (seeds.empty()) {
    std::fputs("no seeds\n", stderr);
    return 2;
  }
  for (const int signal : {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL}) ::signal(signal, crashed);
  const std::uint64_t start = std::random_device{}();
  std::printf("random start %llu\n", static_cast<unsigned long long>(start));
  Random random(start);
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(std::atoi(argv[1]));
  std::uint64_t runs = 0;
  const auto run = [&](const std::string& input) {
    current = &input;
    LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(input.data()), input.size());
    ++runs;
  };
  for (const std::string& seed : seeds) run(seed);
  while (std::chrono::steady_clock::now() < end) {
    std::string input = seeds[random() % seeds.size()];
    for (std::uint64_t n = 1 + random() % 4; n > 0; --n) damage(input, seeds, random);
    run(input);
  }
  std::printf("%llu runs\n", static_cast<unsigned long long>(runs));
  return 0;
}
