// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

namespace mpo::generation {

// Products of few rows with a large weight matrix, as decoding has them. The
// library's general product spends most of its time on such shapes elsewhere
// than in arithmetic; this one streams the weights once and keeps all rows in
// registers. Each output is one sum in the order of `depth`, so a row's result
// does not depend on the other rows or on the number of threads.

// Most rows SmallProduct takes; 0 where this build's instruction set gives it
// no advantage.
int SmallProductRows();

// out[i][j] (+)= sum over d of x[i][d] * weight[j][d]; x is [rows, depth],
// weight [columns, depth], out [rows, columns]. `scratch` is kept by the
// caller for reuse. Needs 1 <= rows <= SmallProductRows().
void SmallProduct(const float* x, int rows, int depth, const float* weight,
                  int columns, bool accumulate, float* out,
                  std::vector<float>& scratch, int threads);

}  // namespace mpo::generation
