// Asynchronous copies. Data arrives no earlier than the wait for it; until then the destination holds NaN.
#include "cuda_emulation/async_copy.h"

#include <algorithm>
#include <cstring>

#include "cuda_emulation/device_memory.h"
#include "cuda_emulation/grid.h"
#include "cuda_emulation/ptx_twins.h"

namespace cria::cuda::emulation {
namespace {

/// Checks a copy and fills its destination with NaN.
AsyncCopy issue(const char* operation, void* shared, const void* global, std::size_t bytes, std::size_t read,
                std::size_t alignment) {
  check_aligned(shared, alignment, operation);
  check_shared_range(shared, bytes, operation);
  if (read) {
    check_aligned(global, alignment, operation);
    if (!in_device_memory(global, read))
      fault("%s: reads %zu bytes that no allocation holds", operation, read);
    race::access(*current, global, read, false);
  }
  race::access(*current, shared, bytes, true);
  std::memset(shared, kNanByte, bytes);
  return {static_cast<unsigned char*>(shared), static_cast<const unsigned char*>(global),
          static_cast<std::uint32_t>(bytes), static_cast<std::uint32_t>(read)};
}

void arrive(const AsyncCopy& c) {
  if (c.read) std::memcpy(c.to, c.from, c.read);
  std::memset(c.to + c.read, 0, c.bytes - c.read);
}

constexpr std::uint64_t kMagic = 0x6d62617272696572u;

Mbarrier& mbarrier_at(const std::uint64_t* address, const char* operation) {
  for (Mbarrier& m : current->block->mbarriers)
    if (m.address == address) {
      if (*address != kMagic) fault("%s: the mbarrier was overwritten", operation);
      return m;
    }
  fault("%s: no mbarrier was initialised here", operation);
}

void complete_phase_if_due(Mbarrier& m) {
  if (m.pending != 0 || m.bytes_pending != 0) return;
  m.phase++;
  m.pending = m.expected;
  m.arrived.insert(m.arrived.end(), m.arriving.begin(), m.arriving.end());
  m.arriving.clear();
  for (Thread* t : m.waiting) wake(*t);
  m.waiting.clear();
}

void count_arrival(Mbarrier& m, std::uint32_t expected_bytes) {
  if (m.pending == 0) fault("mbarrier: more arrivals than the %u of a phase", m.expected);
  race::release(*current, &m);
  m.bytes_pending += expected_bytes;
  m.pending--;
  complete_phase_if_due(m);
}

}  // namespace

void cp_async(void* shared, const void* global, int bytes, bool valid) {
  const auto n = static_cast<std::size_t>(bytes);
  current->copies.copies.push_back(issue("cp.async", shared, global, n, valid ? n : 0, n));
}

void cp_async_commit() { current->copies.group_ends.push_back(current->copies.copies.size()); }

void cp_async_wait(int pending) {
  AsyncCopies& mine = current->copies;
  const std::size_t groups = mine.group_ends.size(), keep = static_cast<std::size_t>(pending);
  if (groups <= keep) return;
  const std::size_t finished = groups - keep, end = mine.group_ends[finished - 1];
  for (std::size_t i = 0; i < end; i++) {
    arrive(mine.copies[i]);
    race::access(*current, mine.copies[i].to, mine.copies[i].bytes, true);
  }
  mine.copies.erase(mine.copies.begin(), mine.copies.begin() + static_cast<std::ptrdiff_t>(end));
  mine.group_ends.erase(mine.group_ends.begin(),
                        mine.group_ends.begin() + static_cast<std::ptrdiff_t>(finished));
  for (std::size_t& e : mine.group_ends) e -= end;
}

void end_thread_copies(Thread& thread) {
  if (thread.copies.empty()) return;
  if (!thread.copies.copies.empty())
    fault("cp.async: %zu copies are under way at the end of the thread", thread.copies.copies.size());
  thread.copies.clear();
}

void end_block_copies(const Block& block) {
  for (const Mbarrier& m : block.mbarriers)
    if (!m.arriving.empty() || !m.arrived.empty())
      fault("mbarrier: copies that it counts were never waited for");
}

// ---- mbarrier ----

void mbarrier_init(std::uint64_t* barrier, std::uint32_t arrivals) {
  check_aligned(barrier, 8, "mbarrier.init");
  check_shared_range(barrier, 8, "mbarrier.init");
  if (arrivals == 0 || arrivals >= (1u << 20)) fault("mbarrier.init: %u arrivals", arrivals);
  race::access(*current, barrier, 8, true);
  *barrier = kMagic;
  Block& block = *current->block;
  std::erase_if(block.mbarriers, [&](const Mbarrier& m) { return m.address == barrier; });
  Mbarrier m{};
  m.address = barrier;
  m.expected = m.pending = arrivals;
  block.mbarriers.push_back(std::move(m));
}

void mbarrier_arrive(std::uint64_t* barrier, std::uint32_t expected_bytes) {
  race::access(*current, barrier, 8, false);
  count_arrival(mbarrier_at(barrier, "mbarrier.arrive"), expected_bytes);
}

bool mbarrier_try_wait(std::uint64_t* barrier, std::uint32_t parity) {
  race::access(*current, barrier, 8, false);
  Mbarrier* m = &mbarrier_at(barrier, "mbarrier.try_wait");
  if (parity > 1) fault("mbarrier.try_wait: the parity is %u", parity);
  if ((m->phase & 1) == parity) {
    if (options().random_spurious_waits && grid.random.below(8) == 0) {
      yield_here();
      return false;
    }
    m->waiting.push_back(current);
    wait_here("mbarrier.try_wait");
    m = &mbarrier_at(barrier, "mbarrier.try_wait");
    if ((m->phase & 1) == parity) return false;
  }
  for (const AsyncCopy& c : m->arrived) {
    arrive(c);
    race::untouched(c.to, c.bytes);
  }
  m->arrived.clear();
  race::acquire(*current, m);
  return true;
}

void cp_async_mbarrier_arrive(std::uint64_t* barrier) {
  race::access(*current, barrier, 8, false);
  Mbarrier& m = mbarrier_at(barrier, "cp.async.mbarrier.arrive");
  AsyncCopies& mine = current->copies;
  m.arriving.insert(m.arriving.end(), mine.copies.begin(), mine.copies.end());
  mine.clear();
  count_arrival(m, 0);
}

void bulk_copy(void* shared, const void* global, std::uint32_t bytes, std::uint64_t* barrier) {
  race::access(*current, barrier, 8, false);
  Mbarrier& m = mbarrier_at(barrier, "cp.async.bulk");
  if (bytes == 0 || bytes % 16) fault("cp.async.bulk: %u bytes; it must be a multiple of 16", bytes);
  m.arriving.push_back(issue("cp.async.bulk", shared, global, bytes, bytes, 16));
  m.bytes_pending -= bytes;
  complete_phase_if_due(m);
}

}  // namespace cria::cuda::emulation
