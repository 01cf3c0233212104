#include "images/manifest.h"

#include <gtest/gtest.h>

#include "images/checksum.h"

namespace dormouse::images {
namespace {

Manifest example() {
  Manifest manifest;
  manifest.engine_version = "9.8.7";
  manifest.info = {.tasks = 2, .threads = 5, .pages = 1234, .root_comm = "sh", .extra = {{"host", "a"}}};
  manifest.files = {{"core-1.img", {100, 0x0123456789abcdef}}, {"pstree.img", {20, 7}}};
  manifest.page_files = {{"pages-1.img", {kPageChunkBytes + 1, {1, UINT64_MAX}}}, {"pages-2.img", {4096, {}}}};
  return manifest;
}

// A text with a seal that fits, whatever it says.
std::string sealed(std::string body) {
  return body + ",\n \"seal\": \"" + checksum_text(checksum(body)) + "\"\n}\n";
}
std::string with_file(const std::string& file) {
  return sealed(R"({"format":1,"engine":"x","info":{"tasks":1,"threads":1,"pages":0,"root_comm":""},"files":[)" +
                file + "]");
}

TEST(Manifest, ComesBackAsItWas) {
  const auto read = parse_manifest(manifest_text(example()));
  ASSERT_TRUE(read) << read.error().message();
  EXPECT_EQ(read->engine_version, "9.8.7");
  EXPECT_EQ(read->info.tasks, 2u);
  EXPECT_EQ(read->info.threads, 5u);
  EXPECT_EQ(read->info.pages, 1234u);
  EXPECT_EQ(read->info.root_comm, "sh");
  EXPECT_EQ(read->info.extra.at("host"), "a");
  ASSERT_EQ(read->files.size(), 2u);
  EXPECT_EQ(read->files.at("core-1.img").size_bytes, 100u);
  EXPECT_EQ(read->files.at("core-1.img").checksum, 0x0123456789abcdefu);
  ASSERT_EQ(read->page_files.size(), 2u);
  EXPECT_EQ(read->page_files.at("pages-1.img").chunk_checksums, (std::vector<std::uint64_t>{1, UINT64_MAX}));
  EXPECT_TRUE(read->page_files.at("pages-2.img").chunk_checksums.empty());
}

TEST(Manifest, TakesAnyBytesAsATaskName) {
  Manifest manifest = example();
  manifest.info.root_comm = "\xff\xfe\n\"";
  EXPECT_TRUE(parse_manifest(manifest_text(manifest)));
}

TEST(Manifest, EveryBitFlipIsFound) {
  std::string text = manifest_text(example());
  for (std::size_t bit = 0; bit < text.size() * 8; ++bit) {
    text[bit / 8] = static_cast<char>(text[bit / 8] ^ (1 << bit % 8));
    const auto read = parse_manifest(text);
    ASSERT_FALSE(read) << "bit " << bit;
    EXPECT_EQ(read.error().object(), kManifestName);
    text[bit / 8] = static_cast<char>(text[bit / 8] ^ (1 << bit % 8));
  }
}

TEST(Manifest, EveryCutIsFound) {
  const std::string text = manifest_text(example());
  for (std::size_t size = 0; size < text.size(); ++size) {
    const auto read = parse_manifest(std::string_view(text).substr(0, size));
    ASSERT_FALSE(read) << size;
    EXPECT_EQ(read.error().kind(), Error::Kind::kCorruptImage);
  }
  EXPECT_FALSE(parse_manifest(text + " "));
}

TEST(Manifest, TheDocumentedSealRuleHolds) {
  EXPECT_TRUE(parse_manifest(with_file(R"({"name":"a.img","size":1,"xxh64":"0000000000000000"})")));
}

TEST(Manifest, RefusesNamesThatLeaveTheDirectory) {
  for (const char* name : {"../core-1.img", "/etc/passwd", "a/b", "..", ".", "", "dormouse.json", ".hidden", "a\\\\b",
                           "a b", "a\\u0000b"}) {
    const auto read = parse_manifest(
        with_file(R"({"name":")" + std::string(name) + R"(","size":1,"xxh64":"0000000000000000"})"));
    EXPECT_FALSE(read) << name;
  }
}

TEST(Manifest, RefusesWhatMakesNoSense) {
  const char* const files[] = {
      "7",
      "{}",
      R"({"name":7,"size":1,"xxh64":"0000000000000000"})",
      R"({"name":"a.img","size":-1,"xxh64":"0000000000000000"})",
      R"({"name":"a.img","size":1.5,"xxh64":"0000000000000000"})",
      R"({"name":"a.img","size":1,"xxh64":"000000000000000"})",
      R"({"name":"a.img","size":1,"xxh64":"000000000000000g"})",
      R"({"name":"a.img","size":1,"xxh64":""})",
      R"({"name":"a.img","size":1,"chunk":4096,"xxh64":"0000000000000000"})",
      R"({"name":"a.img","size":1,"chunk":1048576,"xxh64":"00000000000000000000000000000000"})",
      R"({"name":"a.img","size":1,"xxh64":"0000000000000000"},{"name":"a.img","size":1,"xxh64":"0000000000000000"})",
      "{]",
  };
  for (const char* file : files) {
    const auto read = parse_manifest(with_file(file));
    ASSERT_FALSE(read) << file;
    EXPECT_EQ(read.error().object(), kManifestName) << file;
  }
  EXPECT_FALSE(parse_manifest(sealed("7")));
  EXPECT_FALSE(parse_manifest(sealed("{\"format\":1")));
}

TEST(Manifest, NamesANewerFormat) {
  const auto read = parse_manifest(sealed("{\"format\":2"));
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().kind(), Error::Kind::kUnsupported);
  EXPECT_NE(read.error().message().find("manifest format 2"), std::string::npos);
}

TEST(Manifest, SurvivesDeepNesting) {
  EXPECT_FALSE(parse_manifest(sealed("{\"format\":" + std::string(1 << 16, '['))));
}

}  // namespace
}  // namespace dormouse::images
