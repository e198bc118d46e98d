// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace mpo::tensor {

// Number of threads of LibTorch's operations and of the fused CPU loops, in
// the whole process; at least 1. Results are reproducible for one number of
// threads. Call before the first tensor operation; thread-safe.
void SetThreads(int threads);

// The number in force.
int Threads();

}  // namespace mpo::tensor
