#include "engine/page_pool.h"

#include <doctest/doctest.h>

#include <vector>

#include "core/error.h"

using namespace cria;

namespace {

using Tokens = std::vector<std::uint32_t>;

/// Takes and publishes pages of 4 tokens for `tokens`, as a sequence would.
std::vector<PageId> hold(PagePool& pool, const Tokens& tokens) {
  std::vector<PageId> pages;
  PageId parent = PrefixTree::kRoot;
  for (std::size_t i = 0; i < tokens.size(); i += 4) {
    const PageId page = *pool.take();
    parent =
        pool.publish(page, parent, std::span(tokens).subspan(i, std::min<std::size_t>(4, tokens.size() - i)));
    pages.push_back(parent);
  }
  return pages;
}

void let_go(PagePool& pool, const std::vector<PageId>& pages) {
  for (std::size_t i = pages.size(); i-- > 0;) pool.release(pages[i]);
}

}  // namespace

TEST_CASE("taken pages are distinct and become free again") {
  PagePool pool(3, 4);
  const PageId a = *pool.take(), b = *pool.take(), c = *pool.take();
  CHECK(a != b);
  CHECK(b != c);
  CHECK_FALSE(pool.take().has_value());
  pool.release(b);
  CHECK(pool.free_pages() == 1);
  CHECK(*pool.take() == b);
}

TEST_CASE("misuse is an error, not corruption") {
  PagePool pool(2, 4);
  CHECK_THROWS_AS(pool.release(0), Error);
  CHECK_THROWS_AS(pool.retain(1), Error);
  CHECK_THROWS(pool.release(7));
  CHECK(pool.free_pages() == 2);
}

TEST_CASE("full pages are found by exactly the tokens that lead to them") {
  PagePool pool(8, 4);
  const Tokens tokens{1, 2, 3, 4, 5, 6, 7, 8, 9};
  const auto pages = hold(pool, tokens);
  let_go(pool, pages);
  CHECK(pool.cached_pages() == 3);
  CHECK(pool.used_pages() == 0);

  const auto found = pool.match(tokens, tokens.size() - 1);
  CHECK(found == std::vector<PageId>{pages[0], pages[1]});
  CHECK(pool.used_pages() == 2);
  CHECK(pool.match(tokens, 7) == std::vector<PageId>{pages[0]});
  CHECK(pool.shared_pages() == 1);
  CHECK(pool.match(Tokens{5, 6, 7, 8}, 4).empty());  // the same tokens after another prefix
  CHECK(pool.match(Tokens{1, 2, 3, 5, 5, 6, 7, 8}, 8).empty());
}

TEST_CASE("a prefix computed twice is kept once") {
  PagePool pool(8, 4);
  const Tokens tokens{1, 2, 3, 4, 5, 6};
  const auto first = hold(pool, tokens), second = hold(pool, tokens);
  CHECK(first[0] == second[0]);
  CHECK(pool.references(first[0]) == 2);
  CHECK(first[1] != second[1]);  // an incomplete page belongs to one sequence
  CHECK(pool.used_pages() == 3);
  const Tokens rest{5, 6, 7, 8};
  CHECK(pool.publish(first[1], first[0], rest) == first[1]);
  CHECK(pool.publish(second[1], first[0], rest) == first[1]);
  CHECK(pool.references(first[1]) == 2);
  CHECK(pool.free_pages() == 6);
}

TEST_CASE("the least recently released page is evicted first, the end of a sequence before its beginning") {
  PagePool pool(4, 4);
  const auto a = hold(pool, {1, 1, 1, 1, 2, 2, 2, 2}), b = hold(pool, {3, 3, 3, 3, 4, 4, 4, 4});
  let_go(pool, a);
  let_go(pool, b);
  const auto again = pool.match(Tokens{1, 1, 1, 1, 9}, 4);  // the beginning of a is used again
  let_go(pool, again);
  CHECK(*pool.take() == a[1]);
  CHECK(*pool.take() == b[1]);
  CHECK(*pool.take() == b[0]);
  CHECK(pool.match(Tokens{1, 1, 1, 1}, 4) == std::vector<PageId>{a[0]});
  let_go(pool, {a[0]});
  CHECK(*pool.take() == a[0]);
  CHECK(pool.match(Tokens{1, 1, 1, 1}, 4).empty());
  CHECK_FALSE(pool.take().has_value());
}

TEST_CASE("the tree finds the page with the longest common prefix") {
  PrefixTree tree(4, 4);
  tree.insert(0, PrefixTree::kRoot, Tokens{1, 2, 3, 4});
  tree.insert(1, PrefixTree::kRoot, Tokens{1, 2, 9});
  tree.insert(2, 0, Tokens{5});
  CHECK(tree.longest_overlap(PrefixTree::kRoot, Tokens{1, 2, 9, 9}).page == 1);
  CHECK(tree.longest_overlap(PrefixTree::kRoot, Tokens{1, 2, 9, 9}).n_tokens == 3);
  CHECK(tree.longest_overlap(PrefixTree::kRoot, Tokens{1, 2}).page == 0);
  CHECK(tree.longest_overlap(PrefixTree::kRoot, Tokens{7}).n_tokens == 0);
  CHECK(tree.longest_overlap(0, Tokens{5, 6}).page == 2);
  tree.extend(2, Tokens{6, 7, 8});
  CHECK(*tree.find(0, Tokens{5, 6, 7, 8}) == 2);
  CHECK_FALSE(tree.find(0, Tokens{5, 6, 7, 9}).has_value());
  CHECK_THROWS_AS(tree.extend(2, Tokens{1}), Error);
  CHECK_THROWS_AS(tree.insert(2, PrefixTree::kRoot, Tokens{1}), Error);
  CHECK_THROWS_AS(tree.insert(3, 1, Tokens{1}), Error);  // only full pages have children
  std::vector<PageId> erased;
  tree.erase(0, erased);
  CHECK(erased == std::vector<PageId>{2, 0});
  CHECK_FALSE(tree.contains(2));
  CHECK_FALSE(tree.find(PrefixTree::kRoot, Tokens{1, 2, 3, 4}).has_value());
}
