#include "cuda_emulation/race.h"

#include <dlfcn.h>

#include <algorithm>
#include <unordered_map>

#include "cuda_emulation/device_memory.h"
#include "cuda_emulation/grid.h"

namespace cria::cuda::emulation {

bool race_detector_active() { return race::enabled; }

namespace race {

bool enabled = false;
const void* program_counter = nullptr;

namespace {

/// One access of a byte.
struct Access {
  std::uint32_t block = 0;  // BlockClock::number; 0: none
  std::uint32_t epoch = 0;
  std::uint32_t code = 0;  // offset in the program; 0: unknown
  std::uint16_t thread = 0;
  bool atomic = false;
};

/// The last write, and the last reads of two different threads. That finds most races in one run and nearly
/// all in a few orders.
struct Cell {
  Access write, reads[2];
};

constexpr std::size_t kPage = 4096;

struct Shadow {
  std::unordered_map<std::uintptr_t, std::unique_ptr<Cell[]>> pages;
  std::uintptr_t last_page = ~std::uintptr_t{0};
  Cell* last_cells = nullptr;

  Cell& at(std::uintptr_t address) {
    const std::uintptr_t page = address / kPage;
    if (page != last_page) {
      auto& cells = pages[page];
      if (!cells) cells = std::make_unique<Cell[]>(kPage);
      last_page = page;
      last_cells = cells.get();
    }
    return last_cells[address % kPage];
  }
};

struct State {
  Shadow shadow;
  std::uint32_t blocks = 0;                                            // the last number assigned
  std::uint32_t first_block = 0;                                       // of the running grid
  std::map<std::pair<const void*, std::uint32_t>, Knowledge> objects;  // by address, and block or 0
};
State& state() {
  static auto* const state = new State;
  return *state;
}

void join(Clock& into, const Clock& from) {
  if (into.size() < from.size()) into.resize(from.size());
  for (std::size_t i = 0; i < from.size(); i++) into[i] = std::max(into[i], from[i]);
}
void join(ForeignClocks& into, const ForeignClocks& from) {
  for (const auto& [block, clock] : from) join(into[block], clock);
}

BlockClock& clock_of(const Thread& t) { return t.block->clock; }
ThreadClock& thread_clock_of(const Thread& t) { return t.block->clock.threads[t.linear]; }

/// The thread's whole knowledge at this moment, its own epoch included.
Knowledge view_of(const Thread& t) {
  const BlockClock& block = clock_of(t);
  const ThreadClock& mine = thread_clock_of(t);
  Knowledge k{block.base, block.foreign};
  join(k.own, mine.known.own);
  join(k.foreign, mine.known.foreign);
  k.own[t.linear] = mine.epoch;
  return k;
}

/// Adds a thread's view to an object, under the number of the thread's block.
void hand_over(Knowledge& object, std::uint32_t block, const Knowledge& view) {
  join(object.foreign[block], view.own);
  join(object.foreign, view.foreign);
}

void take(Thread& t, const Knowledge& object) {
  Knowledge& known = thread_clock_of(t).known;
  for (const auto& [block, clock] : object.foreign)
    join(block == clock_of(t).number ? known.own : known.foreign[block], clock);
}

bool ordered(const Thread& t, const Access& before, bool shared) {
  if (before.block < state().first_block) return true;            // an earlier kernel, or no access
  if (shared && before.block != clock_of(t).number) return true;  // an earlier owner of this shared memory
  const BlockClock& block = clock_of(t);
  const Knowledge& known = thread_clock_of(t).known;
  if (before.block == block.number) {
    if (before.thread == t.linear || before.epoch <= block.base[before.thread]) return true;
    return before.thread < known.own.size() && before.epoch <= known.own[before.thread];
  }
  for (const ForeignClocks* foreign : {&block.foreign, &known.foreign})
    if (const auto found = foreign->find(before.block); found != foreign->end())
      if (before.thread < found->second.size() && before.epoch <= found->second[before.thread]) return true;
  return false;
}

/// The access's place in the program, for addr2line.
std::uint32_t code_offset() {
  Dl_info info;
  if (!program_counter || dladdr(program_counter, &info) == 0) return 0;
  return static_cast<std::uint32_t>(static_cast<const char*>(program_counter) -
                                    static_cast<const char*>(info.dli_fbase) - 1);
}

[[noreturn]] void report(const Thread& t, const void* address, bool writes, const Access& before,
                         bool wrote) {
  const bool shared = !in_device_memory(address, 1);
  fault(
      "race: it %s %s memory at %s%zu which thread %u of %s %s before, with nothing to order the two "
      "(addr2line -ie <program> %#x %#x)",
      writes ? "writes" : "reads", shared ? "shared" : "device", shared ? "byte " : "",
      shared ? static_cast<std::size_t>(static_cast<const unsigned char*>(address) - t.block->shared)
             : reinterpret_cast<std::size_t>(address),
      before.thread, before.block == clock_of(t).number ? "the same block" : "another block",
      wrote ? "wrote" : "read", code_offset(), before.code);
}

void check_bounds(const Thread& t, const void* address, std::size_t bytes, bool writes) {
  const auto* byte = static_cast<const unsigned char*>(address);
  const char* verb = writes ? "writes" : "reads";
  if (byte >= t.block->shared && byte < t.block->shared + kSharedArena) {
    const auto* region =
        std::find_if(t.block->regions.data(), t.block->regions.data() + t.block->regions.size(),
                     [&](const SharedRegion& r) { return byte >= r.at && byte + bytes <= r.at + r.usable; });
    if (region == t.block->regions.data() + t.block->regions.size())
      fault("%s %zu bytes out of bounds of shared memory", verb, bytes);
    for (const SharedGuard& g : t.block->guards)
      if (byte < g.begin + g.bytes && byte + bytes > g.begin)
        fault("%s %zu bytes of shared memory, %td behind the end of an array", verb, bytes, byte - g.begin);
  } else if (!in_device_memory(address, bytes)) {
    fault("%s %zu bytes out of bounds of device memory", verb, bytes);
  }
}

bool tracked(const Thread& t, const void* address) {
  const auto* byte = static_cast<const unsigned char*>(address);
  return (byte >= t.block->shared && byte < t.block->shared + kSharedArena) || in_device_arena(address);
}

}  // namespace

void begin_grid() {
  if (!enabled) return;
  state().objects.clear();
  if (state().shadow.pages.size() > 512)
    state().shadow = Shadow{};  // earlier kernels cannot race with this one
  state().first_block = state().blocks + 1;
}

void begin_block(Block& block) {
  if (!enabled) return;
  BlockClock& c = block.clock;
  c.number = ++state().blocks;
  c.base.assign(grid.n_threads, 0);
  c.foreign.clear();
  c.threads.clear();
  c.threads.resize(grid.n_threads);
}

void joined_block(Block& block) {
  if (!enabled) return;
  BlockClock& c = block.clock;
  for (std::size_t t = 0; t < c.threads.size(); t++) {
    ThreadClock& thread = c.threads[t];
    c.base[t] = thread.epoch++;
    join(c.foreign, thread.known.foreign);
    thread.known.own.clear();
    thread.known.foreign.clear();
  }
}

void joined(Thread* const* threads, std::size_t n) {
  if (!enabled) return;
  Knowledge all;
  all.own.assign(clock_of(*threads[0]).threads.size(), 0);
  for (std::size_t i = 0; i < n; i++) {
    const ThreadClock& c = thread_clock_of(*threads[i]);
    join(all.own, c.known.own);
    join(all.foreign, c.known.foreign);
  }
  for (std::size_t i = 0; i < n; i++) all.own[threads[i]->linear] = thread_clock_of(*threads[i]).epoch;
  for (std::size_t i = 0; i < n; i++) {
    ThreadClock& c = thread_clock_of(*threads[i]);
    c.known = all;
    c.epoch++;
  }
}

void release(Thread& thread, const void* object) {
  if (!enabled) return;
  hand_over(state().objects[{object, 0}], clock_of(thread).number, view_of(thread));
  thread_clock_of(thread).epoch++;
}

void acquire(Thread& thread, const void* object) {
  if (!enabled) return;
  if (const auto found = state().objects.find({object, 0}); found != state().objects.end())
    take(thread, found->second);
}

void forget(const void* object) {
  if (enabled) state().objects.erase({object, 0});
}

void untouched(const void* address, std::size_t bytes) {
  if (!enabled) return;
  const auto first = reinterpret_cast<std::uintptr_t>(address);
  for (std::uintptr_t a = first; a < first + bytes; a++) state().shadow.at(a) = Cell{};
}

void fence(Thread& thread, Scope scope) {
  if (!enabled) return;
  ThreadClock& c = thread_clock_of(thread);
  for (int within_block = scope == Scope::block; within_block < 2; within_block++) {
    if (c.to_acquire[within_block]) {
      take(thread, *c.to_acquire[within_block]);
      c.to_acquire[within_block].reset();
    }
  }
  for (int within_block = scope == Scope::block; within_block < 2; within_block++)
    c.to_release[within_block] = std::make_unique<Knowledge>(view_of(thread));
  c.epoch++;
}

namespace {

/// An atomic operation: publishes what the last fence prepared, and collects what the next fence takes over.
void pass_through_atomic(Thread& thread, const void* address, bool writes) {
  ThreadClock& c = thread_clock_of(thread);
  const std::uint32_t number = clock_of(thread).number;
  for (int within_block = 0; within_block < 2; within_block++) {
    const std::pair<const void*, std::uint32_t> key{address, within_block ? number : 0};
    if (const auto found = state().objects.find(key); found != state().objects.end()) {
      if (!c.to_acquire[within_block]) c.to_acquire[within_block] = std::make_unique<Knowledge>();
      join(c.to_acquire[within_block]->foreign, found->second.foreign);
    }
    if (writes && c.to_release[within_block])
      hand_over(state().objects[key], number, *c.to_release[within_block]);
  }
}

}  // namespace

namespace {

/// dladdr takes a microsecond, and a program has few instrumented accesses.
std::uint32_t cached_code_offset() {
  if (!program_counter) return 0;
  static auto* const offsets = new std::unordered_map<const void*, std::uint32_t>;
  const auto [found, fresh] = offsets->try_emplace(program_counter, 0);
  if (fresh) found->second = code_offset();
  return found->second;
}

}  // namespace

void access(Thread& thread, const void* address, std::size_t bytes, bool writes, bool atomic) {
  if (!enabled || !tracked(thread, address)) return;
  check_bounds(thread, address, bytes, writes);
  const Access now{clock_of(thread).number, thread_clock_of(thread).epoch, cached_code_offset(),
                   static_cast<std::uint16_t>(thread.linear), atomic};
  const bool shared = !in_device_arena(address);
  const auto first = reinterpret_cast<std::uintptr_t>(address);
  for (std::uintptr_t a = first; a < first + bytes; a++) {
    Cell& cell = state().shadow.at(a);
    const auto* here = reinterpret_cast<const void*>(a);
    if (!(atomic && cell.write.atomic) && !ordered(thread, cell.write, shared))
      report(thread, here, writes, cell.write, true);
    if (writes) {
      for (const Access& read : cell.reads)
        if (!(atomic && read.atomic) && !ordered(thread, read, shared))
          report(thread, here, writes, read, false);
      cell.write = now;
    } else {
      Access& last = cell.reads[0];
      if (last.block != now.block || last.thread != now.thread) cell.reads[1] = last;
      last = now;
    }
  }
}

}  // namespace race

void fence(Scope scope) { race::fence(*current, scope); }

void atomic_access(const void* address, std::size_t bytes, bool writes) {
  check_aligned(address, bytes, "an atomic operation");
  if (!race::enabled) return;
  race::access(*current, address, bytes, writes, true);
  race::pass_through_atomic(*current, address, writes);
}

}  // namespace cria::cuda::emulation
