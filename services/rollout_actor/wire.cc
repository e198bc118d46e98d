// SPDX-License-Identifier: Apache-2.0
#include "services/rollout_actor/wire.h"

#include <string>

#include "absl/strings/str_cat.h"

namespace mpo::rollout_actor {

absl::StatusOr<WorkUnit> UnitOf(const v1::WorkUnit& from) {
  absl::StatusOr<WorkUnit> unit = FromProto(from);
  if (!unit.ok()) {
    return absl::InternalError(absl::StrCat(
        "unit ", from.id(), ": ", std::string(unit.status().message())));
  }
  if (unit->id.empty() || unit->samples.empty() || !from.has_sampling()) {
    return absl::InternalError(absl::StrCat(
        "unit \"", unit->id, "\" lacks its id, samples or sampling"));
  }
  return unit;
}

absl::StatusOr<Verdict> VerdictOf(const v1::Verdict& from,
                                  const std::string& sample_key) {
  absl::StatusOr<Verdict> verdict = FromProto(from);
  if (verdict.ok()) return verdict;
  return absl::InternalError(absl::StrCat(
      "sample ", sample_key, ": ", std::string(verdict.status().message())));
}

weights::Manifest ManifestOf(const v1::WeightsManifest& from) {
  weights::Manifest manifest;
  manifest.version = from.version();
  manifest.kind = from.kind();
  manifest.adapter_config = from.adapter_config();
  manifest.total_bytes = from.total_bytes();
  for (const v1::WeightsManifest::Tensor& tensor : from.tensors()) {
    manifest.tensors.push_back({tensor.name(),
                                tensor.dtype(),
                                {tensor.shape().begin(), tensor.shape().end()},
                                tensor.bytes(),
                                tensor.sha256()});
  }
  return manifest;
}

weights::MemoryOffer OfferOf(const v1::WeightsManifest::MemoryFile& from) {
  return {from.path(),
          from.bytes(),
          from.inode(),
          from.edition(),
          {from.guard().boot_id(), from.guard().pid_namespace()}};
}

v1::HostGuard ToProto(const weights::HostGuard& from) {
  v1::HostGuard to;
  to.set_boot_id(from.boot_id);
  to.set_pid_namespace(from.pid_namespace);
  return to;
}

v1::SampleOutcome ToProto(const SampleOutcome& from) {
  v1::SampleOutcome outcome;
  outcome.set_sample_key(from.sample_key);
  outcome.set_text(from.text);
  outcome.set_response_tokens(from.response_tokens);
  outcome.set_finish_reason(ToProto(from.finish_reason));
  outcome.set_policy_version(from.policy_version);
  *outcome.mutable_verdict() = ToProto(from.verdict);
  if (from.monitor) *outcome.mutable_monitor() = ToProto(*from.monitor);
  if (from.base) *outcome.mutable_base() = ToProto(*from.base);
  return outcome;
}

}  // namespace mpo::rollout_actor
