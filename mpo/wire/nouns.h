// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <google/protobuf/duration.pb.h>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "mpo/types/prompt.h"
#include "mpo/types/rollout.h"
#include "mpo/types/rubric.h"
#include "mpo/types/trunk.h"
#include "mpo/types/verdict.h"
#include "mpo/v1/types.pb.h"

namespace mpo::wire {

// The nouns of mpo/v1/types.proto from and to the plain types of mpo/types.
// Pure functions. Messages of one service's calls are converted by that
// service's own wire.h, which builds on these.

google::protobuf::Duration ToProto(absl::Duration duration);
v1::Prompt ToProto(const Prompt& prompt);
v1::Sample ToProto(const Sample& sample);
// Temperature, top_k, top_p and max_new_tokens: what a run can configure. The
// options that only `mpo generate` and `mpo serve` have stay behind.
v1::SamplingOptions ToProto(const SamplingOptions& sampling);
v1::WorkKind ToProto(WorkKind kind);
v1::WorkUnit ToProto(const WorkUnit& unit);
v1::BaseStatistics ToProto(const BaseStatistics& base);
v1::FinishReason ToProto(FinishReason reason);
v1::Rollout ToProto(const Rollout& rollout);
v1::Trunk ToProto(const Trunk& trunk);
v1::Verdict ToProto(const Verdict& verdict);
v1::Rubric ToProto(const Rubric& rubric);

Prompt FromProto(const v1::Prompt& proto);
Sample FromProto(const v1::Sample& proto);
SamplingOptions FromProto(const v1::SamplingOptions& proto);
BaseStatistics FromProto(const v1::BaseStatistics& proto);

// INVALID_ARGUMENT, naming the field: an enum is unspecified or unknown, or a
// verdict is neither scored nor unscorable.
absl::StatusOr<WorkKind> FromProto(v1::WorkKind kind);
absl::StatusOr<WorkUnit> FromProto(const v1::WorkUnit& proto);
absl::StatusOr<FinishReason> FromProto(v1::FinishReason reason);
absl::StatusOr<Rollout> FromProto(const v1::Rollout& proto);
// Its bytes are not whole numbers.
absl::StatusOr<Trunk> FromProto(const v1::Trunk& proto);
absl::StatusOr<Verdict> FromProto(const v1::Verdict& proto);
absl::StatusOr<Rubric> FromProto(const v1::Rubric& proto);

}  // namespace mpo::wire
