// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "mpo/generation/engine_state.h"
#include "mpo/generation/sampler.h"

namespace mpo::generation {

// The samples in hand of an Engine: admits them while there is room, prefills
// each distinct prompt once, decodes everything admitted a token at a time.
// Samples may come and go between two steps. Throws LibTorch's exceptions.
class GenerationLoop {
 public:
  // Sees the result of a sample once, when it is over.
  using Done = std::function<void(GenerationResult&&)>;

  // Everything passed by reference must outlive the loop.
  GenerationLoop(const EngineOptions& options, const model::ModelConfig& config,
                 EngineState& state, EngineStatistics& statistics);

  // Takes a sample, whose options have been checked and whose trunk is that of
  // the samples in hand; `done` of one that cannot run is called at once.
  // Samples are admitted in the order of their arrival.
  void Add(GenerationRequest request, Done done);

  // One pass: waiting samples are admitted, prompts prefilled, every running
  // sample gets a token. False when no sample is left.
  bool Step();

  // Ends a sample, or all, as cancelled with what it has.
  void Cancel(std::string_view id);
  void CancelAll();
  // Ends all as failed.
  void FailAll(const absl::Status& status);

  // Other weights are in force from the next step on: tokens drawn from then on
  // carry `version`, and what the earlier ones made of the prompts of samples
  // without a token is forgotten.
  void ChangePolicy(PolicyVersion version);
  int64_t keep_trunk() const { return keep_trunk_; }
  bool idle() const { return waiting_.empty() && active_.empty(); }
  int64_t waiting() const { return static_cast<int64_t>(waiting_.size()); }
  int64_t running() const { return static_cast<int64_t>(active_.size()); }

 private:
  // Samples with one prompt that wait at the same time: it is prefilled once
  // for them, unless its pages are needed before the last of them has a place.
  struct Group {
    std::vector<int32_t> prompt;
    int waiting = 0;        // Samples not yet forked.
    int64_t prefilled = 0;  // Prompt tokens that have been run.
    std::unique_ptr<PageTable> pages;
    std::vector<float> logits;  // After the last prompt token.
    std::vector<float> trunk;   // Of the prompt, where a sample asks for it.

    bool ready() const {
      return prefilled == static_cast<int64_t>(prompt.size());
    }
    // Drops what was prefilled.
    void Forget();
  };
  // A sample: waiting until it has a place, then active.
  struct Job {
    GenerationRequest request;
    GenerationResult result;
    Done done;
    std::shared_ptr<Group> group;      // Null once forked.
    std::unique_ptr<PageTable> pages;  // Null until forked.
    int64_t length = 0;                // Tokens in the cache.
    int64_t limit = 0;                 // New tokens at most.
    int64_t pages_needed = 0;          // Of its own, in the worst case.
    std::shared_ptr<Trunk> trunk;      // Null where not asked for.
    std::vector<int32_t> seen;         // Distinct tokens, for the penalty.
    std::vector<float> adjusted;       // Its logits where options change them.
    bool finished = false;

    int64_t pages_missing() const;
    const std::vector<int32_t>& StopTokens(const EngineOptions& options,
                                           const model::ModelConfig& c) const;
  };

  void Admit();
  // Gives back the pages of one prompt other than `needed` that is kept for
  // waiting samples alone; false when there is none.
  bool ForgetPrompt(const Group& needed);
  // Appends prompt tokens of admitted groups, at most `budget`.
  void AppendPrompts(int64_t budget, std::vector<InputToken>& tokens,
                     std::vector<Group*>& completed);
  void AppendDecodes(std::vector<InputToken>& tokens, std::vector<Job*>& rows);
  // Runs `tokens`: logits of decode rows give their next tokens, those of
  // completed prompts are kept by their group.
  void RunPass(const std::vector<InputToken>& tokens,
               const std::vector<Job*>& rows,
               const std::vector<Group*>& completed);
  // Gives samples of completed prompts their own pages and first token.
  void ForkReady();
  // Draws a token for each job from its row of logits.
  void DrawTokens(const std::vector<Job*>& jobs,
                  const std::vector<const float*>& logits);
  // The logits a token is drawn from: penalties and bans applied to a copy.
  const float* Adjusted(Job& job, const float* logits);
  void Accept(Job& job, const Draw& draw);
  void Finish(Job& job, FinishReason reason,
              absl::Status status = absl::OkStatus());
  void Leave(Job& job, FinishReason reason,
             const absl::Status& status = absl::OkStatus());
  void LeaveAll(FinishReason reason, const absl::Status& status);
  void DropFinished();

  const EngineOptions& options_;
  const model::ModelConfig config_;
  EngineState& state_;
  EngineStatistics& statistics_;
  PolicyVersion version_ = 0;
  int64_t keep_trunk_ = 0;                       // Of every sample in hand.
  std::chrono::steady_clock::time_point began_;  // Of the first sample's Add.
  std::deque<std::unique_ptr<Job>> waiting_;
  std::vector<std::unique_ptr<Job>> active_;
};

}  // namespace mpo::generation
