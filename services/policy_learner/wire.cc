// SPDX-License-Identifier: Apache-2.0
#include "services/policy_learner/wire.h"

#include <optional>

#include "absl/strings/str_cat.h"
#include "mpo/base/status_macros.h"

namespace mpo::policy_learner {
namespace {

std::optional<FinishReason> ToFinishReason(v1::FinishReason reason) {
  switch (reason) {
    case v1::FINISH_REASON_STOP:
      return FinishReason::kStop;
    case v1::FINISH_REASON_LENGTH:
      return FinishReason::kLength;
    case v1::FINISH_REASON_CANCELLED:
      return FinishReason::kCancelled;
    case v1::FINISH_REASON_FAILED:
      return FinishReason::kFailed;
    default:
      return std::nullopt;
  }
}

// The learner reads no more of a verdict than whether there is a reward.
absl::StatusOr<Verdict> ToVerdict(const v1::Verdict& from,
                                  const std::string& key) {
  Verdict verdict;
  verdict.rubric_sha256 = from.rubric_sha256();
  verdict.judge = from.judge();
  switch (from.outcome_case()) {
    case v1::Verdict::kScored:
      verdict.scored = true;
      verdict.raw = from.scored().raw();
      verdict.maximum = from.scored().maximum();
      verdict.reward = from.scored().reward();
      return verdict;
    case v1::Verdict::kUnscorable:
      verdict.detail = from.unscorable().detail();
      return verdict;
    case v1::Verdict::OUTCOME_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "rollout '", key, "', verdict: neither scored nor unscorable"));
}

}  // namespace

absl::StatusOr<TrainingSample> SampleFromProto(
    const v1::SubmitRolloutsRequest& request) {
  const v1::Rollout& from = request.rollout();
  const std::string& key = from.sample_key();
  TrainingSample sample;
  Rollout& to = sample.rollout;
  const auto finish = ToFinishReason(from.finish_reason());
  if (!finish.has_value()) {
    return absl::InvalidArgumentError(
        absl::StrCat("rollout '", key, "', finish_reason: unknown value ",
                     static_cast<int>(from.finish_reason())));
  }
  MPO_ASSIGN_OR_RETURN(sample.verdict, ToVerdict(request.verdict(), key));
  to.sample_key = key;
  to.step = from.step();
  to.group = from.group();
  to.prompt_tokens.assign(from.prompt_tokens().begin(),
                          from.prompt_tokens().end());
  to.response_tokens.assign(from.response_tokens().begin(),
                            from.response_tokens().end());
  to.logprobs.assign(from.logprobs().begin(), from.logprobs().end());
  for (const v1::TokenSpan& span : from.spans()) {
    to.spans.push_back({span.begin(), span.end(), span.policy_version()});
  }
  to.finish_reason = *finish;
  to.temperature = from.temperature();
  to.text = from.text();
  return sample;
}

absl::StatusOr<TrainingSample> SampleFromBytes(const std::string& bytes) {
  v1::SubmitRolloutsRequest request;
  if (!request.ParseFromString(bytes)) {
    return absl::DataLossError("a spooled rollout does not parse");
  }
  return SampleFromProto(request);
}

v1::WeightsManifest ManifestToProto(const weights::Manifest& manifest) {
  v1::WeightsManifest to;
  to.set_version(manifest.version);
  to.set_kind(manifest.kind);
  to.set_adapter_config(manifest.adapter_config);
  to.set_total_bytes(manifest.total_bytes);
  for (const weights::TensorEntry& entry : manifest.tensors) {
    v1::WeightsManifest::Tensor& tensor = *to.add_tensors();
    tensor.set_name(entry.name);
    tensor.set_dtype(entry.dtype);
    for (int64_t size : entry.shape) tensor.add_shape(size);
    tensor.set_bytes(entry.bytes);
    tensor.set_sha256(entry.sha256);
  }
  return to;
}

v1::GetWeightsResponse ChunkToProto(const weights::Chunk& chunk) {
  v1::GetWeightsResponse response;
  v1::GetWeightsResponse::Chunk& to = *response.mutable_chunk();
  to.set_tensor(chunk.tensor);
  to.set_offset(chunk.offset);
  to.set_data(chunk.data.data(), chunk.data.size());
  to.set_crc32c(chunk.crc32c);
  return response;
}

}  // namespace mpo::policy_learner
