// SPDX-License-Identifier: Apache-2.0
#include "mpo/tensor/memory.h"

#include <cstdlib>
#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace mpo::tensor {

void KeepMemory() {
#ifdef __GLIBC__
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, -1);  // Never.
  // Other arenas than the main one give back what they have on top.
  mallopt(M_ARENA_MAX, 1);
#endif
}

}  // namespace mpo::tensor
