// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

namespace mpo {

// What the layers below `layer` made of the first tokens of a sequence: the
// inputs of that layer. Where no adapter sits below it they are the same for
// policy and base, so a later pass may start there.
struct Trunk {
  int64_t layer = 0;          // 1 to the model's layers - 1.
  std::vector<float> inputs;  // [tokens, hidden], float32.
  bool operator==(const Trunk&) const = default;
};

}  // namespace mpo
