// SPDX-License-Identifier: Apache-2.0
#include "mpo/generation/kv_cache.h"

#include <catch2/catch.hpp>
#include <set>

namespace mpo::generation {
namespace {

TEST_CASE(
    "KvCache hands out distinct aligned pages up to its limit and takes them "
    "back",
    "[kv_cache]") {
  KvCache cache(/*page_floats=*/20, /*max_pages=*/40);
  std::set<float*> pages;
  for (int i = 0; i < 40; ++i) {
    float* page = cache.Allocate();
    REQUIRE(page != nullptr);
    CHECK(reinterpret_cast<uintptr_t>(page) % 64 == 0);
    page[0] = page[19] = 1.0F;
    CHECK(pages.insert(page).second);
  }
  CHECK(cache.Allocate() == nullptr);
  CHECK(cache.free_pages() == 0);
  cache.Share(*pages.begin());
  cache.Release(*pages.begin());
  CHECK(cache.Allocate() == nullptr);
  cache.Release(*pages.begin());
  CHECK(cache.used() == 39);
  CHECK(cache.Allocate() == *pages.begin());
  CHECK(cache.peak() == 40);
  // Every page has a header of 64 bytes.
  CHECK(cache.created() == 40);
  CHECK(cache.allocated_bytes() == 40 * (cache.page_bytes() + 64));
}

TEST_CASE("a fork shares whole pages and copies the partial one",
          "[kv_cache]") {
  KvCache cache(16, 0);
  {
    PageTable table(cache);
    REQUIRE(table.Reserve(20));
    CHECK(table.size() == 2);
    table.pages()[1][3] = 7.0F;
    auto fork = table.Fork(20);
    REQUIRE(fork != nullptr);
    CHECK(fork->pages()[0] == table.pages()[0]);
    CHECK(fork->pages()[1] != table.pages()[1]);
    CHECK(fork->pages()[1][3] == 7.0F);
    CHECK(cache.used() == 3);
    CHECK(table.Fork(16)->size() == 1);
    PageTable moved(std::move(table));
    fork.reset();
    CHECK(cache.used() == 2);
  }
  CHECK(cache.used() == 0);
}

TEST_CASE("Reserve and Fork fail when the cache is full and leak nothing",
          "[kv_cache]") {
  KvCache cache(16, 2);
  PageTable table(cache);
  CHECK(!table.Reserve(48));
  CHECK(table.Reserve(20));
  CHECK(table.Fork(20) == nullptr);
  CHECK(cache.used() == 2);
}

}  // namespace
}  // namespace mpo::generation
