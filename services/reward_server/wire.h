// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "absl/status/statusor.h"
#include "mpo/judge/judge.h"
#include "mpo/types/rubric.h"
#include "mpo/types/verdict.h"
#include "mpo/v1/reward_service.pb.h"

namespace mpo::reward_server {

v1::Verdict ToProto(const Verdict& verdict);
v1::Rubric ToProto(const Rubric& rubric);
judge::JudgeItem FromProto(const v1::ScoreRequest::Item& item);
// INVALID_ARGUMENT: an enum is unspecified or unknown; names the field.
absl::StatusOr<Rubric> FromProto(const v1::Rubric& rubric);

}  // namespace mpo::reward_server
