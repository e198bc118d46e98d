// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <stop_token>
#include <utility>
#include <vector>

#include "mpo/generation/engine.h"
#include "mpo/generation/forward_pass.h"
#include "mpo/generation/kv_cache.h"

namespace mpo::generation {

// Logits of at most this many positions exist at a time.
inline constexpr int kLogitRows = 128;

// What Engine keeps between calls, and the one loop that generation's prefill
// and scoring share.
struct EngineState {
  EngineState(std::shared_ptr<const model::LanguageModel> model,
              const EngineOptions& options)
      : pass(MakeForwardPass(std::move(model), options.fused)),
        forward(*pass),
        cache(forward.page_floats(), PageLimit(forward.page_bytes(), options),
              forward.page_copier()) {
    forward.set_page_limit(PageLimit(forward.page_bytes(), options));
  }

  static int64_t PageLimit(uint64_t page_bytes, const EngineOptions& options) {
    if (options.kv_cache_bytes == 0) return 0;
    return std::max<int64_t>(
        1, static_cast<int64_t>(options.kv_cache_bytes / page_bytes));
  }

  // Logits of wanted tokens [first, first + count) in the order of `tokens`.
  using OnLogits = std::function<void(int first, int count, LogitRows logits)>;

  // Which layers a pass runs and which inputs it keeps; see ForwardPass::Run.
  struct Layers {
    int64_t first = 0;
    int64_t keep = 0;
  };

  // Runs tokens in passes of at most `per_pass`. False when stopped between
  // two passes.
  bool RunAll(const std::vector<InputToken>& tokens, Layers layers,
              int per_pass, std::stop_token stop, const OnLogits& on_logits) {
    int seen = 0;
    for (size_t begin = 0; begin < tokens.size(); begin += per_pass) {
      if (stop.stop_requested()) return false;
      const size_t end = std::min(tokens.size(), begin + per_pass);
      const int wanted =
          forward.Run({tokens.begin() + begin, tokens.begin() + end},
                      layers.first, layers.keep);
      for (int at = 0; at < wanted; at += kLogitRows) {
        const int count = std::min(kLogitRows, wanted - at);
        on_logits(seen + at, count, forward.Logits(at, count));
      }
      seen += wanted;
    }
    return true;
  }

  const std::unique_ptr<ForwardPass> pass;
  ForwardPass& forward;
  KvCache cache;
};

}  // namespace mpo::generation
