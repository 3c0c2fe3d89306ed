#include "kernels/cpu/memory_streams.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace cria {
namespace {

constexpr std::size_t kBytes = std::size_t{512} << 20;
constexpr std::size_t kLine = 64;
constexpr std::size_t kChunk = std::size_t{512} << 10;  // bytes that a thread moves at a time
constexpr std::size_t kPrefetch = 4096;
constexpr std::int64_t kChunks = 64;  // of a measurement, for a few threads: about a millisecond

// A vector of any processor; an array in its place goes through the stack and halves the speed.
typedef std::uint64_t Lanes __attribute__((vector_size(16), may_alias));

void write_past_cache(std::byte* p, Lanes value) {
#if defined(__SSE2__)
  _mm_stream_si128(reinterpret_cast<__m128i*>(p), reinterpret_cast<__m128i>(value));
#else
  *reinterpret_cast<Lanes*>(p) = value;
#endif
}

void end_writing() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

std::uint64_t read_lines(const std::byte* p, std::size_t bytes) {
  Lanes a{}, b{}, c{}, d{};
  for (const std::byte* end = p + bytes; p < end; p += 2 * kLine) {
    __builtin_prefetch(p + kPrefetch);
    __builtin_prefetch(p + kPrefetch + kLine);
    const auto* lanes = reinterpret_cast<const Lanes*>(p);
    a ^= lanes[0] ^ lanes[4];
    b ^= lanes[1] ^ lanes[5];
    c ^= lanes[2] ^ lanes[6];
    d ^= lanes[3] ^ lanes[7];
  }
  const Lanes all = a ^ b ^ c ^ d;
  return all[0] ^ all[1];
}

// `units` times `reads` lines from `from` and `writes` lines to `to`.
std::uint64_t mix_lines(const std::byte* from, std::byte* to, std::size_t units, int reads, int writes) {
  Lanes a{}, b{}, c{}, d{};
  for (std::size_t u = 0; u < units; u++) {
    for (int i = 0; i < reads; i++, from += kLine) {
      __builtin_prefetch(from + kPrefetch);
      const auto* lanes = reinterpret_cast<const Lanes*>(from);
      a ^= lanes[0];
      b ^= lanes[1];
      c ^= lanes[2];
      d ^= lanes[3];
    }
    for (int i = 0; i < writes; i++, to += kLine) {
      write_past_cache(to, a);
      write_past_cache(to + 16, b);
      write_past_cache(to + 32, c);
      write_past_cache(to + 48, d);
    }
  }
  end_writing();
  const Lanes all = a ^ b ^ c ^ d;
  return all[0] ^ all[1];
}

}  // namespace

MemoryStreams::MemoryStreams(ThreadPool& pool)
    : pool_(pool), memory_(kBytes, "measuring the memory's bandwidth") {
  pool_.parallel_for(kBytes / kChunk, 1, [&](std::int64_t chunk, std::int64_t) {
    std::memset(memory_.data() + static_cast<std::size_t>(chunk) * kChunk, static_cast<int>(chunk) + 1,
                kChunk);
  });
}

double MemoryStreams::gbs(int reads, int writes) {
  // All of it is read, or a half while the other is written.
  const std::size_t region = writes == 0 ? kBytes : kBytes / 2;
  const std::size_t unit = static_cast<std::size_t>(reads + writes) * kLine;
  const std::size_t units = kChunk / unit / 2 * 2;  // of a chunk
  const std::size_t read = units * static_cast<std::size_t>(reads) * kLine,
                    written = units * static_cast<std::size_t>(writes) * kLine;
  const std::int64_t chunks = std::max<std::int64_t>(kChunks, 16 * pool_.size());
  const auto place = [&](std::size_t at, std::size_t bytes, std::int64_t chunk) {
    return bytes == 0 ? 0 : (at + static_cast<std::size_t>(chunk) * bytes) % (region / bytes * bytes);
  };
  std::atomic<std::uint64_t> sink{0};
  const auto begin = std::chrono::steady_clock::now();
  pool_.parallel_for(chunks, 1, [&](std::int64_t chunk, std::int64_t) {
    const std::byte* from = memory_.data() + place(read_at_, read, chunk);
    std::byte* to = memory_.data() + region + place(write_at_, written, chunk);
    sink.fetch_xor(writes == 0 ? read_lines(from, read) : mix_lines(from, to, units, reads, writes),
                   std::memory_order_relaxed);
  });
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  read_at_ = place(read_at_, read, chunks);
  write_at_ = place(write_at_, written, chunks);
  return 1e-9 * static_cast<double>(chunks) * static_cast<double>(read + written) / seconds;
}

}  // namespace cria
