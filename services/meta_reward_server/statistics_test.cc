// SPDX-License-Identifier: Apache-2.0
#include "services/meta_reward_server/statistics.h"

#include <catch2/catch.hpp>

namespace mpo::meta_reward_server {
namespace {

TEST_CASE("MomentsOf gives the population's deviation", "[meta]") {
  const Moments moments = MomentsOf({2, 4, 4, 4, 5, 5, 7, 9});
  CHECK(moments.mean == Approx(5));
  CHECK(moments.deviation == Approx(2));
  CHECK(MomentsOf({}).mean == 0);
  CHECK(MomentsOf({3}).deviation == 0);
}

TEST_CASE("Correlation is exact on lines and 0 where nothing varies",
          "[meta]") {
  CHECK(Correlation({1, 2, 3}, {2, 4, 6}) == Approx(1));
  CHECK(Correlation({1, 2, 3}, {3, 2, 1}) == Approx(-1));
  CHECK(Correlation({1, 1, 1}, {3, 2, 1}) == 0);
  CHECK(Correlation({}, {}) == 0);
}

TEST_CASE("RankCorrelation sees order only and shares ranks of ties",
          "[meta]") {
  CHECK(RankCorrelation({1, 2, 3, 4}, {1, 10, 100, 1000}) == Approx(1));
  CHECK(RankCorrelation({1, 2, 2, 3}, {1, 2, 2, 3}) == Approx(1));
  CHECK(RankCorrelation({1, 2, 3}, {5, 5, 5}) == 0);
}

TEST_CASE("Quantile picks from the sorted sample", "[meta]") {
  CHECK(Quantile({5, 1, 4, 2, 3}, 0.8) == 5);
  CHECK(Quantile({5, 1, 4, 2, 3}, 0.0) == 1);
  CHECK(Quantile({5, 1}, 1.0) == 5);
  CHECK(Quantile({}, 0.5) == 0);
}

}  // namespace
}  // namespace mpo::meta_reward_server
