// Code point -> number, as a two-stage table: a page of 256 exists only where a number was set.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace cria {

class CodePointMap {
 public:
  explicit CodePointMap(std::uint32_t absent) : absent_(absent), pages_(1) { pages_[0].fill(absent); }

  std::uint32_t get(std::uint32_t code_point) const noexcept {
    return pages_[page_of_[code_point >> 8]][code_point & 0xff];
  }
  void set(std::uint32_t code_point, std::uint32_t number) {
    std::uint16_t& page = page_of_[code_point >> 8];
    if (page == 0) {
      page = static_cast<std::uint16_t>(pages_.size());
      pages_.emplace_back().fill(absent_);
    }
    pages_[page][code_point & 0xff] = number;
  }

 private:
  std::uint32_t absent_;
  std::array<std::uint16_t, 0x1100> page_of_{};  // 0: the empty page
  std::vector<std::array<std::uint32_t, 256>> pages_;
};

}  // namespace cria
