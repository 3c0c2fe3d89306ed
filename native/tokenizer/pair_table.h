// A hash table of the pairs of symbols that merge.
#pragma once

#include <bit>
#include <cstdint>
#include <vector>

namespace cria {

/// The result of merging a pair. A lower rank merges earlier; equal ranks merge from the left.
struct Merge {
  static constexpr std::uint32_t kNone = 0xffffffff;
  std::uint32_t rank = kNone;  // kNone: the pair does not merge
  std::uint32_t id = 0;
  explicit operator bool() const noexcept { return rank != kNone; }
};

/// (left symbol, right symbol) -> Merge, with open addressing. It grows while it is built and is read-only
/// afterwards. Most look-ups of a merge loop find nothing. One tag byte per slot answers them from the cache;
/// the slots (8 MB for Llama 3) would come from memory.
class PairTable {
 public:
  explicit PairTable(std::size_t expected = 0) { resize(std::bit_ceil(expected * 8 / 5 + 2)); }

  std::size_t size() const noexcept { return size_; }

  /// False when the pair is already present; its first merge is kept.
  bool insert(std::uint32_t left, std::uint32_t right, Merge merge) {
    if ((size_ + 1) * 8 > slots_.size() * 5) grow();
    const std::uint64_t key = key_of(left, right);
    const std::size_t at = locate(key);
    if (tags_[at] != kEmpty) return false;
    tags_[at] = tag_of(hash_of(key));
    slots_[at] = {key, merge};
    ++size_;
    return true;
  }
  Merge find(std::uint32_t left, std::uint32_t right) const noexcept {
    const std::size_t at = locate(key_of(left, right));
    return tags_[at] == kEmpty ? Merge() : slots_[at].merge;
  }

 private:
  struct Slot {
    std::uint64_t key = 0;
    Merge merge;
  };
  static constexpr std::uint8_t kEmpty = 0;

  static std::uint64_t key_of(std::uint32_t left, std::uint32_t right) noexcept {
    return static_cast<std::uint64_t>(left) << 32 | right;
  }
  static std::uint64_t hash_of(std::uint64_t key) noexcept {
    key *= 0x9E3779B97F4A7C15;
    return key ^ key >> 32;
  }
  static std::uint8_t tag_of(std::uint64_t hash) noexcept {
    return static_cast<std::uint8_t>(hash >> 56 | 1);
  }

  std::size_t locate(std::uint64_t key) const noexcept {
    const std::size_t mask = slots_.size() - 1;
    const std::uint64_t hash = hash_of(key);
    const std::uint8_t tag = tag_of(hash);
    for (std::size_t i = hash & mask;; i = (i + 1) & mask) {
      if (tags_[i] == kEmpty || (tags_[i] == tag && slots_[i].key == key)) return i;
    }
  }
  void resize(std::size_t slots) {
    tags_.assign(slots, kEmpty);
    slots_.assign(slots, Slot());
  }
  void grow() {
    const std::vector<Slot> old_slots = std::move(slots_);
    const std::vector<std::uint8_t> old_tags = std::move(tags_);
    resize(old_slots.size() * 2);
    for (std::size_t i = 0; i < old_slots.size(); ++i) {
      if (old_tags[i] == kEmpty) continue;
      const std::size_t at = locate(old_slots[i].key);
      tags_[at] = old_tags[i];
      slots_[at] = old_slots[i];
    }
  }

  std::vector<std::uint8_t> tags_;
  std::vector<Slot> slots_;
  std::size_t size_ = 0;
};

}  // namespace cria
