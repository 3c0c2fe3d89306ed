// Models in several files.
#include <map>

#include "expect_error.h"
#include "gguf_builder.h"

using namespace cria;
using namespace cria::test;

namespace {

using Files = std::map<std::string, std::vector<std::uint8_t>>;

std::string part_name(unsigned no, unsigned count) {
  char name[64];
  std::snprintf(name, sizeof(name), "dir/model-%05u-of-%05u.gguf", no + 1, count);
  return name;
}

GgufBuilder part(std::uint16_t no, std::uint16_t count, std::int32_t tensors) {
  GgufBuilder b;
  if (no == 0) b.set("general.architecture", "llama");
  b.set("split.no", GgufType::u16, no).set("split.count", GgufType::u16, count);
  b.set("split.tensors.count", GgufType::i32, tensors);
  return b;
}

/// Three parts: no tensors, two, one.
std::vector<GgufBuilder> three_parts() {
  std::vector<GgufBuilder> parts = {part(0, 3, 3), part(1, 3, 3), part(2, 3, 3)};
  parts[1].tensor({"a", {4}}).tensor({"b", {8}});
  parts[2].tensor({"c", {16}});
  return parts;
}

Files name_parts(const std::vector<GgufBuilder>& parts) {
  Files files;
  for (unsigned no = 0; no < parts.size(); ++no)
    files[part_name(no, static_cast<unsigned>(parts.size()))] = parts[no].build();
  return files;
}

GgufFile open_in(const Files& files, const std::string& path) {
  const FileOpener opener = [&](const std::string& name) {
    const auto it = files.find(name);
    if (it == files.end()) throw Error(ErrorCode::file_not_found, name + ": no such file");
    return File::from_memory(name, it->second);
  };
  return GgufFile::open(opener(path), opener);
}

}  // namespace

TEST_CASE("a split can be opened through any of its parts") {
  const Files files = name_parts(three_parts());
  for (unsigned no = 0; no < 3; ++no) {
    const GgufFile file = open_in(files, part_name(no, 3));
    CHECK(file.path() == part_name(no, 3));
    CHECK(file.get_string("general.architecture") == "llama");
    REQUIRE(file.files().size() == 3);
    CHECK(file.files()[1]->path() == part_name(1, 3));
    REQUIRE(file.tensors().size() == 3);
    CHECK(file.find_tensor("a")->file_index == 1);
    CHECK(file.find_tensor("b")->file_index == 1);
    CHECK(file.find_tensor("c")->file_index == 2);
    CHECK(file.total_file_bytes() == files.at(part_name(0, 3)).size() + files.at(part_name(1, 3)).size() +
                                         files.at(part_name(2, 3)).size());
  }
}

TEST_CASE("a split of one part needs no special name") {
  GgufBuilder b = part(0, 1, 1);
  b.tensor({"a", {4}});
  CHECK(open_in({{"any.gguf", b.build()}}, "any.gguf").tensors().size() == 1);
  b.set("split.tensors.count", GgufType::i32, 2);
  expect_error(ErrorCode::invalid_file, "split.tensors.count",
               [&] { (void)open_in({{"any.gguf", b.build()}}, "any.gguf"); });
}

TEST_CASE("invalid splits") {
  std::vector<GgufBuilder> parts = three_parts();
  const auto expect = [&](ErrorCode code, const std::string& mentions, unsigned open_no = 0) {
    expect_error(code, mentions, [&] { (void)open_in(name_parts(parts), part_name(open_no, 3)); });
  };
  SUBCASE("a missing part") {
    Files files = name_parts(parts);
    files.erase(part_name(1, 3));
    expect_error(ErrorCode::file_not_found,
                 "part 2 of 3 of a split model is missing: dir/model-00002-of-00003.gguf",
                 [&] { (void)open_in(files, part_name(2, 3)); });
  }
  SUBCASE("a part of another split") {
    parts[1].set("split.count", GgufType::u16, std::uint16_t{4});
    expect(ErrorCode::invalid_file, "\"split.count\": expected 3 in this part of the split, found 4");
  }
  SUBCASE("exchanged parts") {
    std::swap(parts[1], parts[2]);
    expect(ErrorCode::invalid_file, "\"split.no\": expected 1");
    expect(ErrorCode::invalid_file, "must end in -00003-of-00003.gguf", 1);
  }
  SUBCASE("a part without split metadata") {
    parts[2].remove("split.no");
    expect(ErrorCode::invalid_file, "found nothing");
  }
  SUBCASE("a wrong number of tensors") {
    parts[0].set("split.tensors.count", GgufType::i32, 4);
    expect(ErrorCode::invalid_file, "\"split.tensors.count\": expected 3");
  }
  SUBCASE("no number of tensors") {
    parts[0].remove("split.tensors.count");
    expect(ErrorCode::invalid_file, "split.tensors.count");
  }
  SUBCASE("the same tensor twice") {
    parts[2].tensors[0].name.assign(1, 'a');
    expect(ErrorCode::invalid_file, "\"a\" is in two parts");
  }
  SUBCASE("numbers out of range") {
    parts[0].set("split.count", GgufType::u16, std::uint16_t{0});
    expect(ErrorCode::invalid_file, "split.count");
    parts[0].set("split.count", GgufType::u16, std::uint16_t{65535});
    expect(ErrorCode::invalid_file, "split.count");
    parts[0].set("split.count", "3");
    expect(ErrorCode::invalid_file, "another type");
    parts[0].set("split.count", GgufType::i32, -3);
    expect(ErrorCode::invalid_file, "found -3");
    parts[0].set("split.count", 3u).set("split.no", 3u);
    expect(ErrorCode::invalid_file, "split.no");
  }
}

TEST_CASE("a renamed part, and a damaged one that the error names") {
  const std::vector<GgufBuilder> parts = three_parts();
  const Files renamed = {{"renamed.gguf", parts[0].build()}};
  expect_error(ErrorCode::invalid_file, "part 1 of 3 of a split model, so its name must end in",
               [&] { (void)open_in(renamed, "renamed.gguf"); });
  Files damaged = name_parts(parts);
  damaged[part_name(2, 3)].resize(50);
  expect_error(ErrorCode::invalid_file, "model-00003-of-00003.gguf",
               [&] { (void)open_in(damaged, part_name(0, 3)); });
}
