// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "mpo/generation/lanes.h"

namespace mpo::generation {

// Products of few tokens with a large weight matrix, as decoding has them, on
// activations with the tokens side by side ("lanes", see lanes.h). The
// library's general product spends most of its time on such shapes elsewhere
// than in arithmetic; this one streams the weights once and keeps all sums in
// registers. Each output is summed in the order of `depth`, 256 products at a
// time, so a token's result does not depend on the other tokens or on the
// number of threads.

// Most lanes SmallProduct takes; 0 where this build's instruction set gives it
// no advantage.
int SmallProductLanes();

// Lanes for `rows` tokens as SmallProduct wants them or, where it does not take
// so many, as the general product does.
Lanes LanesOf(int rows);

// out (+)= weight x, for `lanes` in panels of sixteen: x [lanes /
// 16][depth][16] and out [lanes / 16][columns][16], aligned to 64 bytes, weight
// [columns, depth]. Needs lanes = 16, 32, 48 or 64, at most
// SmallProductLanes().
void SmallProduct(const float* x, int lanes, int depth, const float* weight,
                  int columns, bool accumulate, float* out, int threads);

}  // namespace mpo::generation
