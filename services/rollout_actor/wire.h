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
#include "mpo/weights/memory_file.h"
#include "mpo/wire/nouns.h"
#include "services/rollout_actor/peers.h"

namespace mpo::rollout_actor {

using wire::FromProto;
using wire::ToProto;

// Between mpo.v1 messages and plain types. Reading gives INTERNAL, naming the
// unit or sample, when a peer sent an enum or outcome that is not set: a
// message that another try may mend.
absl::StatusOr<WorkUnit> UnitOf(const v1::WorkUnit& from);
absl::StatusOr<Verdict> VerdictOf(const v1::Verdict& from,
                                  const std::string& sample_key);
weights::Manifest ManifestOf(const v1::WeightsManifest& from);
weights::MemoryOffer OfferOf(const v1::WeightsManifest::MemoryFile& from);
v1::HostGuard ToProto(const weights::HostGuard& from);

v1::SampleOutcome ToProto(const SampleOutcome& from);

}  // namespace mpo::rollout_actor
