// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "absl/status/statusor.h"
#include "mpo/types/prompt.h"
#include "mpo/types/rollout.h"
#include "mpo/types/verdict.h"
#include "mpo/v1/orchestrator_service.pb.h"
#include "mpo/v1/policy_learner_service.pb.h"
#include "mpo/v1/reward_service.pb.h"
#include "mpo/weights/manifest.h"
#include "services/rollout_actor/peers.h"

namespace mpo::rollout_actor {

// Between mpo.v1 messages and plain types. Reading gives INTERNAL, naming the
// unit or sample, when a peer sent an enum or outcome that is not set: a
// message that another try may mend.
absl::StatusOr<WorkUnit> UnitOf(const v1::WorkUnit& from);
absl::StatusOr<Verdict> VerdictOf(const v1::Verdict& from,
                                  const std::string& sample_key);
Prompt PromptOf(const v1::Prompt& from);
SamplingOptions SamplingOf(const v1::SamplingOptions& from);
weights::Manifest ManifestOf(const v1::WeightsManifest& from);

v1::Prompt ToProto(const Prompt& from);
v1::FinishReason ToProto(FinishReason from);
v1::Verdict ToProto(const Verdict& from);
v1::Rollout ToProto(const Rollout& from);
v1::SampleOutcome ToProto(const SampleOutcome& from);

}  // namespace mpo::rollout_actor
