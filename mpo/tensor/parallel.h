// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "absl/functional/function_ref.h"

namespace mpo::tensor {

// task(i) for every i below `count`, each on an OpenMP thread of its own, in
// which operations that would use several threads use one. Within a parallel
// region, and without HasOpenMp(), one after the other. Of exceptions the first
// in the order of i is thrown again once all have ended. (at::parallel_for is
// serial in a file compiled without OpenMP, and LibTorch's headers do not
// belong into one compiled for this processor.)
void OnThreads(int count, absl::FunctionRef<void(int i)> task);

// Whether this build has OpenMP; clang's has not.
bool HasOpenMp();

}  // namespace mpo::tensor
