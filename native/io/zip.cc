#include "io/zip.h"

#include <algorithm>
#include <cstring>
#include <string_view>

#include "core/error.h"
#include "io/byte_cursor.h"
#include "io/file_error.h"
#include "io/name_index.h"

namespace cria {
namespace {

constexpr std::uint32_t kLocalHeader = 0x04034b50, kDirectoryEntry = 0x02014b50, kEnd = 0x06054b50,
                        kEnd64 = 0x06064b50, kEnd64Locator = 0x07064b50;
constexpr std::uint64_t kLocalBytes = 30, kEntryBytes = 46, kEndBytes = 22, kEnd64Bytes = 56,
                        kLocatorBytes = 20, kMaxComment = 65535;
constexpr std::uint16_t kEncrypted = 1, kZip64Field = 1;
constexpr std::uint64_t kMaxEntries = 1 << 18;
constexpr std::uint64_t kMaxDirectoryBytes = std::uint64_t{32} << 20;

[[noreturn]] void fail(const File& file, ErrorCode code, const std::string& message) {
  throw Error(code, file.path() + ": ZIP archive: " + message, {{"path", file.path()}});
}

/// Little-endian fields of a record that was read as a whole.
class Record {
 public:
  /// Throws unless the file holds the record.
  Record(const File& file, std::uint64_t offset, std::uint64_t bytes, const char* what) {
    if (offset > file.size() || bytes > file.size() - offset)
      fail(file, ErrorCode::invalid_file, std::string(what) + " is beyond the end of the file");
    bytes_.resize(static_cast<std::size_t>(bytes));
    file.read_at(offset, bytes_.data(), bytes_.size());
  }

  template <typename T>
  T at(std::uint64_t offset) const {
    T value;
    std::memcpy(&value, bytes_.data() + offset, sizeof(T));
    return value;
  }
  std::string_view text(std::uint64_t offset, std::uint64_t bytes) const {
    return {reinterpret_cast<const char*>(bytes_.data()) + offset, static_cast<std::size_t>(bytes)};
  }
  std::uint64_t size() const { return bytes_.size(); }

 private:
  std::vector<std::uint8_t> bytes_;
};

struct Directory {
  std::uint64_t entries = 0, offset = 0, bytes = 0;
};

/// The record at the end of the archive, which a comment may follow.
Directory find_directory(const File& file) {
  const std::uint64_t tail_bytes = std::min(file.size(), kEndBytes + kMaxComment);
  const Record tail(file, file.size() - tail_bytes, tail_bytes, "the end");
  std::uint64_t at = tail_bytes;
  for (std::uint64_t i = tail_bytes < kEndBytes ? 0 : tail_bytes - kEndBytes + 1; i-- > 0;) {
    if (tail.at<std::uint32_t>(i) != kEnd || i + kEndBytes + tail.at<std::uint16_t>(i + 20) != tail_bytes)
      continue;
    at = i;
    break;
  }
  if (at == tail_bytes)
    fail(file, ErrorCode::invalid_file, "no directory at its end: the file is incomplete");
  Directory found{.entries = tail.at<std::uint16_t>(at + 10),
                  .offset = tail.at<std::uint32_t>(at + 16),
                  .bytes = tail.at<std::uint32_t>(at + 12)};
  const bool one_disk = tail.at<std::uint16_t>(at + 4) == 0 || tail.at<std::uint16_t>(at + 4) == 0xffff;
  const std::uint64_t end_at = file.size() - tail_bytes + at;
  if (end_at >= kLocatorBytes) {
    const Record locator(file, end_at - kLocatorBytes, kLocatorBytes, "the locator");
    if (locator.at<std::uint32_t>(0) == kEnd64Locator) {
      const Record end64(file, locator.at<std::uint64_t>(8), kEnd64Bytes, "the ZIP64 directory");
      if (end64.at<std::uint32_t>(0) != kEnd64)
        fail(file, ErrorCode::invalid_file, "expected the ZIP64 directory where its locator points");
      found = {.entries = end64.at<std::uint64_t>(32),
               .offset = end64.at<std::uint64_t>(48),
               .bytes = end64.at<std::uint64_t>(40)};
    }
  }
  if (!one_disk) fail(file, ErrorCode::unsupported_file, "it is divided among several disks");
  if (found.entries > kMaxEntries || found.bytes > kMaxDirectoryBytes)
    fail(file, ErrorCode::unsupported_file,
         "it has " + std::to_string(found.entries) + " entries; at most " + std::to_string(kMaxEntries) +
             " are supported");
  return found;
}

/// Replaces the sizes and the offset that stand in the ZIP64 field of an entry.
void read_zip64(const File& file, const Record& directory, std::uint64_t at, std::uint64_t bytes,
                std::uint64_t* size, std::uint64_t* stored, std::uint64_t* offset) {
  const std::uint64_t end = at + bytes;
  while (end - at >= 4) {
    const auto id = directory.at<std::uint16_t>(at), length = directory.at<std::uint16_t>(at + 2);
    at += 4;
    if (length > end - at) fail(file, ErrorCode::invalid_file, "an extra field is longer than its entry");
    if (id == kZip64Field) {
      std::uint64_t field = at;
      for (std::uint64_t* value : {size, stored, offset}) {
        if (*value != 0xffffffffu) continue;
        if (at + length - field < 8) fail(file, ErrorCode::invalid_file, "a ZIP64 field is too short");
        *value = directory.at<std::uint64_t>(field);
        field += 8;
      }
      return;
    }
    at += length;
  }
}

/// Where the data begin that the local header at `offset` describes.
std::uint64_t data_offset(const File& file, std::uint64_t offset, const std::string& name) {
  const Record local(file, offset, kLocalBytes, "a local header");
  if (local.at<std::uint32_t>(0) != kLocalHeader)
    fail(file, ErrorCode::invalid_file,
         "expected the local header of " + quote(name) + " at byte " + std::to_string(offset));
  const auto name_bytes = local.at<std::uint16_t>(26), extra_bytes = local.at<std::uint16_t>(28);
  const Record own(file, offset + kLocalBytes, name_bytes, "a name");
  if (own.text(0, name_bytes) != name)
    fail(file, ErrorCode::invalid_file, "directory and local header disagree on the name " + quote(name));
  return offset + kLocalBytes + name_bytes + extra_bytes;
}

}  // namespace

std::vector<ZipEntry> read_zip(const File& file) {
  const Directory found = find_directory(file);
  const Record directory(file, found.offset, found.bytes, "the directory");
  std::vector<ZipEntry> entries;
  std::uint64_t at = 0;
  for (std::uint64_t i = 0; i < found.entries; ++i) {
    if (directory.size() - at < kEntryBytes || directory.at<std::uint32_t>(at) != kDirectoryEntry)
      fail(file, ErrorCode::invalid_file, "entry " + std::to_string(i) + " of the directory is missing");
    const auto flags = directory.at<std::uint16_t>(at + 8), method = directory.at<std::uint16_t>(at + 10);
    std::uint64_t stored = directory.at<std::uint32_t>(at + 20), size = directory.at<std::uint32_t>(at + 24),
                  offset = directory.at<std::uint32_t>(at + 42);
    const std::uint64_t name_bytes = directory.at<std::uint16_t>(at + 28),
                        extra_bytes = directory.at<std::uint16_t>(at + 30),
                        comment_bytes = directory.at<std::uint16_t>(at + 32);
    if (directory.size() - at - kEntryBytes < name_bytes + extra_bytes + comment_bytes)
      fail(file, ErrorCode::invalid_file, "entry " + std::to_string(i) + " is longer than the directory");
    ZipEntry entry{.name = std::string(directory.text(at + kEntryBytes, name_bytes))};
    read_zip64(file, directory, at + kEntryBytes + name_bytes, extra_bytes, &size, &stored, &offset);
    if (flags & kEncrypted) fail(file, ErrorCode::unsupported_file, quote(entry.name) + " is encrypted");
    if (method != 0 || stored != size) {
      fail(file, ErrorCode::unsupported_file,
           quote(entry.name) + " is compressed (method " + std::to_string(method) +
               "); only stored entries are supported");
    }
    entry.offset = data_offset(file, offset, entry.name);
    entry.bytes = size;
    if (entry.offset > file.size() || entry.bytes > file.size() - entry.offset)
      fail(file, ErrorCode::invalid_file, quote(entry.name) + " ends beyond the end of the file");
    entries.push_back(std::move(entry));
    at += kEntryBytes + name_bytes + extra_bytes + comment_bytes;
  }
  const auto name_of = [](const ZipEntry& entry) -> std::string_view { return entry.name; };
  if (const auto twice = first_duplicate(entries, sorted_by_name(entries, name_of), name_of))
    fail(file, ErrorCode::invalid_file, "two entries are named " + quote(entries[twice->first].name));
  return entries;
}

}  // namespace cria
