#include "engine/memory/vdso_symbols.h"

#include <elf.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

namespace dormouse::engine {
namespace {

constexpr std::size_t kMostSymbols = 1024, kMostHeaders = 32, kMostDynamic = 128;

// Everything is copied out, and only if it is inside: the bytes come from an image.
template <class T>
std::optional<T> at(std::span<const std::byte> code, std::uint64_t offset) {
  if (offset > code.size() || code.size() - offset < sizeof(T)) return std::nullopt;
  T object;
  std::memcpy(&object, code.data() + offset, sizeof object);
  return object;
}

std::optional<std::string> text_at(std::span<const std::byte> code, std::uint64_t offset) {
  if (offset >= code.size()) return std::nullopt;
  const auto rest = code.subspan(offset);
  const auto end = std::find(rest.begin(), rest.end(), std::byte{0});
  if (end == rest.end()) return std::nullopt;
  return std::string(reinterpret_cast<const char*>(rest.data()), static_cast<std::size_t>(end - rest.begin()));
}

// The two kinds of ELF image.
struct Elf64 {
  using Header = Elf64_Ehdr;
  using Segment = Elf64_Phdr;
  using Dynamic = Elf64_Dyn;
  using Symbol = Elf64_Sym;
  static constexpr unsigned kClass = ELFCLASS64, kMachine = EM_X86_64;
};
struct Elf32 {
  using Header = Elf32_Ehdr;
  using Segment = Elf32_Phdr;
  using Dynamic = Elf32_Dyn;
  using Symbol = Elf32_Sym;
  static constexpr unsigned kClass = ELFCLASS32, kMachine = EM_386;
};

template <class Elf>
std::optional<typename Elf::Header> header_of(std::span<const std::byte> code) {
  const auto header = at<typename Elf::Header>(code, 0);
  if (!header || std::memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 || header->e_ident[EI_CLASS] != Elf::kClass ||
      header->e_machine != Elf::kMachine || header->e_phentsize != sizeof(typename Elf::Segment) ||
      header->e_phnum > kMostHeaders)
    return std::nullopt;
  return header;
}

struct Tables {
  std::uint64_t load_address = 0;  // addresses in the file count from here
  std::optional<std::uint64_t> symbols, names, hash, gnu_hash;
  std::uint32_t bloom_word_bytes = 8;
};

template <class Elf>
std::optional<Tables> find_tables(std::span<const std::byte> code, const typename Elf::Header& header) {
  using Segment = typename Elf::Segment;
  Tables tables;
  tables.bloom_word_bytes = sizeof(Elf::Dynamic::d_tag);
  std::optional<Segment> dynamic;
  bool loaded = false;
  for (unsigned i = 0; i < header.e_phnum; ++i) {
    const auto segment = at<Segment>(code, std::uint64_t{header.e_phoff} + i * sizeof(Segment));
    if (!segment) return std::nullopt;
    if (segment->p_type == PT_LOAD && !loaded) {
      loaded = true;
      tables.load_address = std::uint64_t{segment->p_vaddr} - segment->p_offset;
    }
    if (segment->p_type == PT_DYNAMIC) dynamic = segment;
  }
  if (!loaded || !dynamic) return std::nullopt;
  for (std::size_t i = 0; i < kMostDynamic; ++i) {
    const auto entry = at<typename Elf::Dynamic>(code, std::uint64_t{dynamic->p_offset} + i * sizeof(typename Elf::Dynamic));
    if (!entry || entry->d_tag == DT_NULL) break;
    const std::uint64_t offset = entry->d_un.d_ptr - tables.load_address;
    if (entry->d_tag == DT_SYMTAB) tables.symbols = offset;
    if (entry->d_tag == DT_STRTAB) tables.names = offset;
    if (entry->d_tag == DT_HASH) tables.hash = offset;
    if (entry->d_tag == DT_GNU_HASH) tables.gnu_hash = offset;
  }
  return tables;
}

// A symbol table does not say how long it is; the hash table over it does.
std::optional<std::size_t> count_symbols(std::span<const std::byte> code, const Tables& tables) {
  if (tables.hash) {
    const auto chains = at<std::uint32_t>(code, *tables.hash + 4);
    return chains ? std::optional<std::size_t>(*chains) : std::nullopt;
  }
  if (!tables.gnu_hash) return std::nullopt;
  struct {
    std::uint32_t buckets, first, bloom_words, shift;
  } head;
  const auto read = at<decltype(head)>(code, *tables.gnu_hash);
  if (!read || read->buckets > kMostSymbols || read->bloom_words > kMostSymbols) return std::nullopt;
  head = *read;
  const std::uint64_t buckets_at = *tables.gnu_hash + sizeof head + head.bloom_words * std::uint64_t{tables.bloom_word_bytes};
  const std::uint64_t chains_at = buckets_at + head.buckets * 4ull;
  std::uint32_t last = 0;
  for (std::uint32_t i = 0; i < head.buckets; ++i) {
    const auto first = at<std::uint32_t>(code, buckets_at + i * 4ull);
    if (!first) return std::nullopt;
    last = std::max(last, *first);
  }
  if (last < head.first) return head.first;
  for (;; ++last) {  // the last chain ends with a hash whose lowest bit is set
    const auto hash = at<std::uint32_t>(code, chains_at + (last - head.first) * 4ull);
    if (!hash) return std::nullopt;
    if (*hash & 1) return last + 1;
  }
}

using Functions = std::map<std::string, std::uint64_t>;

// Nothing: it is damaged.
template <class Elf>
std::optional<Functions> functions_of(std::span<const std::byte> code, const typename Elf::Header& header) {
  using Symbol = typename Elf::Symbol;
  const auto tables = find_tables<Elf>(code, header);
  if (!tables || !tables->symbols || !tables->names) return std::nullopt;
  const auto count = count_symbols(code, *tables);
  if (!count || *count > kMostSymbols) return std::nullopt;
  Functions functions;
  for (std::size_t i = 0; i < *count; ++i) {
    const auto symbol = at<Symbol>(code, *tables->symbols + i * sizeof(Symbol));
    if (!symbol) return std::nullopt;
    if (ELF64_ST_TYPE(symbol->st_info) != STT_FUNC || symbol->st_shndx == SHN_UNDEF) continue;
    const auto name = text_at(code, *tables->names + symbol->st_name);
    const std::uint64_t offset = symbol->st_value - tables->load_address;
    if (!name || offset >= code.size()) return std::nullopt;
    functions[*name] = offset;
  }
  return functions;
}

// Where the table of program headers is.
std::optional<std::pair<std::uint64_t, std::uint64_t>> headers_of(std::span<const std::byte> code) {
  const auto table = [](const auto& header, std::size_t bytes) {
    return std::pair<std::uint64_t, std::uint64_t>(header.e_phoff, std::uint64_t{header.e_phoff} + header.e_phnum * bytes);
  };
  if (const auto header = header_of<Elf64>(code)) return table(*header, sizeof(Elf64_Phdr));
  if (const auto header = header_of<Elf32>(code)) return table(*header, sizeof(Elf32_Phdr));
  return std::nullopt;
}

}  // namespace

Result<std::map<std::string, std::uint64_t>> vdso_functions(std::span<const std::byte> code) {
  std::optional<Functions> functions;
  if (const auto header = header_of<Elf64>(code)) functions = functions_of<Elf64>(code, *header);
  else if (const auto header32 = header_of<Elf32>(code)) functions = functions_of<Elf32>(code, *header32);
  if (!functions) return fail(Error::corrupt("the saved vdso is no readable ELF image"));
  return std::move(*functions);
}

bool same_vdso(std::span<const std::byte> one, std::span<const std::byte> other) {
  if (one.size() != other.size()) return false;
  const auto headers = headers_of(one);
  if (!headers) return std::equal(one.begin(), one.end(), other.begin());
  const std::uint64_t begin = std::min<std::uint64_t>(headers->first, one.size());
  const std::uint64_t end = std::clamp<std::uint64_t>(headers->second, begin, one.size());
  return std::equal(one.begin(), one.begin() + static_cast<std::ptrdiff_t>(begin), other.begin()) &&
         std::equal(one.begin() + static_cast<std::ptrdiff_t>(end), one.end(),
                    other.begin() + static_cast<std::ptrdiff_t>(end));
}

}  // namespace dormouse::engine
