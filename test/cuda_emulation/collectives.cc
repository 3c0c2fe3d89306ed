// Collectives of a warp and barriers of a block.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "cuda_emulation/emulation.h"
#include "cuda_emulation/grid.h"

namespace cria::cuda::emulation {
namespace {

/// Joins the pending collective with this mask and operation, or opens one, and waits for its other lanes.
/// The last lane to arrive runs `complete` and wakes them.
template <class Complete>
void rendezvous(std::uint32_t mask, const char* operation, void* argument, Complete complete) {
  Thread& self = *current;
  Block& block = *self.block;
  const std::uint32_t lane = 1u << self.lane();
  if (!(mask & lane)) fault("%s: the mask %08x leaves out the calling lane %u", operation, mask, self.lane());
  const unsigned first = self.warp() * 32;
  if (const unsigned lanes = std::min(32u, grid.n_threads - first); lanes < 32 && mask >> lanes)
    fault("%s: the mask %08x names lanes that the warp does not have", operation, mask);
  PendingCollective* collective = nullptr;
  PendingCollective* open = nullptr;
  for (PendingCollective& m : block.warps[self.warp()].collectives) {
    if (m.mask == mask && std::strcmp(m.operation, operation) == 0) collective = &m;
    if (m.mask == 0) open = &m;
  }
  if (!collective) {
    if (!open) fault("%s: the lanes of the warp wait at too many different places", operation);
    collective = open;
    collective->mask = mask;
    collective->operation = operation;
    collective->arrived = 0;
    std::fill(std::begin(collective->lanes), std::end(collective->lanes), nullptr);
  }
  collective->arrived |= lane;
  collective->lanes[self.lane()] = argument;
  if (collective->arrived != mask) return wait_here(operation, mask);
  collective->mask = 0;  // free before the others wake and open new ones
  complete(*collective, block, first, mask);
  // Forwards or backwards, so that different lanes continue first.
  const std::uint32_t flip = grid.random.next() & 16 ? 31 : 0;
  for (std::uint32_t i = 0; i < 32; i++) {
    const std::uint32_t l = i ^ flip;
    if ((mask & ~lane) >> l & 1) wake(block.threads[first + l]);
  }
}

}  // namespace

void warp_collective(std::uint32_t mask, const char* operation, void* argument, Collective run) {
  rendezvous(mask, operation, argument, [run](PendingCollective& m, Block&, unsigned, std::uint32_t lanes) {
    void* const* all = m.lanes;
    void* copy[32];
    std::copy(all, all + 32, copy);
    run(copy, lanes);
  });
}

void sync_warp(std::uint32_t mask) {
  rendezvous(mask, "__syncwarp", nullptr,
             [](PendingCollective&, Block& block, unsigned first, std::uint32_t lanes) {
               Thread* threads[32];
               std::size_t n = 0;
               for (unsigned l = 0; l < 32; l++)
                 if (lanes >> l & 1) threads[n++] = &block.threads[first + l];
               race::joined(threads, n);
             });
}

int sync_block(Vote vote, int predicate) {
  Thread& self = *current;
  Block& block = *self.block;
  NamedBarrier& barrier = block.barriers[0];
  if (barrier.arrived == 0) {
    barrier.any = 0;
    barrier.all = 1;
    barrier.count = 0;
    barrier.expected = grid.n_threads;
  }
  barrier.any |= predicate != 0;
  barrier.all &= predicate != 0;
  barrier.count += predicate != 0;
  if (++barrier.arrived < grid.n_threads) {
    barrier.waiting.push_back(&self);
    wait_here("__syncthreads");
  } else {
    barrier.arrived = 0;
    block.vote_result = vote == Vote::any ? barrier.any : vote == Vote::all ? barrier.all : barrier.count;
    race::joined_block(block);
    check_shared_guards(block);
    const bool backwards = grid.random.next() & 16;
    if (backwards) std::reverse(barrier.waiting.begin(), barrier.waiting.end());
    for (Thread* t : barrier.waiting) wake(*t);
    barrier.waiting.clear();
  }
  return block.vote_result;
}

void named_barrier(int id, int threads, bool waits) {
  Thread& self = *current;
  if (id < 1 || id > 15) fault("named barrier %d: expected 1 to 15", id);
  if (threads <= 0 || threads % 32 || static_cast<unsigned>(threads) > (grid.n_threads + 31) / 32 * 32)
    fault("named barrier %d: %d threads; it must be a multiple of 32 and not more than the block's", id,
          threads);
  NamedBarrier& barrier = self.block->barriers[id];
  if (barrier.arrived == 0) barrier.expected = static_cast<unsigned>(threads);
  if (barrier.expected != static_cast<unsigned>(threads))
    fault("named barrier %d: for %d threads here, for %u elsewhere", id, threads, barrier.expected);
  race::release(self, &barrier);
  barrier.arrived++;
  if (waits) barrier.waiting.push_back(&self);
  if (barrier.arrived < barrier.expected) {
    if (waits) wait_here("a named barrier");
    return;
  }
  barrier.arrived = 0;
  for (Thread* t : barrier.waiting) {
    race::acquire(*t, &barrier);
    if (t != &self) wake(*t);
  }
  race::forget(&barrier);
  barrier.waiting.clear();
}

// ---- collectives of values ----

void shuffle(std::uint32_t mask, ShuffleLane* lane, const char* operation) {
  warp_collective(mask, operation, lane, [](void* const lanes[32], std::uint32_t m) {
    std::uint64_t values[32];
    for (int i = 0; i < 32; i++)
      if (m >> i & 1) values[i] = static_cast<ShuffleLane*>(lanes[i])->value;
    for (int i = 0; i < 32; i++) {
      if (!(m >> i & 1)) continue;
      auto& mine = *static_cast<ShuffleLane*>(lanes[i]);
      if (!(m >> mine.source & 1))
        fault("a shuffle: lane %d reads lane %d, which the mask %08x leaves out", i, mine.source, m);
      mine.value = values[mine.source];
    }
  });
}

namespace {

struct ValueLane {
  std::uint64_t value;
  std::uint64_t result;
};
ValueLane& value_lane(void* lane) { return *static_cast<ValueLane*>(lane); }

template <class T>
T reduce(std::uint32_t mask, T value, Reduction operation) {
  struct Lane {
    T value;
    Reduction operation;
  } lane{value, operation};
  warp_collective(mask, "__reduce_sync", &lane, [](void* const lanes[32], std::uint32_t m) {
    bool first = true;
    T total = 0;
    for (int i = 0; i < 32; i++) {
      if (!(m >> i & 1)) continue;
      const Lane& l = *static_cast<Lane*>(lanes[i]);
      if (first)
        total = l.value;
      else
        switch (l.operation) {
          case Reduction::add:
            total = static_cast<T>(static_cast<std::uint32_t>(total) + static_cast<std::uint32_t>(l.value));
            break;
          case Reduction::min: total = std::min(total, l.value); break;
          case Reduction::max: total = std::max(total, l.value); break;
          case Reduction::bit_and: total &= l.value; break;
          case Reduction::bit_or: total |= l.value; break;
          case Reduction::bit_xor: total ^= l.value; break;
        }
      first = false;
    }
    for (int i = 0; i < 32; i++)
      if (m >> i & 1) static_cast<Lane*>(lanes[i])->value = total;
  });
  return lane.value;
}

}  // namespace

std::uint32_t ballot(std::uint32_t mask, int predicate, const char* operation) {
  ValueLane lane{predicate != 0, 0};
  warp_collective(mask, operation, &lane, [](void* const lanes[32], std::uint32_t m) {
    std::uint32_t bits = 0;
    for (int i = 0; i < 32; i++)
      if (m >> i & 1) bits |= static_cast<std::uint32_t>(value_lane(lanes[i]).value) << i;
    for (int i = 0; i < 32; i++)
      if (m >> i & 1) value_lane(lanes[i]).result = bits;
  });
  return static_cast<std::uint32_t>(lane.result);
}

std::uint32_t match_any(std::uint32_t mask, std::uint64_t value) {
  ValueLane lane{value, 0};
  warp_collective(mask, "__match_any_sync", &lane, [](void* const lanes[32], std::uint32_t m) {
    for (int i = 0; i < 32; i++)
      for (int j = 0; j < 32; j++)
        if ((m >> i & 1) && (m >> j & 1) && value_lane(lanes[i]).value == value_lane(lanes[j]).value)
          value_lane(lanes[i]).result |= std::uint64_t{1} << j;
  });
  return static_cast<std::uint32_t>(lane.result);
}

std::uint32_t match_all(std::uint32_t mask, std::uint64_t value, int* predicate) {
  const std::uint32_t same = match_any(mask, value);
  *predicate = same == mask;
  return same == mask ? mask : 0;
}

std::uint32_t reduce_unsigned(std::uint32_t mask, std::uint32_t value, Reduction operation) {
  return reduce(mask, value, operation);
}
float reduce_float(float value, Reduction operation) {
  static constexpr auto combine = [](void* const lanes[32], auto of_two) {
    float values[32], next[32];
    for (int i = 0; i < 32; i++) values[i] = *static_cast<float*>(lanes[i]);
    for (int step = 16; step; step /= 2) {
      for (int i = 0; i < 32; i++) next[i] = of_two(values[i], values[i ^ step]);
      std::copy(next, next + 32, values);
    }
    for (int i = 0; i < 32; i++) *static_cast<float*>(lanes[i]) = values[i];
  };
  if (operation == Reduction::max)
    warp_collective(0xffffffffu, "warp_max (__shfl_xor_sync)", &value,
                    [](void* const lanes[32], std::uint32_t) {
                      combine(lanes, [](float a, float b) { return std::fmax(a, b); });
                    });
  else
    warp_collective(
        0xffffffffu, "warp_sum (__shfl_xor_sync)", &value,
        [](void* const lanes[32], std::uint32_t) { combine(lanes, [](float a, float b) { return a + b; }); });
  return value;
}
std::int32_t reduce_signed(std::uint32_t mask, std::int32_t value, Reduction operation) {
  return reduce(mask, value, operation);
}

}  // namespace cria::cuda::emulation
