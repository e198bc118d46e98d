// SPDX-License-Identifier: Apache-2.0
#include "mpo/tensor/threads.h"

#include <torch/torch.h>

#include <algorithm>

namespace mpo::tensor {

void SetThreads(int threads) { at::set_num_threads(std::max(1, threads)); }

int Threads() { return at::get_num_threads(); }

}  // namespace mpo::tensor
