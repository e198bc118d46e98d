// SPDX-License-Identifier: Apache-2.0
#include "services/orchestrator/wire.h"

#include "absl/strings/str_cat.h"
#include "mpo/base/status_macros.h"

namespace mpo::orchestrator {
namespace {

double SecondsOf(const google::protobuf::Duration& duration) {
  return static_cast<double>(duration.seconds()) +
         static_cast<double>(duration.nanos()) * 1e-9;
}

absl::StatusOr<Outcome> OutcomeOf(const v1::SampleOutcome& proto) {
  Outcome outcome;
  outcome.sample_key = proto.sample_key();
  outcome.text = proto.text();
  outcome.response_tokens = proto.response_tokens();
  MPO_ASSIGN_OR_RETURN(outcome.finish_reason, FromProto(proto.finish_reason()));
  outcome.policy_version = proto.policy_version();
  MPO_ASSIGN_OR_RETURN(outcome.verdict, FromProto(proto.verdict()));
  if (proto.has_monitor()) {
    MPO_ASSIGN_OR_RETURN(outcome.monitor, FromProto(proto.monitor()));
  }
  if (proto.has_base()) outcome.base = FromProto(proto.base());
  return outcome;
}

v1::SampleOutcome OutcomeToProto(const Outcome& outcome) {
  v1::SampleOutcome proto;
  proto.set_sample_key(outcome.sample_key);
  proto.set_text(outcome.text);
  proto.set_response_tokens(static_cast<int32_t>(outcome.response_tokens));
  proto.set_finish_reason(ToProto(outcome.finish_reason));
  proto.set_policy_version(outcome.policy_version);
  *proto.mutable_verdict() = ToProto(outcome.verdict);
  if (outcome.monitor) {
    *proto.mutable_monitor() = ToProto(*outcome.monitor);
  }
  if (outcome.base) *proto.mutable_base() = ToProto(*outcome.base);
  return proto;
}

v1::RunPhase PhaseProto(Phase phase) {
  switch (phase) {
    case Phase::kGenerating:
      return v1::RUN_PHASE_GENERATING;
    case Phase::kTraining:
      return v1::RUN_PHASE_TRAINING;
    case Phase::kRefining:
      return v1::RUN_PHASE_REFINING;
    case Phase::kPaused:
      return v1::RUN_PHASE_PAUSED;
    case Phase::kFinished:
      return v1::RUN_PHASE_FINISHED;
  }
  return v1::RUN_PHASE_UNSPECIFIED;
}

// "planned" for a sample whose unit is ready again: what callers ask is
// whether somebody holds it.
const char* SampleStateOf(const SampleRecord& sample) {
  if (sample.result) return "complete";
  return sample.unit_state == UnitState::kLeased ? "leased" : "planned";
}

}  // namespace

absl::StatusOr<MemberRecord> MemberOf(const v1::RegisterRequest& request) {
  MemberRecord member;
  switch (request.role()) {
    case v1::ROLE_POLICY_LEARNER:
      member.role = "policy_learner";
      break;
    case v1::ROLE_ROLLOUT_ACTOR:
      member.role = "rollout_actor";
      break;
    case v1::ROLE_REWARD_SERVER:
      member.role = "reward_server";
      break;
    case v1::ROLE_META_REWARD_SERVER:
      member.role = "meta_reward_server";
      break;
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("role: expected one of the mesh, got ", request.role()));
  }
  member.name = request.name();
  member.incarnation = request.incarnation();
  member.address = request.address();
  return member;
}

absl::StatusOr<Completion> CompletionOf(
    const v1::CompleteWorkRequest& request) {
  Completion completion;
  completion.member_id = request.member_id();
  completion.unit_id = request.unit_id();
  completion.lease_epoch = request.lease_epoch();
  switch (request.result_case()) {
    case v1::CompleteWorkRequest::kFailure:
      completion.failure = request.failure().detail();
      completion.draining = request.failure().draining();
      return completion;
    case v1::CompleteWorkRequest::kSuccess:
      break;
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("unit ", request.unit_id(),
                       ": expected success or failure, got "
                       "neither"));
  }
  const v1::CompleteWorkRequest::Success& success = request.success();
  for (const v1::SampleOutcome& proto : success.outcomes()) {
    absl::StatusOr<Outcome> outcome = OutcomeOf(proto);
    if (!outcome.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "sample ", proto.sample_key(), ": ", outcome.status().message()));
    }
    completion.outcomes.push_back(*std::move(outcome));
  }
  completion.generation_seconds = SecondsOf(success.generation());
  completion.judging_seconds = SecondsOf(success.judging());
  return completion;
}

StepCommit CommitOf(const v1::CommitStepRequest& request) {
  return {.step = request.step(),
          .weights_sha256 = request.weights_sha256(),
          .metrics = {request.metrics().begin(), request.metrics().end()},
          .seconds = {request.seconds().begin(), request.seconds().end()}};
}

v1::LeaseWorkResponse LeaseResponseOf(const LeaseReply& reply) {
  v1::LeaseWorkResponse response;
  if (reply.unit) {
    *response.mutable_unit() = ToProto(*reply.unit);
    *response.mutable_lease() = ToProto(reply.lease);
  }
  response.set_finished(reply.finished);
  return response;
}

v1::AssignBatchResponse BatchResponseOf(const BatchReply& reply) {
  v1::AssignBatchResponse response;
  if (reply.batch) {
    v1::AssignBatchResponse::Batch& batch = *response.mutable_batch();
    batch.set_step(reply.batch->step);
    batch.mutable_sample_keys()->Assign(reply.batch->sample_keys.begin(),
                                        reply.batch->sample_keys.end());
    batch.set_rubric_sha256(reply.batch->rubric_sha256);
  }
  response.set_finished(reply.finished);
  return response;
}

v1::WatchRunResponse WatchResponseOf(const RunStatus& status) {
  v1::WatchRunResponse response;
  response.set_run_id(status.run_id);
  response.set_phase(PhaseProto(status.phase));
  response.set_step(status.step);
  response.set_total_steps(status.total_steps);
  // Weights are published before their step is committed.
  response.set_policy_version(status.step);
  response.set_rubric_sha256(status.rubric_sha256);
  response.set_rubric_version(status.rubric_version);
  response.mutable_metrics()->insert(status.metrics.begin(),
                                     status.metrics.end());
  response.set_samples_done(static_cast<int32_t>(status.samples_done));
  response.set_samples_planned(static_cast<int32_t>(status.samples_planned));
  response.set_reason(status.reason);
  return response;
}

v1::ListStepsResponse::Step StepOf(const StepRecord& step) {
  v1::ListStepsResponse::Step proto;
  proto.set_step(step.step);
  proto.set_state(Name(step.state));
  proto.set_rubric_sha256(step.rubric_sha256);
  proto.set_rubric_version(step.rubric_version);
  proto.set_weights_sha256(step.weights_sha256);
  proto.mutable_metrics()->insert(step.metrics.begin(), step.metrics.end());
  proto.mutable_seconds()->insert(step.seconds.begin(), step.seconds.end());
  if (step.state == StepState::kCommitted && step.step > 0) {
    proto.mutable_committed()->set_seconds(absl::ToUnixSeconds(step.committed));
    proto.mutable_committed()->set_nanos(static_cast<int32_t>(
        absl::ToUnixMillis(step.committed) % 1000 * 1000000));
  }
  return proto;
}

v1::ListSamplesResponse::Entry SampleEntryOf(const SampleRecord& sample) {
  v1::ListSamplesResponse::Entry entry;
  *entry.mutable_sample() = ToProto(sample.sample);
  entry.set_state(SampleStateOf(sample));
  if (sample.result) {
    *entry.mutable_outcome() = OutcomeToProto(sample.result->outcome);
    if (sample.result->gold) entry.set_gold(*sample.result->gold);
  }
  entry.set_used_in_step(sample.used_in_step.value_or(0));
  entry.set_attempts(static_cast<int32_t>(sample.attempts));
  return entry;
}

v1::ListRubricsResponse::Version RubricVersionOf(const RubricRecord& rubric) {
  v1::ListRubricsResponse::Version version;
  version.set_version(rubric.version.value_or(-1));
  version.set_rubric_sha256(rubric.sha256);
  version.set_parent_sha256(rubric.parent);
  version.set_state(Name(rubric.state));
  version.set_first_step(rubric.first_step);
  version.mutable_reasons()->Assign(rubric.reasons.begin(),
                                    rubric.reasons.end());
  version.set_origin(rubric.origin);
  return version;
}

}  // namespace mpo::orchestrator
