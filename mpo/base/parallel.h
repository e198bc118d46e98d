// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>

namespace mpo {

// Calls work(0) to work(count - 1), each once, on at most `threads` threads of
// which the caller's is one; returns when all are done. A thread takes the next
// index as soon as it is free, so put the longest work first. `work` runs
// concurrently with itself and must not throw. threads below 1 count as 1.
void ParallelFor(size_t count, int threads,
                 const std::function<void(size_t)>& work);

}  // namespace mpo
