// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>

#include "mpo/v1/orchestrator_service.grpc.pb.h"
#include "mpo/v1/policy_learner_service.grpc.pb.h"
#include "mpo/v1/reward_service.grpc.pb.h"
#include "mpo/weights/memory_file.h"
#include "services/rollout_actor/peers.h"

namespace mpo::rollout_actor {

struct MeshPeersOptions {
  // host:port of the three services.
  std::string orchestrator;
  std::string policy_learner;
  std::string reward_server;
  // Who joins.
  std::string name;
  std::string incarnation;
  std::string address;        // Of this actor's own server.
  std::string config_sha256;  // Empty = not checked.
  // Maps the learner's weights where they lie in memory of this host.
  bool shared_memory = true;
  // Longest time of one try.
  absl::Duration short_call = absl::Seconds(10);
  absl::Duration weights = absl::Seconds(120);
  absl::Duration submit = absl::Seconds(60);
  absl::Duration score = absl::Minutes(10);
};

// The mesh over gRPC. Calls wait for an absent service until their deadline.
// Thread-safe.
class MeshPeers final : public Peers {
 public:
  explicit MeshPeers(MeshPeersOptions options);

  absl::StatusOr<Membership> Register(std::stop_token stop) override;
  absl::StatusOr<std::vector<std::string>> Heartbeat(
      const std::string& member_id, const std::vector<std::string>& unit_ids,
      PolicyVersion version, std::stop_token stop) override;
  absl::StatusOr<LeasedWork> LeaseWork(const std::string& member_id,
                                       absl::Duration wait,
                                       std::stop_token stop) override;
  absl::Status CompleteWork(const std::string& member_id, const WorkUnit& unit,
                            const UnitOutcomes& outcomes,
                            std::stop_token stop) override;
  absl::Status ReturnWork(const std::string& member_id, const WorkUnit& unit,
                          const std::string& reason, bool draining,
                          std::stop_token stop) override;
  // DATA_LOSS for whatever an Assembler refuses, and for a memory file with
  // another digest. A memory file that cannot be used is no error: the weights
  // then come in chunks, and the first time the reason is logged.
  absl::StatusOr<FetchedWeights> GetWeights(PolicyVersion min_version,
                                            int64_t max_bytes,
                                            std::stop_token stop) override;
  absl::Status SubmitRollouts(const std::vector<JudgedRollout>& batch,
                              std::stop_token stop) override;
  absl::StatusOr<std::map<std::string, Verdicts>> Score(
      const WorkUnit& unit, const std::vector<ScoreItem>& items,
      std::stop_token stop) override;

 private:
  // One call of GetWeights. FAILED_PRECONDITION: the memory file that was
  // offered cannot be used.
  absl::StatusOr<FetchedWeights> Fetch(const v1::GetWeightsRequest& request,
                                       int64_t max_bytes, std::stop_token stop);
  void TellOnce(const absl::Status& why);
  absl::Status Complete(const v1::CompleteWorkRequest& request,
                        std::stop_token stop);

  const MeshPeersOptions options_;
  std::optional<weights::HostGuard> guard_;  // Nothing: chunks only.
  weights::MemoryMaps maps_;
  std::atomic<bool> told_ = false;
  const std::unique_ptr<v1::OrchestratorService::Stub> orchestrator_;
  const std::unique_ptr<v1::PolicyLearnerService::Stub> learner_;
  const std::unique_ptr<v1::RewardService::Stub> reward_;
};

}  // namespace mpo::rollout_actor
