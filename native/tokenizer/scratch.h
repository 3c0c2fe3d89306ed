// The working memory of an encode call: buffers and a bounded cache of pieces, leased from a pool that the
// tokenizer owns. (thread_local memory would outlive the tokenizer on every thread that ever encoded.)
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/merge.h"
#include "tokenizer/vocabulary.h"

namespace cria {

/// Short pieces -> ids, direct-mapped: a fixed 2 MiB that no text can make grow, and one cache line per
/// look-up.
class PieceCache {
 public:
  static constexpr std::size_t kMaxBytes = 24;
  static constexpr std::size_t kMaxIds = 9;

  struct Key {
    std::uint64_t words[3];  // these and the length determine the bytes
    std::uint32_t length;
    std::size_t slot;
  };

  PieceCache() : slots_(kSlots) {}

  /// `piece` has 1 to kMaxBytes bytes.
  static Key key_of(std::string_view piece) noexcept {
    const char* p = piece.data();
    const std::size_t n = piece.size();
    Key key{{0, 0, 0}, static_cast<std::uint32_t>(n), 0};
    if (n >= 8) {
      key.words[0] = load<std::uint64_t>(p);
      key.words[1] = load<std::uint64_t>(p + n - 8);
      if (n > 16) key.words[2] = load<std::uint64_t>(p + 8);
    } else if (n >= 4) {
      key.words[0] = load<std::uint32_t>(p) | std::uint64_t{load<std::uint32_t>(p + n - 4)} << 32;
    } else {
      const auto at = [p](std::size_t i) { return std::uint64_t{static_cast<unsigned char>(p[i])}; };
      key.words[0] = at(0) | at(n / 2) << 8 | at(n - 1) << 16;
    }
    std::uint64_t hash = (key.words[0] + n) * 0x9E3779B97F4A7C15;
    hash = (hash ^ hash >> 32 ^ key.words[1]) * 0xff51afd7ed558ccd;
    hash = (hash ^ hash >> 32 ^ key.words[2]) * 0xc4ceb9fe1a85ec53;
    key.slot = hash >> (64 - kSlotBits);
    return key;
  }

  /// Appends the ids of the piece to `out`; false when they are not cached.
  bool append(const Key& key, std::vector<TokenId>& out) const {
    const Slot& slot = slots_[key.slot];
    if (slot.length != key.length || std::memcmp(slot.words, key.words, sizeof key.words) != 0) return false;
    if (slot.count == 1) {
      out.push_back(slot.ids[0]);
    } else {
      out.insert(out.end(), slot.ids, slot.ids + slot.count);
    }
    return true;
  }

  /// Caches the ids unless there are more than kMaxIds.
  void put(const Key& key, const TokenId* ids, std::size_t count) {
    if (count > kMaxIds) return;
    Slot& slot = slots_[key.slot];
    std::memcpy(slot.words, key.words, sizeof key.words);
    std::memcpy(slot.ids, ids, count * sizeof *ids);
    slot.length = static_cast<std::uint8_t>(key.length);
    slot.count = static_cast<std::uint8_t>(count);
  }

 private:
  static constexpr unsigned kSlotBits = 15;
  static constexpr std::size_t kSlots = std::size_t{1} << kSlotBits;

  struct alignas(64) Slot {
    std::uint64_t words[3];
    TokenId ids[kMaxIds];
    std::uint8_t length;  // 0: empty
    std::uint8_t count;
  };
  static_assert(sizeof(Slot) == 64);

  template <class T>
  static T load(const char* p) noexcept {
    T value;
    std::memcpy(&value, p, sizeof value);
    return value;
  }

  std::vector<Slot> slots_;
};

struct Scratch {
  PieceCache cache;
  MergeBuffers merge;
  std::string text;
};

/// The state of one encode call.
struct EncodeRun {
  Scratch& scratch;
  std::vector<TokenId>& out;
  CancelPoll poll;
};

class ScratchPool {
 public:
  class Lease {
   public:
    explicit Lease(ScratchPool& pool) : pool_(pool), scratch_(pool.take()) {}
    ~Lease() { pool_.give_back(std::move(scratch_)); }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    Scratch& operator*() const noexcept { return *scratch_; }

   private:
    ScratchPool& pool_;
    std::unique_ptr<Scratch> scratch_;
  };

 private:
  static constexpr std::size_t kMaxKept = 4;  // further concurrent calls allocate a Scratch and free it

  std::unique_ptr<Scratch> take() {
    {
      const std::lock_guard lock(mutex_);
      if (!free_.empty()) {
        std::unique_ptr<Scratch> scratch = std::move(free_.back());
        free_.pop_back();
        return scratch;
      }
    }
    return std::make_unique<Scratch>();
  }
  void give_back(std::unique_ptr<Scratch> scratch) noexcept {
    scratch->merge.release_excess();
    if (scratch->text.capacity() > (1 << 20)) std::string().swap(scratch->text);
    const std::lock_guard lock(mutex_);
    if (free_.size() < kMaxKept) free_.push_back(std::move(scratch));
  }

  std::mutex mutex_;
  std::vector<std::unique_ptr<Scratch>> free_ = reserved();
  static std::vector<std::unique_ptr<Scratch>> reserved() {
    std::vector<std::unique_ptr<Scratch>> list;
    list.reserve(kMaxKept);  // so that give_back() cannot throw
    return list;
  }
};

}  // namespace cria
