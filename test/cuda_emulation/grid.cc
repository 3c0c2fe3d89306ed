// The scheduler: which thread of which block runs next.
#include "cuda_emulation/grid.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <exception>
#include <mutex>
#include <random>
#include <utility>

namespace cria::cuda::emulation {

Grid grid;
Thread* current = nullptr;

namespace {

std::string at(const Dim3& v) {
  char text[48];
  std::snprintf(text, sizeof text, "(%u,%u,%u)", v.x, v.y, v.z);
  return text;
}

/// Fibers are kept from launch to launch, and never destroyed: no work at exit.
struct Fibers {
  std::vector<std::unique_ptr<Fiber>> all;
  std::vector<Fiber*> free;
};
Fibers& fibers() {
  static auto* const fibers = new Fibers;
  return *fibers;
}

struct Scheduler {
  Fiber* home = nullptr;     // the caller of run_grid
  Fiber* running = nullptr;  // the fiber that executes now
  std::deque<Thread*> ready;
  std::vector<Block*> starting;                // blocks with unstarted threads
  std::vector<std::unique_ptr<Block>> blocks;  // kept for the next grid
  std::vector<Block*> idle, resident;
  std::vector<std::uint16_t> thread_order;
  std::vector<std::uint32_t> block_order;
  std::size_t next_block = 0, blocks_left = 0;
  Thread* assigned = nullptr;  // the first thread of a fiber that is entered anew
  std::uint32_t yields = 0;    // in a row, without progress
  bool failed = false;
  std::string failure, failed_at;
};
Scheduler& scheduler() {
  static auto* const scheduler = new Scheduler;
  return *scheduler;
}
std::recursive_mutex one_grid_at_a_time;

void shuffle(std::vector<std::uint32_t>& v) {
  for (std::size_t i = v.size(); i > 1; i--)
    std::swap(v[i - 1], v[grid.random.below(static_cast<unsigned>(i))]);
}

/// The order in which a block's threads start: ascending, descending, warps shuffled, or threads shuffled.
void draw_thread_order(std::vector<std::uint16_t>& order, unsigned n) {
  order.resize(n);
  const unsigned kind = grid.random.below(4);
  for (unsigned i = 0; i < n; i++) order[i] = static_cast<std::uint16_t>(kind == 1 ? n - 1 - i : i);
  if (kind == 2) {
    std::vector<std::uint32_t> warps((n + 31) / 32);
    for (unsigned w = 0; w < warps.size(); w++) warps[w] = w;
    shuffle(warps);
    const unsigned flip = grid.random.below(32);
    unsigned k = 0;
    for (const unsigned w : warps)
      for (unsigned l = 0; l < 32; l++)
        if (w * 32 + (l ^ flip) < n) order[k++] = static_cast<std::uint16_t>(w * 32 + (l ^ flip));
  } else if (kind == 3) {
    for (unsigned i = n; i > 1; i--) std::swap(order[i - 1], order[grid.random.below(i)]);
  }
}

void admit_block() {
  Scheduler& s = scheduler();
  const unsigned number = s.block_order[s.next_block++];
  if (s.idle.empty()) {
    s.blocks.push_back(std::make_unique<Block>());
    s.idle.push_back(s.blocks.back().get());
  }
  Block& b = *s.idle.back();
  s.idle.pop_back();
  const Dim3 &g = grid.config->grid, &size = grid.config->block;
  b.index = {number % g.x, number / g.x % g.y, number / g.x / g.y};
  b.serial = static_cast<unsigned>(s.next_block - 1);
  if (b.threads.size() != grid.n_threads) {
    b.threads.clear();
    b.threads.resize(grid.n_threads);
    b.warps.assign((grid.n_threads + 31) / 32, Warp{});
  }
  for (unsigned i = 0; i < grid.n_threads; i++) {
    Thread& t = b.threads[i];
    t.at = {{i % size.x, i / size.x % size.y, i / size.x / size.y}, b.index, size, g};
    t.linear = i;
    t.state = ThreadState::unstarted;
    t.block = &b;
    t.fiber = nullptr;
  }
  for (Warp& w : b.warps)
    for (PendingCollective& m : w.collectives) m.mask = 0;
  b.alive = b.unstarted = grid.n_threads;
  for (NamedBarrier& barrier : b.barriers) {
    barrier.arrived = barrier.expected = 0;
    barrier.waiting.clear();
  }
  begin_shared_memory(b);
  b.mbarriers.clear();
  race::begin_block(b);
  s.resident.push_back(&b);
  s.starting.push_back(&b);
  counters().blocks++;
  counters().threads += grid.n_threads;
}

void end_block(Block& b) {
  Scheduler& s = scheduler();
  check_shared_guards(b);
  end_block_copies(b);
  std::erase(s.resident, &b);
  s.idle.push_back(&b);
  s.blocks_left--;
  if (s.next_block < s.block_order.size()) admit_block();
}

/// For the message of a deadlock: each place where threads wait, with the first of them.
std::string who_waits() {
  struct Place {
    const char* what;
    std::uint32_t mask;
    std::string first;
    int threads;
  };
  std::vector<Place> places;
  int exited = 0;
  for (const Block* b : scheduler().resident)
    for (const Thread& t : b->threads) {
      if (t.state == ThreadState::done) exited++;
      if (t.state != ThreadState::waiting) continue;
      const auto same = std::find_if(places.begin(), places.end(), [&](const Place& p) {
        return std::strcmp(p.what, t.waits_for) == 0 && p.mask == t.waits_mask;
      });
      if (same == places.end())
        places.push_back({t.waits_for, t.waits_mask, describe(t), 1});
      else
        same->threads++;
    }
  std::string out;
  for (const Place& p : places) {
    char mask[24] = "";
    if (p.mask) std::snprintf(mask, sizeof mask, " with mask %08x", p.mask);
    out +=
        std::to_string(p.threads) + " threads wait at " + p.what + mask + " (the first: " + p.first + "), ";
  }
  return out + std::to_string(exited) + " have exited";
}

/// Called before abandon(), which would leak the message's string on the fiber's stack.
void note_failure(const std::string& what, const Thread* where) {
  Scheduler& s = scheduler();
  s.failed = true;
  s.failure = what;
  s.failed_at = where ? " " + describe(*where) : "";
}

[[noreturn]] void abandon() {
  Scheduler& s = scheduler();
  current = nullptr;
  Fiber* from = s.running;
  s.running = s.home;
  from->switch_to(*s.home);  // never returns
  std::abort();
}

[[noreturn]] void deadlock() {
  const Thread* example = nullptr;
  for (const Block* b : scheduler().resident)
    for (const Thread& t : b->threads)
      if (!example && t.state == ThreadState::waiting) example = &t;
  note_failure("divergence or deadlock: " + who_waits(), example);
  abandon();
}

Fiber* take_fiber();

/// The thread to run next; null when the grid has ended. Takes it off its queue.
Thread* choose_next() {
  Scheduler& s = scheduler();
  for (;;) {
    const bool may_start = !s.starting.empty();
    if (!s.ready.empty() && (!may_start || (grid.random.next() & 3) == 0)) {
      Thread* t = s.ready.front();
      s.ready.pop_front();
      return t;
    }
    if (may_start) {
      Block& b = *s.starting.back();
      Thread& t = b.threads[s.thread_order[grid.n_threads - b.unstarted--]];
      if (b.unstarted == 0) s.starting.pop_back();
      return &t;
    }
    if (s.blocks_left == 0) return nullptr;
    deadlock();
  }
}

/// A fiber runs unstarted threads one after the other, until one of them waits.
void fiber_main() {
  Scheduler& s = scheduler();
  Thread* t = std::exchange(s.assigned, nullptr);
  for (;;) {
    t->fiber = s.running;
    t->state = ThreadState::running;
    current = t;
    grid.call->run(reinterpret_cast<const void*>(grid.call->kernel), grid.arguments);
    // The thread has returned, but faults below still name it.
    t = current;
    end_thread_copies(*t);
    t->state = ThreadState::done;
    s.yields = 0;
    Block& b = *t->block;
    if (--b.alive == 0) end_block(b);
    current = nullptr;
    t = choose_next();
    if (t && t->state == ThreadState::unstarted) continue;
    // Another fiber continues. This one is free, and will run an unstarted thread when it is entered again.
    Fiber* self = s.running;
    fibers().free.push_back(self);
    Fiber* next = s.home;
    if (t) {
      t->state = ThreadState::running;
      current = t;
      next = t->fiber;
    }
    s.running = next;
    counters().switches++;
    self->switch_to(*next);
    t = std::exchange(s.assigned, nullptr);
  }
}

Fiber* take_fiber() {
  Fibers& f = fibers();
  if (f.free.empty()) {
    f.all.push_back(std::make_unique<Fiber>(fiber_main, f.all.size()));
    return f.all.back().get();
  }
  Fiber* fiber = f.free.back();
  f.free.pop_back();
  return fiber;
}

/// Leaves the current thread for the next one.
void run_next() {
  Scheduler& s = scheduler();
  Thread* self = current;
  Thread* t = choose_next();
  if (t == self) {
    t->state = ThreadState::running;
    return;
  }
  Fiber* next;
  if (t->state == ThreadState::unstarted) {
    next = take_fiber();
    s.assigned = t;
  } else {
    t->state = ThreadState::running;
    next = t->fiber;
    current = t;
  }
  Fiber* from = s.running;
  s.running = next;
  counters().switches++;
  from->switch_to(*next);
}

}  // namespace

Options& options() {
  static Options options = [] {
    Options o;
    // A new seed for each run, shared with the tests.
    if (!std::getenv("CRIA_TEST_SEED"))
      setenv("CRIA_TEST_SEED", std::to_string(std::random_device{}()).c_str(), 1);
    o.seed = std::strtoull(std::getenv("CRIA_TEST_SEED"), nullptr, 10);
    return o;
  }();
  return options;
}

Counters& counters() {
  static Counters counters;
  return counters;
}

const Coordinates& coordinates() { return current->at; }
int lane_of_warp() { return static_cast<int>(current->lane()); }

std::string describe(const Thread& thread) {
  return "block " + at(thread.at.block) + " thread " + at(thread.at.thread);
}

void fault(const char* format, ...) {
  char text[1024];
  va_list args;
  va_start(args, format);
  std::vsnprintf(text, sizeof text, format, args);
  va_end(args);
  note_failure(text, current);
  abandon();
}

void wait_here(const char* what, std::uint32_t mask) {
  current->state = ThreadState::waiting;
  current->waits_for = what;
  current->waits_mask = mask;
  run_next();
}

void wake(Thread& thread) {
  Scheduler& s = scheduler();
  s.yields = 0;
  thread.state = ThreadState::ready;
  if (grid.random.next() & 8)
    s.ready.push_front(&thread);
  else
    s.ready.push_back(&thread);
}

void yield_here() {
  // When threads have only polled memory for this long, none will ever write what they wait for.
  if (++scheduler().yields > (1u << 22)) fault("polls memory for ever");
  current->state = ThreadState::ready;
  scheduler().ready.push_back(current);
  run_next();
}

void yield() {
  if (current) yield_here();
}

namespace {

/// Throws where a device would refuse the launch.
void check_launch(const LaunchConfig& config, std::size_t n_threads, std::size_t n_blocks) {
  const auto refuse = [&](const std::string& why) {
    throw KernelFault(config.name, "", "launch refused: " + why);
  };
  if (n_threads == 0 || n_threads > 1024) refuse(std::to_string(n_threads) + " threads a block");
  if (n_blocks == 0 || n_blocks > (1u << 24)) refuse(std::to_string(n_blocks) + " blocks");
  if (config.grid.y > 65535 || config.grid.z > 65535) refuse("more than 65535 blocks in y or z");
  if (config.block.z > 64) refuse("more than 64 threads in z");
  if (config.cooperative && n_blocks > options().max_blocks_of_cooperative_grid)
    refuse("a cooperative grid that does not fit on the device");
}

/// Resets the scheduler and draws the orders of blocks and threads.
void begin_grid(const LaunchConfig& config, const KernelCall& call, void* arguments, std::size_t n_threads,
                std::size_t n_blocks) {
  Scheduler& s = scheduler();
  const std::uint64_t serial = ++counters().launches;
  grid.config = &config;
  grid.call = &call;
  grid.arguments = arguments;
  grid.serial = serial;
  grid.n_threads = static_cast<unsigned>(n_threads);
  grid.random.state = (options().seed * 0x9e3779b97f4a7c15u) ^ (serial * 0xbf58476d1ce4e5b9u);
  if (grid.random.state == 0) grid.random.state = 1;
  for (int i = 0; i < 4; i++) grid.random.next();

  s.ready.clear();
  s.starting.clear();
  s.resident.clear();
  s.idle.clear();
  for (const auto& b : s.blocks) s.idle.push_back(b.get());
  s.failed = false;
  s.yields = 0;
  race::program_counter = nullptr;
  draw_thread_order(s.thread_order, grid.n_threads);
  s.block_order.resize(n_blocks);
  for (std::size_t i = 0; i < n_blocks; i++) s.block_order[i] = static_cast<std::uint32_t>(i);
  shuffle(s.block_order);
  s.next_block = 0;
  s.blocks_left = n_blocks;
  race::begin_grid();
}

/// Discards the state of all fibers and threads, after a fault.
void discard_threads() {
  fibers().free.clear();
  for (const auto& f : fibers().all) {
    f->reset();
    fibers().free.push_back(f.get());
  }
  for (const auto& b : scheduler().blocks)
    for (Thread& t : b->threads) t.copies.clear();
}

}  // namespace

void run_grid(const LaunchConfig& config, const KernelCall& call, void* arguments) {
  std::lock_guard lock(one_grid_at_a_time);
  Scheduler& s = scheduler();
  const std::size_t n_threads = std::size_t{config.block.x} * config.block.y * config.block.z;
  const std::size_t n_blocks = std::size_t{config.grid.x} * config.grid.y * config.grid.z;
  check_launch(config, n_threads, n_blocks);
  begin_grid(config, call, arguments, n_threads, n_blocks);
  std::size_t at_once = config.cooperative ? n_blocks : 1 + grid.random.below(options().resident_blocks);
  if (at_once > n_blocks) at_once = n_blocks;

  Fiber home;
  s.home = s.running = &home;
  for (std::size_t i = 0; i < at_once; i++) admit_block();
  s.assigned = choose_next();
  s.running = take_fiber();
  home.switch_to(*s.running);
  s.home = nullptr;
  current = nullptr;
  if (s.failed) {
    discard_threads();
    throw KernelFault(config.name, s.failed_at, s.failure);
  }
  if (const std::string damage = check_redzones(); !damage.empty())
    throw KernelFault(config.name, "", damage);
}

}  // namespace cria::cuda::emulation
