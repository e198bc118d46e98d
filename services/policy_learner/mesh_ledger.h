// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <stop_token>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "mpo/base/mutex.h"
#include "mpo/v1/orchestrator_service.grpc.pb.h"
#include "services/policy_learner/step_ledger.h"

namespace mpo::policy_learner {

// The orchestrator over gRPC. One thread registers the learner and keeps its
// membership alive; calls wait for an absent orchestrator until their
// deadline. Thread-safe.
class MeshLedger final : public StepLedger {
 public:
  struct Options {
    std::string orchestrator;  // host:port
    std::string name;          // "policy_learner"
    std::string incarnation;   // New at every start.
    std::string address;       // host:port of the learner's server.
    std::string config_sha256;
    std::function<int64_t()> policy_version;  // Reported by heartbeats.
    absl::Duration heartbeat = absl::Seconds(3);
    absl::Duration call = absl::Seconds(10);
  };

  explicit MeshLedger(Options options);
  ~MeshLedger() override;

  absl::StatusOr<StepAssignment> AssignBatch(int64_t step, absl::Duration wait,
                                             std::stop_token stop) override;
  absl::Status CommitStep(int64_t step, const std::string& weights_sha256,
                          const std::map<std::string, double>& metrics,
                          const std::map<std::string, double>& seconds,
                          std::stop_token stop) override;

  // FAILED_PRECONDITION once the orchestrator refused the learner's
  // configuration; OK otherwise.
  absl::Status refused() const ABSL_LOCKS_EXCLUDED(mu_);

 private:
  void KeepMembership(std::stop_token stop);
  // The member id; empty when the orchestrator is away.
  std::string Register(std::stop_token stop);

  const Options options_;
  const std::unique_ptr<v1::OrchestratorService::Stub> stub_;
  mutable Mutex mu_;
  CondVar stopped_;
  absl::Status refused_ ABSL_GUARDED_BY(mu_);
  std::jthread membership_;
};

}  // namespace mpo::policy_learner
