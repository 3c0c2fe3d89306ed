// Split GGUFs: a model in files named `<prefix>-00001-of-0000N.gguf`. Each part has the keys split.no (from
// 0), split.count and split.tensors.count (over all parts), and holds the data of its own tensors. The first
// part holds the rest of the metadata. Source: llama.cpp, tools/gguf-split and llama_split_path.

#include <cstdio>
#include <string>

#include "core/error.h"
#include "io/file_error.h"
#include "io/gguf_parse.h"

namespace cria {
namespace {

// Bounds the number of open files; real splits have a few dozen parts.
constexpr std::uint64_t kMaxParts = 1024;

const GgufValue* find_in(const GgufPart& part, std::string_view key) {
  for (const auto& entry : part.metadata)
    if (entry.first == key) return &entry.second;
  return nullptr;
}

/// A split.* key, which must be a non-negative integer if it is present.
std::optional<std::uint64_t> find_split_number(const GgufPart& part, const std::string& path,
                                               std::string_view key) {
  const GgufValue* value = find_in(part, key);
  if (value == nullptr) return std::nullopt;
  if (const auto* number = std::get_if<std::uint64_t>(value)) return *number;
  const auto* number = std::get_if<std::int64_t>(value);
  if (number != nullptr && *number >= 0) return static_cast<std::uint64_t>(*number);
  const std::string found = number != nullptr ? std::to_string(*number) : "another type";
  throw Error(ErrorCode::invalid_file,
              path + ": metadata key " + quote(key) + ": expected a non-negative integer, found " + found,
              {{"path", path}, {"key", key}, {"found", found}});
}

/// Throws ERR_INVALID_FILE unless the key's value is `expected`.
void check_split_number(const GgufPart& part, const std::string& path, std::string_view key,
                        std::uint64_t expected) {
  const auto found = find_split_number(part, path, key);
  if (found == expected) return;
  throw Error(ErrorCode::invalid_file,
              path + ": metadata key " + quote(key) + ": expected " + std::to_string(expected) +
                  " in this part of the split, found " + (found ? std::to_string(*found) : "nothing"),
              {{"path", path},
               {"key", key},
               {"expected", expected},
               {"found", found ? ErrorValue(*found) : ErrorValue("nothing")}});
}

std::string part_suffix(std::uint64_t no, std::uint64_t count) {
  char suffix[40];
  std::snprintf(suffix, sizeof(suffix), "-%05u-of-%05u.gguf", static_cast<unsigned>(no + 1),
                static_cast<unsigned>(count));
  return suffix;
}

std::shared_ptr<const File> open_named_part(const FileOpener& open_part, const std::string& path,
                                            std::uint64_t no, std::uint64_t count) {
  try {
    return open_part(path);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::file_not_found) throw;
    throw Error(ErrorCode::file_not_found,
                "part " + std::to_string(no + 1) + " of " + std::to_string(count) +
                    " of a split model is missing: " + path,
                {{"path", path}, {"part", no + 1}, {"parts", count}});
  }
}

/// Which part of how many a file is.
struct Place {
  std::uint64_t no = 0;
  std::uint64_t count = 1;
};

/// A file without split.* keys is part 0 of 1.
Place place_of(const GgufPart& part, const std::string& path) {
  const Place place{.no = find_split_number(part, path, "split.no").value_or(0),
                    .count = find_split_number(part, path, "split.count").value_or(1)};
  if (place.count < 1 || place.count > kMaxParts) {
    throw Error(ErrorCode::invalid_file,
                path + ": metadata key \"split.count\": expected 1 to " + std::to_string(kMaxParts) +
                    ", found " + std::to_string(place.count),
                {{"path", path}, {"key", "split.count"}, {"found", place.count}});
  }
  if (place.no >= place.count) {
    throw Error(ErrorCode::invalid_file,
                path + ": metadata key \"split.no\": expected below " + std::to_string(place.count) +
                    ", found " + std::to_string(place.no),
                {{"path", path}, {"key", "split.no"}, {"found", place.no}});
  }
  return place;
}

/// The common prefix of all parts' names. Throws ERR_INVALID_FILE when the suffix of `path` contradicts the
/// file's place.
std::string prefix_of(const std::string& path, const Place& place) {
  const std::string suffix = part_suffix(place.no, place.count);
  if (path.ends_with(suffix)) return path.substr(0, path.size() - suffix.size());
  throw Error(ErrorCode::invalid_file,
              path + ": by its metadata the file is part " + std::to_string(place.no + 1) + " of " +
                  std::to_string(place.count) + " of a split model, so its name must end in " + suffix,
              {{"path", path}, {"expected", suffix}});
}

/// Checks the split.* keys of a part against its place, and the number of tensors up to it against the limit.
void check_part(const GgufPart& part, const std::string& path, const Place& place,
                std::uint64_t total_tensors) {
  check_split_number(part, path, "split.count", place.count);
  check_split_number(part, path, "split.no", place.no);
  if (total_tensors <= kMaxGgufTensors) return;
  throw Error(
      ErrorCode::unsupported_file,
      path + ": the parts of the split have more than " + std::to_string(kMaxGgufTensors) + " tensors",
      {{"path", path}, {"expected", kMaxGgufTensors}});
}

}  // namespace

std::vector<GgufPart> join_gguf_split(std::shared_ptr<const File> file, GgufPart first,
                                      const FileOpener& open_part,
                                      std::vector<std::shared_ptr<const File>>* files) {
  const std::string path = file->path();
  const Place opened = place_of(first, path);
  std::vector<GgufPart> parts;
  if (opened.count == 1) {
    if (find_in(first, "split.tensors.count") != nullptr)
      check_split_number(first, path, "split.tensors.count", first.tensors.size());
    parts.push_back(std::move(first));
    files->push_back(std::move(file));
    return parts;
  }

  const std::string prefix = prefix_of(path, opened);
  std::uint64_t total_tensors = 0;
  for (std::uint64_t no = 0; no < opened.count; ++no) {
    std::shared_ptr<const File> part_file = file;
    GgufPart part;
    if (no == opened.no) {
      part = std::move(first);
      for (GgufTensor& tensor : part.tensors) tensor.file_index = static_cast<std::uint32_t>(no);
    } else {
      part_file = open_named_part(open_part, prefix + part_suffix(no, opened.count), no, opened.count);
      part = parse_gguf_part(*part_file, static_cast<std::uint32_t>(no));
    }
    total_tensors += part.tensors.size();
    check_part(part, part_file->path(), {.no = no, .count = opened.count}, total_tensors);
    if (no > 0) {  // only the metadata of the first part is used
      part.metadata.clear();
      part.metadata.shrink_to_fit();
    }
    parts.push_back(std::move(part));
    files->push_back(std::move(part_file));
  }
  check_split_number(parts.front(), files->front()->path(), "split.tensors.count", total_tensors);
  return parts;
}

}  // namespace cria
