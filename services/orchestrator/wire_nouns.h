// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <google/protobuf/duration.pb.h>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "mpo/types/prompt.h"
#include "mpo/types/rollout.h"
#include "mpo/types/rubric.h"
#include "mpo/types/verdict.h"
#include "mpo/v1/types.pb.h"

namespace mpo::orchestrator {

// The nouns of mpo/v1/types.proto that this service sends and receives.
google::protobuf::Duration ToProto(absl::Duration duration);
v1::Prompt ToProto(const Prompt& prompt);
v1::Sample ToProto(const Sample& sample);
v1::WorkUnit ToProto(const WorkUnit& unit);
v1::BaseStatistics ToProto(const BaseStatistics& base);
v1::FinishReason ToProto(FinishReason reason);
v1::Verdict ToProto(const Verdict& verdict);
v1::Rubric ToProto(const Rubric& rubric);

// INVALID_ARGUMENT: an enum is unspecified or unknown, or a verdict is neither
// scored nor unscorable; the message names the field.
absl::StatusOr<FinishReason> FromProto(v1::FinishReason reason);
absl::StatusOr<Verdict> FromProto(const v1::Verdict& proto);
absl::StatusOr<Rubric> FromProto(const v1::Rubric& proto);
BaseStatistics FromProto(const v1::BaseStatistics& proto);

}  // namespace mpo::orchestrator
