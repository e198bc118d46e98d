// SPDX-License-Identifier: Apache-2.0
#include "services/rollout_actor/mesh_peers.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "mpo/base/status_macros.h"
#include "mpo/logging/log.h"
#include "mpo/rpc/channel.h"
#include "mpo/tensor/threads.h"
#include "mpo/weights/assembler.h"
#include "mpo/weights/staging.h"
#include "services/rollout_actor/wire.h"

namespace mpo::rollout_actor {
namespace {

void SetDuration(absl::Duration from, google::protobuf::Duration& to) {
  to.set_seconds(absl::IDivDuration(from, absl::Seconds(1), &from));
  to.set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(from)));
}

// Whatever is wrong with weights that came, they are worth fetching again.
absl::Status AsDataLoss(const absl::Status& status) {
  return absl::DataLossError(std::string(status.message()));
}

// The version that lies in the memory file the manifest offers.
// FAILED_PRECONDITION: the file cannot be used.
absl::StatusOr<FetchedWeights> MapWeights(const v1::WeightsManifest& from,
                                          int64_t max_bytes,
                                          weights::MemoryMaps& maps) {
  weights::Manifest manifest = ManifestOf(from);
  if (const absl::Status valid = weights::ValidateManifest(manifest, max_bytes);
      !valid.ok()) {
    return AsDataLoss(valid);
  }
  MPO_ASSIGN_OR_RETURN(auto map, maps.Open(OfferOf(from.memory_file())));
  MPO_ASSIGN_OR_RETURN(
      auto tensors,
      weights::TensorsOf(std::move(map), manifest, tensor::Threads()));
  return FetchedWeights{std::move(manifest), std::move(tensors),
                        /*mapped=*/true};
}

// Reads one version off the stream; stops at the first thing that is wrong.
absl::StatusOr<FetchedWeights> ReadWeights(
    grpc::ClientReader<v1::GetWeightsResponse>& reader, int64_t max_bytes,
    weights::MemoryMaps& maps) {
  v1::GetWeightsResponse part;
  if (!reader.Read(&part)) {
    return absl::UnavailableError("the stream of weights ended at once");
  }
  if (!part.has_manifest()) {
    return absl::DataLossError("weights began without a manifest");
  }
  if (part.manifest().has_memory_file()) {
    return MapWeights(part.manifest(), max_bytes, maps);
  }
  auto assembler =
      weights::Assembler::Create(ManifestOf(part.manifest()), max_bytes);
  if (!assembler.ok()) return AsDataLoss(assembler.status());
  while (reader.Read(&part)) {
    if (part.has_chunk()) {
      const auto& chunk = part.chunk();
      const absl::Status added = assembler->Add(
          {chunk.tensor(), chunk.offset(), chunk.data(), chunk.crc32c()});
      if (!added.ok()) return AsDataLoss(added);
      continue;
    }
    if (!part.has_commit()) {
      return absl::DataLossError("weights hold a part that is not set");
    }
    auto tensors =
        assembler->Commit(part.commit().version(), part.commit().chunks());
    if (!tensors.ok()) return AsDataLoss(tensors.status());
    return FetchedWeights{assembler->manifest(), *std::move(tensors)};
  }
  return absl::UnavailableError(
      absl::StrCat("version ", assembler->manifest().version,
                   ": the stream ended before the commit"));
}

absl::Status AddVerdicts(const v1::ScoreResponse& response, bool monitor,
                         std::map<std::string, Verdicts>& verdicts) {
  const std::string& key = response.sample_key();
  Verdicts both;
  MPO_ASSIGN_OR_RETURN(both.verdict, VerdictOf(response.verdict(), key));
  if (response.has_monitor() != monitor) {
    return absl::InternalError(
        absl::StrCat("sample ", key, ": a monitor verdict ",
                     monitor ? "is missing" : "was not asked for"));
  }
  if (monitor) {
    MPO_ASSIGN_OR_RETURN(both.monitor, VerdictOf(response.monitor(), key));
  }
  if (!verdicts.emplace(key, std::move(both)).second) {
    return absl::InternalError(
        absl::StrCat("sample ", key, ": two verdicts came"));
  }
  return absl::OkStatus();
}

}  // namespace

MeshPeers::MeshPeers(MeshPeersOptions options)
    : options_(std::move(options)),
      orchestrator_(v1::OrchestratorService::NewStub(
          rpc::MakeChannel(options_.orchestrator))),
      learner_(v1::PolicyLearnerService::NewStub(
          rpc::MakeChannel(options_.policy_learner))),
      reward_(v1::RewardService::NewStub(
          rpc::MakeChannel(options_.reward_server))) {
  if (!options_.shared_memory) return;
  auto guard = weights::OwnHostGuard();
  if (guard.ok()) {
    guard_ = *std::move(guard);
  } else {
    TellOnce(guard.status());
  }
}

absl::StatusOr<Membership> MeshPeers::Register(std::stop_token stop) {
  v1::RegisterRequest request;
  request.set_role(v1::ROLE_ROLLOUT_ACTOR);
  request.set_name(options_.name);
  request.set_incarnation(options_.incarnation);
  request.set_address(options_.address);
  request.set_config_sha256(options_.config_sha256);
  v1::RegisterResponse response;
  MPO_RETURN_IF_ERROR(
      rpc::Call({options_.short_call, stop}, [&](grpc::ClientContext& context) {
        return orchestrator_->Register(&context, request, &response);
      }));
  if (response.member_id().empty()) {
    return absl::InternalError("the orchestrator gave no member id");
  }
  return Membership{response.member_id(),
                    absl::Seconds(response.ttl().seconds()) +
                        absl::Nanoseconds(response.ttl().nanos())};
}

absl::StatusOr<std::vector<std::string>> MeshPeers::Heartbeat(
    const std::string& member_id, const std::vector<std::string>& unit_ids,
    PolicyVersion version, std::stop_token stop) {
  v1::HeartbeatRequest request;
  request.set_member_id(member_id);
  for (const std::string& id : unit_ids) request.add_unit_ids(id);
  request.set_policy_version(version);
  v1::HeartbeatResponse response;
  MPO_RETURN_IF_ERROR(
      rpc::Call({options_.short_call, stop}, [&](grpc::ClientContext& context) {
        return orchestrator_->Heartbeat(&context, request, &response);
      }));
  return std::vector<std::string>(response.lost_unit_ids().begin(),
                                  response.lost_unit_ids().end());
}

absl::StatusOr<LeasedWork> MeshPeers::LeaseWork(const std::string& member_id,
                                                absl::Duration wait,
                                                std::stop_token stop) {
  v1::LeaseWorkRequest request;
  request.set_member_id(member_id);
  SetDuration(wait, *request.mutable_wait());
  v1::LeaseWorkResponse response;
  MPO_RETURN_IF_ERROR(rpc::Call(
      {wait + options_.short_call, stop}, [&](grpc::ClientContext& context) {
        return orchestrator_->LeaseWork(&context, request, &response);
      }));
  LeasedWork work;
  work.finished = response.finished();
  if (response.has_unit()) {
    MPO_ASSIGN_OR_RETURN(work.unit, UnitOf(response.unit()));
  }
  return work;
}

absl::Status MeshPeers::Complete(const v1::CompleteWorkRequest& request,
                                 std::stop_token stop) {
  v1::CompleteWorkResponse response;
  return rpc::Call(
      {options_.short_call, stop}, [&](grpc::ClientContext& context) {
        return orchestrator_->CompleteWork(&context, request, &response);
      });
}

absl::Status MeshPeers::CompleteWork(const std::string& member_id,
                                     const WorkUnit& unit,
                                     const UnitOutcomes& outcomes,
                                     std::stop_token stop) {
  v1::CompleteWorkRequest request;
  request.set_member_id(member_id);
  request.set_unit_id(unit.id);
  request.set_lease_epoch(unit.lease_epoch);
  v1::CompleteWorkRequest::Success& success = *request.mutable_success();
  for (const SampleOutcome& outcome : outcomes.samples) {
    *success.add_outcomes() = ToProto(outcome);
  }
  SetDuration(outcomes.generation, *success.mutable_generation());
  SetDuration(outcomes.judging, *success.mutable_judging());
  return Complete(request, stop);
}

absl::Status MeshPeers::ReturnWork(const std::string& member_id,
                                   const WorkUnit& unit,
                                   const std::string& reason, bool draining,
                                   std::stop_token stop) {
  v1::CompleteWorkRequest request;
  request.set_member_id(member_id);
  request.set_unit_id(unit.id);
  request.set_lease_epoch(unit.lease_epoch);
  request.mutable_failure()->set_detail(reason);
  request.mutable_failure()->set_draining(draining);
  return Complete(request, stop);
}

absl::StatusOr<FetchedWeights> MeshPeers::GetWeights(PolicyVersion min_version,
                                                     int64_t max_bytes,
                                                     std::stop_token stop) {
  v1::GetWeightsRequest request;
  request.set_min_version(min_version);
  if (!guard_.has_value()) return Fetch(request, max_bytes, stop);
  *request.mutable_reader() = ToProto(*guard_);
  auto fetched = Fetch(request, max_bytes, stop);
  if (fetched.ok() && !fetched->mapped) {
    TellOnce(absl::FailedPreconditionError(
        "the learner offers no memory file to this host and namespace"));
  }
  if (!absl::IsFailedPrecondition(fetched.status())) return fetched;
  TellOnce(fetched.status());
  request.clear_reader();
  return Fetch(request, max_bytes, stop);
}

void MeshPeers::TellOnce(const absl::Status& why) {
  if (told_.exchange(true)) return;
  logging::Info("weights come over the network, not from shared memory",
                {{"reason", why}});
}

absl::StatusOr<FetchedWeights> MeshPeers::Fetch(
    const v1::GetWeightsRequest& request, int64_t max_bytes,
    std::stop_token stop) {
  absl::StatusOr<FetchedWeights> fetched = absl::UnavailableError("not asked");
  const absl::Status status =
      rpc::Call({options_.weights, stop}, [&](grpc::ClientContext& context) {
        const auto reader = learner_->GetWeights(&context, request);
        fetched = ReadWeights(*reader, max_bytes, maps_);
        // What is refused is not read to its end.
        if (absl::IsDataLoss(fetched.status())) context.TryCancel();
        v1::GetWeightsResponse rest;
        while (reader->Read(&rest)) {
        }
        return reader->Finish();
      });
  if (stop.stop_requested()) return absl::CancelledError("stopped");
  if (fetched.ok() || absl::IsDataLoss(fetched.status()) ||
      absl::IsFailedPrecondition(fetched.status()) || status.ok()) {
    return fetched;
  }
  return status;
}

absl::Status MeshPeers::SubmitRollouts(const std::vector<JudgedRollout>& batch,
                                       std::stop_token stop) {
  v1::SubmitRolloutsResponse response;
  MPO_RETURN_IF_ERROR(
      rpc::Call({options_.submit, stop}, [&](grpc::ClientContext& context) {
        const auto writer = learner_->SubmitRollouts(&context, &response);
        for (const JudgedRollout& one : batch) {
          v1::SubmitRolloutsRequest request;
          *request.mutable_rollout() = ToProto(one.rollout);
          *request.mutable_verdict() = ToProto(one.verdict);
          if (one.trunk != nullptr) {
            *request.mutable_trunk() = ToProto(*one.trunk);
          }
          if (!writer->Write(request)) break;  // Finish says why.
        }
        writer->WritesDone();
        return writer->Finish();
      }));
  const auto taken =
      static_cast<size_t>(response.accepted() + response.duplicates());
  if (taken == batch.size()) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("the learner took ", taken, " of ",
                                          batch.size(), " rollouts"));
}

absl::StatusOr<std::map<std::string, Verdicts>> MeshPeers::Score(
    const WorkUnit& unit, const std::vector<ScoreItem>& items,
    std::stop_token stop) {
  v1::ScoreRequest request;
  request.set_rubric_sha256(unit.rubric_sha256);
  request.set_monitor_rubric_sha256(unit.monitor_rubric_sha256);
  for (const ScoreItem& item : items) {
    v1::ScoreRequest::Item& to = *request.add_items();
    to.set_sample_key(item.sample_key);
    *to.mutable_prompt() = ToProto(item.prompt);
    to.set_response(item.response);
    if (item.base_mean_logprob) {
      to.set_base_mean_logprob(*item.base_mean_logprob);
    }
  }
  std::map<std::string, Verdicts> verdicts;
  absl::Status wrong;
  MPO_RETURN_IF_ERROR(
      rpc::Call({options_.score, stop}, [&](grpc::ClientContext& context) {
        const auto reader = reward_->Score(&context, request);
        v1::ScoreResponse response;
        while (reader->Read(&response)) {
          wrong.Update(AddVerdicts(
              response, !unit.monitor_rubric_sha256.empty(), verdicts));
        }
        return reader->Finish();
      }));
  MPO_RETURN_IF_ERROR(wrong);
  for (const ScoreItem& item : items) {
    if (!verdicts.contains(item.sample_key)) {
      return absl::InternalError(absl::StrCat(
          "unit ", unit.id, ": ", verdicts.size(), " verdicts for ",
          items.size(), " items; sample ", item.sample_key, " has none"));
    }
  }
  if (verdicts.size() != items.size()) {
    return absl::InternalError(absl::StrCat("unit ", unit.id, ": ",
                                            verdicts.size(), " verdicts for ",
                                            items.size(), " items"));
  }
  return verdicts;
}

}  // namespace mpo::rollout_actor
