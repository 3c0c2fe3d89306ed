// Writing KV state files: the bytes, failures, cancellation, several writers at once.
#include <algorithm>
#include <atomic>
#include <fstream>
#include <iterator>
#include <thread>

#include "expect_error.h"
#include "kv_state_builder.h"
#include "temp_dir.h"

using namespace cria;
using namespace cria::test;
namespace fs = std::filesystem;

namespace {

constexpr std::uint64_t kVocab = 1 << 20, kMaxTokens = 1 << 20;

std::vector<std::uint8_t> read_all(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::size_t entries_of(const fs::path& folder) {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder), {}));
}

void write(const fs::path& path, const KvStateBuilder& builder, const CancelFlag* cancel = nullptr) {
  write_kv_state(path, builder.header(), builder.tokens, std::as_bytes(std::span(builder.pages)), cancel);
}

/// `n_tokens` tokens and their pages, all of which depend on `seed`.
KvStateBuilder state_of(std::uint32_t n_tokens, std::uint64_t page_bytes, std::uint8_t seed) {
  KvStateBuilder b;
  b.layout = "cpu/32", b.page_tokens = 32, b.n_layers = 3, b.page_bytes = page_bytes;
  b.n_tokens = n_tokens;
  b.tokens.resize(n_tokens);
  for (std::uint32_t i = 0; i < n_tokens; ++i) b.tokens[i] = i * 31 + seed;
  b.pages.assign((n_tokens + 31) / 32 * 3 * page_bytes, seed);
  return b;
}

}  // namespace

TEST_CASE("the bytes are those of the format") {
  const TempDir dir;
  const KvStateBuilder builder;
  write(dir.path / "state", builder);
  CHECK(read_all(dir.path / "state") == builder.build());
  CHECK(entries_of(dir.path) == 1);
}

TEST_CASE("a written state can be read again") {
  const TempDir dir;
  const fs::path path = dir.path / "state";
  // Around full pages, and more than one chunk of the writer in tokens and in pages.
  for (const std::uint32_t n_tokens : {1u, 31u, 32u, 33u, 1000u, 300'000u}) {
    const KvStateBuilder builder = state_of(n_tokens, n_tokens == 1000 ? 24'000 : 40, 7);
    write(path, builder);
    const KvState state = read_kv_state(path, builder.header(), UINT32_MAX, n_tokens, nullptr);
    CHECK(state.tokens == builder.tokens);
    REQUIRE(state.pages.size() == builder.pages.size());
    CHECK(std::memcmp(state.pages.data(), builder.pages.data(), builder.pages.size()) == 0);
    const KvStateInfo info = read_kv_state_header(path);
    CHECK(info.header == builder.header());
    CHECK(info.n_tokens == n_tokens);
  }
}

TEST_CASE("contradictory arguments are an internal error") {
  const TempDir dir;
  const auto expect_bug = [&](const KvStateBuilder& builder) {
    expect_error(ErrorCode::internal, "write_kv_state", [&] { write(dir.path / "state", builder); });
  };
  KvStateBuilder b;
  SUBCASE("one page too few") { b.pages.resize(48); }
  SUBCASE("one page too many") { b.pages.resize(80); }
  SUBCASE("no tokens") { b.tokens.clear(), b.pages.clear(); }
  SUBCASE("no layout") { b.layout = ""; }
  SUBCASE("a layout too long") { b.layout = std::string(33, 'x'); }
  SUBCASE("no layers") { b.n_layers = 0; }
  SUBCASE("pages of no tokens") { b.page_tokens = 0; }
  SUBCASE("pages that overflow") { b.page_bytes = (std::uint64_t{1} << 62) + 16; }
  expect_bug(b);
  CHECK(entries_of(dir.path) == 0);
}

TEST_CASE("a failed write leaves the old state") {
  const TempDir dir;
  const fs::path path = dir.path / "state";
  const KvStateBuilder old;
  write(path, old);
  CancelFlag cancel;
  cancel.cancel();
  expect_error(ErrorCode::aborted, "aborted", [&] { write(path, state_of(100, 64, 1), &cancel); });
  CHECK(read_all(path) == old.build());
  CHECK(entries_of(dir.path) == 1);
  expect_error(ErrorCode::io, "absent", [&] { write(dir.path / "absent" / "state", old); });
}

TEST_CASE("cancelled in the middle") {
  const TempDir dir;
  const fs::path path = dir.path / "state";
  const KvStateBuilder old;
  write(path, old);
  const KvStateBuilder large = state_of(3200, 100'000, 1);  // 30 MB
  bool aborted = false;
  // On a busy machine the write may end before the cancellation.
  for (int attempt = 0; attempt < 20 && !aborted; ++attempt) {
    CancelFlag cancel;
    std::atomic<bool> done{false};
    std::thread canceller([&] {
      while (!done && entries_of(dir.path) == 1) std::this_thread::yield();
      cancel.cancel();
    });
    try {
      write(path, large, &cancel);
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::aborted);
      aborted = true;
    }
    done = true;
    canceller.join();
    CHECK(entries_of(dir.path) == 1);
    if (aborted) {
      CHECK(read_all(path) == (attempt == 0 ? old : large).build());
    } else {
      CHECK(read_kv_state_header(path).n_tokens == 3200);
    }
  }
  CHECK(aborted);
}

TEST_CASE("several writers of one target: every reader sees a whole state, and the last one remains") {
  const TempDir dir;
  const fs::path path = dir.path / "state";
  constexpr int kWriters = 3, kRounds = 8;
  std::vector<KvStateBuilder> states;
  for (int i = 0; i < kWriters; ++i) states.push_back(state_of(500, 4096, static_cast<std::uint8_t>(i + 1)));
  write(path, states[0]);

  const auto is_one_of_them = [&] {
    const KvState state = read_kv_state(path, states[0].header(), kVocab, kMaxTokens, nullptr);
    const auto seed = static_cast<std::size_t>(state.tokens[0]);
    if (seed < 1 || seed > states.size()) return false;
    const KvStateBuilder& builder = states[seed - 1];
    return state.tokens == builder.tokens &&
           std::memcmp(state.pages.data(), builder.pages.data(), builder.pages.size()) == 0;
  };
  std::atomic<int> running{kWriters}, failures{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < kWriters; ++i) {
    threads.emplace_back([&, i] {
      try {
        for (int round = 0; round < kRounds; ++round) write(path, states[static_cast<std::size_t>(i)]);
      } catch (...) {
        ++failures;
      }
      --running;
    });
  }
  int reads = 0;
  bool whole = true;
  do {
    whole = whole && is_one_of_them();
    ++reads;
  } while (running > 0);
  for (std::thread& thread : threads) thread.join();
  CHECK(whole);
  CHECK(reads > 0);
  CHECK(failures == 0);
  CHECK(is_one_of_them());
  CHECK(entries_of(dir.path) == 1);
}
