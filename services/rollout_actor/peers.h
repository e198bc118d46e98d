// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "mpo/tensor/codec.h"
#include "mpo/types/prompt.h"
#include "mpo/types/rollout.h"
#include "mpo/types/trunk.h"
#include "mpo/types/verdict.h"
#include "mpo/weights/manifest.h"

namespace mpo::rollout_actor {

// The actor's place in the run.
struct Membership {
  std::string member_id;
  absl::Duration ttl;
};

// Answer to a request for work.
struct LeasedWork {
  std::optional<WorkUnit> unit;  // Nothing: ask again.
  bool finished = false;         // The run is over.
};

// What became of one sample, for the ledger.
struct SampleOutcome {
  std::string sample_key;
  std::string text;
  int response_tokens = 0;
  FinishReason finish_reason = FinishReason::kFailed;
  PolicyVersion policy_version = 0;
  Verdict verdict;
  std::optional<Verdict> monitor;
  std::optional<BaseStatistics> base;  // Absent: not measured.
};

struct UnitOutcomes {
  std::vector<SampleOutcome> samples;
  absl::Duration generation;
  absl::Duration judging;
};

// One response to be judged.
struct ScoreItem {
  std::string sample_key;
  Prompt prompt;
  std::string response;
  std::optional<double> base_mean_logprob;
};

struct Verdicts {
  Verdict verdict;
  std::optional<Verdict> monitor;
};

struct JudgedRollout {
  Rollout rollout;
  Verdict verdict;
  // Of the tokens before the response's last; null = not sent.
  std::shared_ptr<const Trunk> trunk = nullptr;
};

// One verified version of the weights.
struct FetchedWeights {
  weights::Manifest manifest;
  std::vector<tensor::NamedTensor> tensors;  // Not to be written to.
  bool mapped = false;  // They lie in memory of the learner's.
};

// What the actor asks of the rest of the mesh, one try a call: the engine
// decides what is worth another. Every call ends by its own deadline, or as
// CANCELLED once `stop` is requested. Thread-safe.
class Peers {
 public:
  virtual ~Peers() = default;

  // Orchestrator. Statuses as in orchestrator_service.proto.
  virtual absl::StatusOr<Membership> Register(std::stop_token stop) = 0;
  // Units of `unit_ids` whose lease is no longer this member's.
  virtual absl::StatusOr<std::vector<std::string>> Heartbeat(
      const std::string& member_id, const std::vector<std::string>& unit_ids,
      PolicyVersion version, std::stop_token stop) = 0;
  virtual absl::StatusOr<LeasedWork> LeaseWork(const std::string& member_id,
                                               absl::Duration wait,
                                               std::stop_token stop) = 0;
  virtual absl::Status CompleteWork(const std::string& member_id,
                                    const WorkUnit& unit,
                                    const UnitOutcomes& outcomes,
                                    std::stop_token stop) = 0;
  // `draining`: the unit did not fail, its holder goes.
  virtual absl::Status ReturnWork(const std::string& member_id,
                                  const WorkUnit& unit,
                                  const std::string& reason, bool draining,
                                  std::stop_token stop) = 0;

  // Learner. DATA_LOSS: a checksum or digest was wrong.
  virtual absl::StatusOr<FetchedWeights> GetWeights(PolicyVersion min_version,
                                                    int64_t max_bytes,
                                                    std::stop_token stop) = 0;
  virtual absl::Status SubmitRollouts(const std::vector<JudgedRollout>& batch,
                                      std::stop_token stop) = 0;

  // Reward server. One entry an item, by sample key, with a monitor verdict
  // where `unit` asks for one; anything else is INTERNAL.
  virtual absl::StatusOr<std::map<std::string, Verdicts>> Score(
      const WorkUnit& unit, const std::vector<ScoreItem>& items,
      std::stop_token stop) = 0;
};

}  // namespace mpo::rollout_actor
