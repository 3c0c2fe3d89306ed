// Numbered byte strings in one buffer, and a hash index over them.
#pragma once

#include <bit>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cria {

/// Strings 0 to n - 1 in one buffer of less than 4 GiB.
class StringList {
 public:
  void reserve(std::size_t strings, std::size_t bytes) {
    begins_.reserve(strings + 1);
    bytes_.reserve(bytes);
  }
  void add(std::string_view s) {
    bytes_.append(s);
    begins_.push_back(static_cast<std::uint32_t>(bytes_.size()));
  }
  std::uint32_t size() const noexcept { return static_cast<std::uint32_t>(begins_.size() - 1); }
  std::string_view operator[](std::uint32_t i) const noexcept {
    return std::string_view(bytes_).substr(begins_[i], begins_[i + 1] - begins_[i]);
  }

 private:
  std::string bytes_;
  std::vector<std::uint32_t> begins_{0};
};

/// A polynomial hash modulo 2^64. The hash of any substring follows from those of two prefixes, so the halves
/// of all splits of a string are looked up in linear time.
class PrefixHash {
 public:
  static constexpr std::uint64_t kBase = 0x9E3779B97F4A7C15;

  static std::uint64_t of(std::string_view s) noexcept {
    std::uint64_t hash = 0;
    for (char c : s) hash = extend(hash, c);
    return hash;
  }

  void assign(std::string_view s) {
    prefix_.assign(1, 0);
    for (char c : s) prefix_.push_back(extend(prefix_.back(), c));
    while (powers_.size() < prefix_.size()) powers_.push_back(powers_.back() * kBase);
  }
  std::uint64_t range(std::size_t begin, std::size_t end) const noexcept {
    return prefix_[end] - prefix_[begin] * powers_[end - begin];
  }

 private:
  static std::uint64_t extend(std::uint64_t hash, char c) noexcept {
    return hash * kBase + static_cast<unsigned char>(c) + 1;
  }
  std::vector<std::uint64_t> prefix_{0};
  std::vector<std::uint64_t> powers_{1};
};

/// A hash index of some strings of a list. The list is passed to each call; its indexed strings must not
/// change.
class StringIndex {
 public:
  static constexpr std::uint32_t kAbsent = 0xffffffff;

  explicit StringIndex(std::size_t expected = 0) : slots_(std::bit_ceil(expected * 2 + 2)) {}

  /// False when an equal string is already present.
  bool insert(const StringList& list, std::uint32_t number) {
    const std::string_view key = list[number];
    Slot& slot = slots_[locate(list, key, PrefixHash::of(key))];
    if (slot.number != kAbsent) return false;
    slot = {tag_of(PrefixHash::of(key)), number};
    return true;
  }
  std::uint32_t find(const StringList& list, std::string_view key) const noexcept {
    return find(list, key, PrefixHash::of(key));
  }
  std::uint32_t find(const StringList& list, std::string_view key, std::uint64_t hash) const noexcept {
    return slots_[locate(list, key, hash)].number;
  }

 private:
  struct Slot {
    std::uint32_t tag = 0;
    std::uint32_t number = kAbsent;
  };
  static std::uint64_t mix(std::uint64_t hash) noexcept {
    hash ^= hash >> 32;
    return hash * 0xff51afd7ed558ccd;
  }
  static std::uint32_t tag_of(std::uint64_t hash) noexcept { return static_cast<std::uint32_t>(mix(hash)); }

  std::size_t locate(const StringList& list, std::string_view key, std::uint64_t hash) const noexcept {
    const std::size_t mask = slots_.size() - 1;
    const std::uint32_t tag = tag_of(hash);
    for (std::size_t i = (mix(hash) >> 32) & mask;; i = (i + 1) & mask) {
      const Slot& slot = slots_[i];
      if (slot.number == kAbsent || (slot.tag == tag && list[slot.number] == key)) return i;
    }
  }

  std::vector<Slot> slots_;
};

}  // namespace cria
