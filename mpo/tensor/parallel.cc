// SPDX-License-Identifier: Apache-2.0
#include "mpo/tensor/parallel.h"

#include <exception>
#include <vector>

namespace mpo::tensor {

void OnThreads(int count, absl::FunctionRef<void(int i)> task) {
  if (count <= 0) return;
  std::vector<std::exception_ptr> errors(count);
#pragma omp parallel for num_threads(count) schedule(static, 1)
  for (int i = 0; i < count; ++i) {
    try {
      task(i);
    } catch (...) {
      errors[i] = std::current_exception();
    }
  }
  for (const std::exception_ptr& error : errors) {
    if (error) std::rethrow_exception(error);
  }
}

bool HasOpenMp() {
#ifdef _OPENMP
  return true;
#else
  return false;
#endif
}

}  // namespace mpo::tensor
