#include "engine/page_pool.h"

#include <doctest/doctest.h>

#include <map>
#include <random>
#include <vector>

#include "core/error.h"

using namespace cria;

TEST_CASE("taken pages are distinct and come back") {
  PagePool pool(3);
  const PageId a = *pool.take(), b = *pool.take(), c = *pool.take();
  CHECK(a != b);
  CHECK(b != c);
  CHECK_FALSE(pool.take().has_value());
  pool.release(b);
  CHECK(pool.free_pages() == 1);
  CHECK(*pool.take() == b);
}

TEST_CASE("misuse is an error, not corruption") {
  PagePool pool(2);
  CHECK_THROWS_AS(pool.release(0), Error);
  CHECK_THROWS_AS(pool.retain(1), Error);
  CHECK_THROWS(pool.release(7));
  CHECK(pool.free_pages() == 2);
}

TEST_CASE("100,000 random operations keep free + used = total and every reference count") {
  std::mt19937 rng(std::random_device{}());
  PagePool pool(37);
  std::map<PageId, int> model;
  for (int i = 0; i < 100'000; i++) {
    const auto pick = [&] {
      return std::next(model.begin(), static_cast<std::ptrdiff_t>(rng() % model.size()));
    };
    switch (rng() % 3) {
      case 0:
        if (const auto page = pool.take()) {
          REQUIRE(model.emplace(*page, 1).second);
        } else {
          REQUIRE(model.size() == 37);
        }
        break;
      case 1:
        if (!model.empty()) {
          const auto at = pick();
          pool.retain(at->first);
          at->second++;
        }
        break;
      default:
        if (!model.empty()) {
          const auto at = pick();
          pool.release(at->first);
          if (--at->second == 0) model.erase(at);
        }
    }
    REQUIRE(pool.used_pages() == static_cast<std::int32_t>(model.size()));
    REQUIRE(pool.free_pages() + pool.used_pages() == pool.size());
    for (const auto& [page, count] : model) REQUIRE(pool.references(page) == count);
  }
}
