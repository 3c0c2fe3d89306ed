// Reading KV state files: well-formed and damaged ones, other versions, and states of other models.
#include "io/kv_state_file.h"

#include <algorithm>

#include "expect_error.h"
#include "kv_state_builder.h"
#include "temp_dir.h"

using namespace cria;
using namespace cria::test;

namespace {

constexpr std::uint64_t kVocab = 100, kMaxTokens = 1000;

/// Bytes that claim to be `size` long; reading beyond the real ones fails the test.
class ClaimedFile final : public File {
 public:
  ClaimedFile(std::vector<std::uint8_t> bytes, std::uint64_t size)
      : file_(File::from_memory("state", std::move(bytes))), size_(size) {}
  const std::string& path() const override { return file_->path(); }
  std::uint64_t size() const override { return size_; }
  void read_at(std::uint64_t offset, void* dst, std::size_t bytes) const override {
    CHECK(offset + bytes <= file_->size());
    file_->read_at(offset, dst, bytes);
  }

 private:
  std::shared_ptr<const File> file_;
  std::uint64_t size_;
};

KvState read_bytes(std::vector<std::uint8_t> bytes, const KvStateHeader& expected = KvStateBuilder().header(),
                   std::uint64_t vocab = kVocab, std::uint64_t max_tokens = kMaxTokens) {
  return read_kv_state(*File::from_memory("state", std::move(bytes)), expected, vocab, max_tokens, nullptr);
}

/// Both readers refuse it.
void expect_refused(ErrorCode code, const std::string& mentions, const std::vector<std::uint8_t>& bytes) {
  expect_error(code, mentions, [&] { (void)read_bytes(bytes); });
  expect_error(code, mentions, [&] { (void)read_kv_state_header(*File::from_memory("state", bytes)); });
}

/// Well-formed, but with another header than expected.
void expect_mismatch(const std::string& mentions, const KvStateHeader& expected) {
  expect_error(ErrorCode::state_mismatch, mentions,
               [&] { (void)read_bytes(KvStateBuilder().build(), expected); });
}

}  // namespace

TEST_CASE("a state is read as specified") {
  const KvStateBuilder builder;
  const std::vector<std::uint8_t> bytes = builder.build();
  const KvState state = read_bytes(bytes);
  CHECK(state.tokens == builder.tokens);
  REQUIRE(state.pages.size() == builder.pages.size());
  CHECK(std::memcmp(state.pages.data(), builder.pages.data(), builder.pages.size()) == 0);

  const KvStateInfo info = read_kv_state_header(*File::from_memory("state", bytes));
  CHECK(info.header == builder.header());
  CHECK(info.n_tokens == 6);
  CHECK(info.pages_bytes == 64);

  KvStateBuilder full = builder;  // a page that is full, and the longest layout
  full.layout = std::string(32, 'x');
  full.n_tokens = 4, full.tokens = {0, 1, 2, 3}, full.pages = KvStateBuilder::counting(32);
  CHECK(read_bytes(full.build(), full.header(), 4, 4).tokens == full.tokens);
}

TEST_CASE("every shorter and every longer file is refused") {
  const std::vector<std::uint8_t> bytes = KvStateBuilder().build();
  expect_refused(ErrorCode::invalid_file, "an empty file", {});
  for (std::size_t size = 1; size < bytes.size(); ++size) {
    CAPTURE(size);
    expect_refused(ErrorCode::invalid_file, "truncated", {bytes.begin(), bytes.begin() + size});
  }
  for (const std::size_t more : {1, 4, 16, 1000}) {
    std::vector<std::uint8_t> longer = bytes;
    longer.insert(longer.end(), more, 0);
    expect_refused(ErrorCode::invalid_file, "followed by other data", longer);
    KvStateBuilder::fix_hashes(&longer);
    expect_refused(ErrorCode::invalid_file, "followed by other data", longer);
  }
}

TEST_CASE("every altered byte is detected") {
  const std::vector<std::uint8_t> bytes = KvStateBuilder().build();
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    for (int change = 1; change < 256; ++change) {
      std::vector<std::uint8_t> altered = bytes;
      altered[at] ^= static_cast<std::uint8_t>(change);
      CAPTURE(at);
      CAPTURE(change);
      const bool of_version = at >= 12 && at < 16;
      const char* mentions = at < 8                   ? "not a KV state"
                             : at < 12                ? "byte order mark"
                             : of_version             ? "version"
                             : at < kStateHeaderBytes ? "header is damaged"
                                                      : "tokens and pages";
      expect_error(of_version ? ErrorCode::unsupported_file : ErrorCode::invalid_file, mentions,
                   [&] { (void)read_bytes(altered); });
    }
  }
}

TEST_CASE("the error names the kind of a file that is not a state") {
  expect_refused(ErrorCode::invalid_file, "GGUF", tiny_llama().build());
  expect_refused(ErrorCode::invalid_file, "HTML", {'<', 'h', 't', 'm', 'l', '>'});
  expect_refused(ErrorCode::invalid_file, "zeros", std::vector<std::uint8_t>(500));
  const TempDir dir;
  expect_error(ErrorCode::file_not_found, "absent",
               [&] { (void)read_kv_state(dir.path / "absent", {}, kVocab, kMaxTokens, nullptr); });
  expect_error(ErrorCode::file_not_found, "absent", [&] { (void)read_kv_state_header(dir.path / "absent"); });
  expect_error(ErrorCode::io, "a directory",
               [&] { (void)read_kv_state(dir.path, {}, kVocab, kMaxTokens, nullptr); });
}

TEST_CASE("other versions and byte orders") {
  KvStateBuilder builder;
  SUBCASE("a later version") {
    builder.version = 2;
    expect_refused(ErrorCode::unsupported_file, "version: expected 1, found 2", builder.build());
  }
  SUBCASE("version 0") {
    builder.version = 0;
    expect_refused(ErrorCode::unsupported_file, "found 0", builder.build());
  }
  SUBCASE("a later version whose header is shorter") {
    builder.version = 3;
    std::vector<std::uint8_t> bytes = builder.build();
    bytes.resize(40);
    expect_refused(ErrorCode::unsupported_file, "found 3", bytes);
  }
  SUBCASE("big endian") {
    builder.byte_order = 0x0d0c0b0a;
    builder.version = 0x01000000;
    expect_refused(ErrorCode::unsupported_file, "big endian", builder.build());
  }
  SUBCASE("an unknown KV type") {
    builder.dtype = 77;
    expect_refused(ErrorCode::unsupported_file, "77", builder.build());
  }
}

TEST_CASE("contradictory headers with valid hashes") {
  KvStateBuilder b;
  std::string mentions;
  SUBCASE("no layers") { b.n_layers = 0, mentions = "number of layers"; }
  SUBCASE("empty pages") { b.page_tokens = 0, mentions = "tokens per page"; }
  SUBCASE("pages of no bytes") { b.page_bytes = 0, mentions = "bytes per page"; }
  SUBCASE("no tokens") { b.n_tokens = 0, mentions = "number of tokens"; }
  SUBCASE("reserved") { b.reserved = 1, mentions = "reserved"; }
  SUBCASE("no layout") { b.layout = "", mentions = "layout"; }
  SUBCASE("a layout with a blank") { b.layout = "cpu 4", mentions = "layout"; }
  SUBCASE("a layout that continues after a zero") {
    b.layout = std::string("cpu\0/4", 6), mentions = "layout";
  }
  SUBCASE("a layout that is not ASCII") { b.layout = "cpu/\xff", mentions = "\\xff"; }
  SUBCASE("one page too many") { b.n_tokens = 9, b.tokens.resize(9), mentions = "truncated"; }
  SUBCASE("one page too few") { b.n_tokens = 4, b.tokens.resize(4), mentions = "followed"; }
  expect_refused(ErrorCode::invalid_file, mentions, b.build());
}

TEST_CASE("huge sizes in a header allocate nothing") {
  constexpr std::uint64_t kMax = UINT64_MAX;
  KvStateBuilder b;
  SUBCASE("tokens") { b.n_tokens = kMax; }
  SUBCASE("tokens whose size wraps around") { b.n_tokens = (std::uint64_t{1} << 62) + 6; }
  SUBCASE("pages whose size wraps around") { b.page_bytes = (std::uint64_t{1} << 62) + 16; }
  SUBCASE("layers times pages") { b.n_layers = UINT32_MAX, b.page_bytes = kMax / 2; }
  SUBCASE("all") { b.n_layers = UINT32_MAX, b.page_tokens = 1, b.page_bytes = kMax, b.n_tokens = kMax; }
  SUBCASE("a terabyte") { b.page_bytes = std::uint64_t{1} << 38; }
  expect_refused(ErrorCode::invalid_file, "size", b.build());
  // Even if the caller expects the same sizes.
  expect_error(ErrorCode::invalid_file, "size",
               [&] { (void)read_bytes(b.build(), b.header(), kVocab, kMax); });
}

TEST_CASE("a sparse file of the claimed size is refused before its tokens are read") {
  KvStateBuilder b;
  b.n_tokens = std::uint64_t{1} << 40;
  const std::uint64_t size = kStateHeaderBytes + b.n_tokens * 4 + b.n_tokens / 4 * 2 * 16;
  const ClaimedFile file(b.build(), size);
  CHECK(read_kv_state_header(file).n_tokens == b.n_tokens);
  expect_error(ErrorCode::state_mismatch, "at most 1000, found 1099511627776",
               [&] { (void)read_kv_state(file, b.header(), kVocab, kMaxTokens, nullptr); });
}

TEST_CASE("a mismatched state is refused with the reason") {
  KvStateHeader expected = KvStateBuilder().header();
  SUBCASE("model") {
    ++expected.model_fingerprint;
    expect_mismatch("another model, its fingerprint: expected 0123456789abcdf0, found 0123456789abcdef",
                    expected);
  }
  SUBCASE("layout") {
    expected.layout = "cuda/64";
    expect_mismatch("layout: expected cuda/64, found cpu/4", expected);
  }
  SUBCASE("KV type") {
    expected.dtype = DType::f32;
    expect_mismatch("KV type: expected F32, found F16", expected);
  }
  SUBCASE("layers") {
    expected.n_layers = 3;
    expect_mismatch("number of layers: expected 3, found 2", expected);
  }
  SUBCASE("tokens of a page") {
    expected.page_tokens = 8;
    expect_mismatch("tokens per page: expected 8, found 4", expected);
  }
  SUBCASE("bytes of a page") {
    expected.page_bytes = 32;
    expect_mismatch("bytes per page: expected 32, found 16", expected);
  }
  SUBCASE("too many tokens") {
    expect_error(ErrorCode::state_mismatch, "more tokens than fit: expected at most 5, found 6",
                 [&] { (void)read_bytes(KvStateBuilder().build(), expected, kVocab, 5); });
    CHECK(read_bytes(KvStateBuilder().build(), expected, kVocab, 6).tokens.size() == 6);
  }
  SUBCASE("a token beyond the vocabulary") {
    expect_error(ErrorCode::state_mismatch, "token 5 of the KV state: expected an id below 99, found 99",
                 [&] { (void)read_bytes(KvStateBuilder().build(), expected, 99); });
  }
  SUBCASE("the error's details") {
    try {
      (void)read_bytes(KvStateBuilder().build(), expected, kVocab, 5);
      FAIL("no error");
    } catch (const Error& error) {
      REQUIRE(error.details().size() == 3);
      CHECK(error.details()[0] == ErrorDetail{"path", "state"});
      CHECK(error.details()[1] == ErrorDetail{"expected", 5.0});
      CHECK(error.details()[2] == ErrorDetail{"found", 6.0});
    }
  }
}

TEST_CASE("a cancelled read") {
  CancelFlag cancel;
  const auto file = File::from_memory("state", KvStateBuilder().build());
  (void)read_kv_state(*file, KvStateBuilder().header(), kVocab, kMaxTokens, &cancel);
  cancel.cancel();
  expect_error(ErrorCode::aborted, "aborted",
               [&] { (void)read_kv_state(*file, KvStateBuilder().header(), kVocab, kMaxTokens, &cancel); });
}
