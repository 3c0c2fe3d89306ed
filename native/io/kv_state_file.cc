#include "io/kv_state_file.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "core/error.h"
#include "core/hash.h"
#include "io/atomic_file.h"
#include "io/byte_cursor.h"
#include "io/file_error.h"
#include "io/file_kind.h"

namespace cria {
namespace {

constexpr std::string_view kMagic = "cria-kv\n";
constexpr std::uint32_t kByteOrder = 0x0a0b0c0d;
constexpr std::uint32_t kByteOrderSwapped = 0x0d0c0b0a;

// Cancellation is checked between chunks. A chunk is small enough to be in the core's cache when it is
// hashed.
constexpr std::size_t kChunkBytes = std::size_t{1} << 20;

// The header as stored in the file. It has no padding: the offset of every field is a multiple of its size.
struct RawHeader {
  char magic[8];
  std::uint32_t byte_order;
  std::uint32_t version;
  std::uint64_t model_fingerprint;
  char layout[kMaxKvLayoutBytes];  // padded with zeros
  std::uint32_t dtype;
  std::uint32_t n_layers;
  std::uint32_t page_tokens;
  std::uint32_t reserved;  // 0
  std::uint64_t page_bytes;
  std::uint64_t n_tokens;
  std::uint64_t payload_hash;  // of everything after the header
  std::uint64_t header_hash;   // of everything before this field
};
constexpr std::size_t kHeaderBytes = 104;
constexpr std::size_t kHashedHeaderBytes = 96;
static_assert(sizeof(RawHeader) == kHeaderBytes && offsetof(RawHeader, header_hash) == kHashedHeaderBytes);
constexpr std::size_t kVersionEnd = 16;  // every version of the format agrees up to here

bool is_layout(std::string_view text) {
  return !text.empty() && text.size() <= kMaxKvLayoutBytes &&
         std::all_of(text.begin(), text.end(), [](char c) { return c > 0x20 && c < 0x7f; });
}

/// Computes the bytes of all pages of all layers; false when they do not fit 64 bits.
bool pages_bytes_of(const KvStateHeader& header, std::uint64_t n_tokens, std::uint64_t* bytes) {
  const std::uint64_t pages =
      n_tokens / header.page_tokens + static_cast<std::uint64_t>(n_tokens % header.page_tokens != 0);
  return checked_mul(pages, header.n_layers, bytes) && checked_mul(*bytes, header.page_bytes, bytes);
}

// A value as the message shows it and as the detail holds it.
struct Shown {
  Shown(std::uint64_t number) : text(std::to_string(number)), detail(number) {}
  Shown(std::string words) : text(std::move(words)), detail(text) {}
  Shown(const char* words) : text(words), detail(words) {}
  Shown(std::string words, std::uint64_t number) : text(std::move(words)), detail(number) {}

  std::string text;
  ErrorValue detail;
};

[[noreturn]] void fail(ErrorCode code, const File& file, const std::string& what, const Shown& expected,
                       const Shown& found) {
  throw Error(code, file.path() + ": " + what + ": expected " + expected.text + ", found " + found.text,
              {{"path", file.path()}, {"expected", expected.detail}, {"found", found.detail}});
}

[[noreturn]] void fail_invalid(const File& file, const std::string& what, const Shown& expected,
                               const Shown& found) {
  fail(ErrorCode::invalid_file, file, what, expected, found);
}

void check_size(const File& file, std::uint64_t bytes) {
  if (file.size() < bytes)
    fail_invalid(file, "the KV state is truncated, its size in bytes", bytes, file.size());
  if (file.size() > bytes)
    fail_invalid(file, "the KV state is followed by other data, its size in bytes", bytes, file.size());
}

RawHeader read_raw_header(const File& file) {
  RawHeader raw{};
  const auto present = static_cast<std::size_t>(std::min<std::uint64_t>(file.size(), kHeaderBytes));
  file.read_at(0, &raw, present);

  const std::string_view magic(raw.magic, std::min(present, kMagic.size()));
  if (magic.empty() || !kMagic.starts_with(magic)) {
    const std::span<const std::uint8_t> head(reinterpret_cast<const std::uint8_t*>(&raw),
                                             std::min(present, kFileKindBytes));
    fail_invalid(file, "not a KV state", "a KV state that cria saved", describe_file_kind(head, file.size()));
  }
  if (present >= kVersionEnd) {
    if (raw.byte_order == kByteOrderSwapped)
      fail(ErrorCode::unsupported_file, file, "the KV state's byte order", "little endian", "big endian");
    if (raw.byte_order != kByteOrder)
      fail_invalid(file, "the KV state is damaged, its byte order mark", hex(kByteOrder),
                   hex(raw.byte_order));
    if (raw.version != kKvStateVersion)
      fail(ErrorCode::unsupported_file, file, "the KV state's format version", kKvStateVersion, raw.version);
  }
  if (present < kHeaderBytes)
    fail_invalid(file, "the KV state is truncated within its header, its size in bytes",
                 "at least " + std::to_string(kHeaderBytes), present);
  if (const std::uint64_t hash = xxh64(&raw, kHashedHeaderBytes); raw.header_hash != hash)
    fail_invalid(file, "the KV state's header is damaged, its hash", hex(raw.header_hash), hex(hash));
  return raw;
}

/// The contents of the raw header, checked for consistency and against the file's size.
KvStateInfo check_raw_header(const File& file, const RawHeader& raw) {
  const std::string_view field(raw.layout, sizeof(raw.layout));
  const std::string_view layout = field.substr(0, field.find('\0'));
  if (!is_layout(layout) || field.find_first_not_of('\0', layout.size()) != std::string_view::npos)
    fail_invalid(file, "the KV state's layout", "1 to 32 printable characters, then zeros", quote(field));
  const auto at_least_one = [&](std::uint64_t value, const std::string& what) {
    if (value == 0) fail_invalid(file, what, "at least 1", value);
  };
  at_least_one(raw.n_layers, "the KV state's number of layers");
  at_least_one(raw.page_tokens, "the KV state's tokens per page");
  at_least_one(raw.page_bytes, "the KV state's bytes per page");
  at_least_one(raw.n_tokens, "the KV state's number of tokens");
  if (raw.reserved != 0) fail_invalid(file, "the KV state's reserved field", std::uint64_t{0}, raw.reserved);
  const DTypeTraits* dtype = find_dtype(raw.dtype);
  if (dtype == nullptr)
    fail(ErrorCode::unsupported_file, file, "the KV state's type", "a type that cria knows", raw.dtype);

  KvStateInfo info;
  info.header = {.model_fingerprint = raw.model_fingerprint,
                 .layout = std::string(layout),
                 .dtype = dtype->dtype,
                 .n_layers = raw.n_layers,
                 .page_tokens = raw.page_tokens,
                 .page_bytes = raw.page_bytes};
  info.n_tokens = raw.n_tokens;
  std::uint64_t tokens_bytes = 0, bytes = 0;
  if (!pages_bytes_of(info.header, raw.n_tokens, &info.pages_bytes) ||
      !checked_mul(raw.n_tokens, sizeof(std::uint32_t), &tokens_bytes) ||
      !checked_add(info.pages_bytes, tokens_bytes, &bytes) || !checked_add(bytes, kHeaderBytes, &bytes))
    fail_invalid(file, "the KV state's size", "less than 2^64 bytes",
                 "more, from " + std::to_string(raw.n_tokens) + " tokens in pages of " +
                     std::to_string(raw.page_bytes) + " bytes");
  check_size(file, bytes);
  return info;
}

void check_fits(const File& file, const KvStateInfo& info, const KvStateHeader& expected,
                std::uint64_t max_tokens) {
  const KvStateHeader& found = info.header;
  const auto mismatch = [&](const std::string& what, const Shown& wanted, const Shown& got) {
    fail(ErrorCode::state_mismatch, file, what, wanted, got);
  };
  const auto same = [&](std::uint64_t wanted, std::uint64_t got, const std::string& what) {
    if (wanted != got) mismatch(what, wanted, got);
  };
  if (found.model_fingerprint != expected.model_fingerprint)
    mismatch("the KV state is of another model, its fingerprint", hex(expected.model_fingerprint),
             hex(found.model_fingerprint));
  if (found.layout != expected.layout)
    mismatch("the KV state has another page layout", expected.layout, found.layout);
  if (found.dtype != expected.dtype)
    mismatch("the KV state is of another KV type", std::string(name_of(expected.dtype)),
             std::string(name_of(found.dtype)));
  same(expected.n_layers, found.n_layers, "the KV state's number of layers");
  same(expected.page_tokens, found.page_tokens, "the KV state's tokens per page");
  same(expected.page_bytes, found.page_bytes, "the KV state's bytes per page");
  if (info.n_tokens > max_tokens)
    mismatch("the KV state has more tokens than fit", {"at most " + std::to_string(max_tokens), max_tokens},
             info.n_tokens);
}

/// Calls `take(offset, bytes)` for each chunk of [0, bytes).
template <typename Take>
void in_chunks(std::uint64_t bytes, const CancelFlag* cancel, Take take) {
  for (std::uint64_t at = 0; at < bytes;) {
    if (cancel != nullptr) cancel->check();
    const auto step = static_cast<std::size_t>(std::min<std::uint64_t>(kChunkBytes, bytes - at));
    take(at, step);
    at += step;
  }
}

RawHeader make_raw_header(const KvStateHeader& header, std::uint64_t n_tokens, std::uint64_t payload_hash) {
  RawHeader raw{};
  std::memcpy(raw.magic, kMagic.data(), kMagic.size());
  raw.byte_order = kByteOrder;
  raw.version = kKvStateVersion;
  raw.model_fingerprint = header.model_fingerprint;
  std::memcpy(raw.layout, header.layout.data(), header.layout.size());
  raw.dtype = static_cast<std::uint32_t>(header.dtype);
  raw.n_layers = header.n_layers;
  raw.page_tokens = header.page_tokens;
  raw.page_bytes = header.page_bytes;
  raw.n_tokens = n_tokens;
  raw.payload_hash = payload_hash;
  raw.header_hash = xxh64(&raw, kHashedHeaderBytes);
  return raw;
}

void check_arguments(const KvStateHeader& header, std::span<const std::uint32_t> tokens,
                     std::span<const std::byte> pages) {
  std::uint64_t pages_bytes = 0;
  const bool good = is_layout(header.layout) && header.n_layers > 0 && header.page_tokens > 0 &&
                    header.page_bytes > 0 && !tokens.empty() &&
                    pages_bytes_of(header, tokens.size(), &pages_bytes);
  if (!good || pages_bytes != pages.size())
    throw Error(ErrorCode::internal,
                "write_kv_state: " + std::to_string(tokens.size()) + " tokens, " +
                    std::to_string(pages.size()) + " bytes of pages where " + std::to_string(pages_bytes) +
                    " were expected, layout " + quote(header.layout),
                {{"expected", pages_bytes}, {"found", pages.size()}});
}

}  // namespace

void write_kv_state(const std::string& path, const KvStateHeader& header,
                    std::span<const std::uint32_t> tokens, std::span<const std::byte> pages,
                    const CancelFlag* cancel) {
  check_arguments(header, tokens, pages);
  if (cancel != nullptr) cancel->check();
  AtomicFile file(path);
  std::uint64_t end = kHeaderBytes;
  Xxh64 hash;
  const auto append = [&](std::span<const std::byte> bytes) {
    in_chunks(bytes.size(), cancel, [&](std::uint64_t at, std::size_t step) {
      hash.update(bytes.data() + at, step);
      file.write_at(end, bytes.data() + at, step);
      end += step;
    });
  };
  append(std::as_bytes(tokens));
  append(pages);

  // The header comes last, since it holds the hash of the rest: an incomplete file has no valid header.
  const RawHeader raw = make_raw_header(header, tokens.size(), hash.digest());
  file.write_at(0, &raw, kHeaderBytes);
  if (cancel != nullptr) cancel->check();
  file.commit();
}

KvState read_kv_state(const std::string& path, const KvStateHeader& expected, std::uint64_t vocab_size,
                      std::uint64_t max_tokens, const CancelFlag* cancel) {
  return read_kv_state(*File::open(path), expected, vocab_size, max_tokens, cancel);
}

KvState read_kv_state(const File& file, const KvStateHeader& expected, std::uint64_t vocab_size,
                      std::uint64_t max_tokens, const CancelFlag* cancel) {
  if (cancel != nullptr) cancel->check();
  const RawHeader raw = read_raw_header(file);
  const KvStateInfo info = check_raw_header(file, raw);
  check_fits(file, info, expected, max_tokens);

  KvState state;
  state.tokens.resize(static_cast<std::size_t>(info.n_tokens));
  state.pages = HugeMemory(static_cast<std::size_t>(info.pages_bytes), "a saved KV state");
  std::uint64_t end = kHeaderBytes;
  Xxh64 hash;
  const auto read = [&](std::byte* dst, std::uint64_t bytes) {
    in_chunks(bytes, cancel, [&](std::uint64_t at, std::size_t step) {
      file.read_at(end, dst + at, step);
      hash.update(dst + at, step);
      end += step;
    });
  };
  read(reinterpret_cast<std::byte*>(state.tokens.data()), info.n_tokens * sizeof(std::uint32_t));
  read(state.pages.data(), info.pages_bytes);
  if (hash.digest() != raw.payload_hash)
    fail_invalid(file, "the KV state is damaged, the hash of its tokens and pages", hex(raw.payload_hash),
                 hex(hash.digest()));

  // After the hash: only in an undamaged file does a wrong id mean another vocabulary.
  for (std::size_t i = 0; i < state.tokens.size(); ++i) {
    if (state.tokens[i] >= vocab_size)
      fail(ErrorCode::state_mismatch, file, "token " + std::to_string(i) + " of the KV state",
           {"an id below " + std::to_string(vocab_size), vocab_size}, state.tokens[i]);
  }
  return state;
}

KvStateInfo read_kv_state_header(const std::string& path) { return read_kv_state_header(*File::open(path)); }

KvStateInfo read_kv_state_header(const File& file) { return check_raw_header(file, read_raw_header(file)); }

}  // namespace cria
