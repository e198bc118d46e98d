// SPDX-License-Identifier: Apache-2.0
#include "mpo/base/parallel.h"

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

namespace mpo {

void ParallelFor(size_t count, int threads,
                 const std::function<void(size_t)>& work) {
  std::atomic<size_t> next = 0;
  const auto take = [&] {
    for (size_t i = next++; i < count; i = next++) work(i);
  };
  std::vector<std::jthread> others;
  const size_t wanted =
      std::min(count, static_cast<size_t>(std::max(1, threads)));
  for (size_t i = 1; i < wanted; ++i) others.emplace_back(take);
  take();
}

}  // namespace mpo
