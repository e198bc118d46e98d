// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "absl/status/statusor.h"
#include "mpo/v1/orchestrator_service.pb.h"
#include "mpo/wire/nouns.h"
#include "services/orchestrator/engine_types.h"
#include "services/orchestrator/record.h"

namespace mpo::orchestrator {

using wire::FromProto;
using wire::ToProto;

// mpo.v1 messages of this service from and to the engine's values. Reading
// gives INVALID_ARGUMENT naming the field that is missing or unspecified.
absl::StatusOr<MemberRecord> MemberOf(const v1::RegisterRequest& request);
absl::StatusOr<Completion> CompletionOf(const v1::CompleteWorkRequest& request);
StepCommit CommitOf(const v1::CommitStepRequest& request);

v1::LeaseWorkResponse LeaseResponseOf(const LeaseReply& reply);
v1::AssignBatchResponse BatchResponseOf(const BatchReply& reply);
v1::WatchRunResponse WatchResponseOf(const RunStatus& status);
v1::ListStepsResponse::Step StepOf(const StepRecord& step);
v1::ListSamplesResponse::Entry SampleEntryOf(const SampleRecord& sample);
v1::ListRubricsResponse::Version RubricVersionOf(const RubricRecord& rubric);

}  // namespace mpo::orchestrator
