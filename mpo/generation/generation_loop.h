// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <deque>
#include <memory>
#include <stop_token>
#include <vector>

#include "mpo/generation/engine_state.h"
#include "mpo/generation/sampler.h"

namespace mpo::generation {

// One call of Engine::Generate: admits samples while there is room, prefills
// each distinct prompt once, decodes everything admitted a token at a time.
class GenerationLoop {
 public:
  struct Settings {
    SamplingOptions sampling;
    int max_rows = 0;
    int prefill_tokens = 0;
    int64_t keep_trunk = 0;
    std::vector<int32_t> stop_tokens;
    std::stop_token stop;
    const Engine::Callback* callback = nullptr;
  };

  // Everything passed by reference must outlive the loop.
  GenerationLoop(const std::vector<GenerationRequest>& requests,
                 Settings settings, const model::ModelConfig& config,
                 EngineState& state, EngineStatistics& statistics);

  // Runs to the end. Throws LibTorch's exceptions.
  std::vector<GenerationResult> Run();

 private:
  // Samples with one prompt.
  struct Group {
    const std::vector<int32_t>* prompt = nullptr;
    int waiting = 0;  // Samples not yet forked.
    std::unique_ptr<PageTable> pages;
    std::vector<float> logits;  // After the last prompt token.
    std::vector<float> trunk;   // Of the prompt, where a sample asks for it.
  };
  // A sample that is being decoded.
  struct Active {
    size_t request = 0;
    Group* group = nullptr;
    std::unique_ptr<PageTable> pages;  // Null until forked.
    int64_t length = 0;                // Tokens in the cache.
    int64_t limit = 0;                 // New tokens at most.
    int64_t pages_needed = 0;          // Of its own, in the worst case.
    std::shared_ptr<Trunk> trunk;      // Null where not asked for.
    bool finished = false;

    int64_t pages_missing() const;
  };

  void Enqueue();
  // Takes waiting samples into the batch; returns groups to prefill.
  std::vector<Group*> Admit();
  bool Prefill(const std::vector<Group*>& groups);
  void ForkNew();
  void DecodeStep();
  // Draws for rows [first, active_.size()) from the given logits.
  void DrawTokens(size_t first, const std::vector<const float*>& logits);
  void Finish(size_t request, FinishReason reason,
              absl::Status status = absl::OkStatus());
  void DropFinished();
  void CancelAll();

  const std::vector<GenerationRequest>& requests_;
  const Settings settings_;
  const model::ModelConfig& config_;
  EngineState& state_;
  EngineStatistics& statistics_;
  std::vector<GenerationResult> results_;
  std::vector<std::unique_ptr<Group>> groups_;
  std::deque<std::pair<size_t, Group*>> waiting_;
  std::vector<Active> active_;
};

}  // namespace mpo::generation
