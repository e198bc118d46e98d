// SPDX-License-Identifier: Apache-2.0
#include "services/policy_learner/toy_task.h"

#include <torch/torch.h>

#include <algorithm>

#include "mpo/model/decoder.h"
#include "mpo/tensor/counter_random.h"
#include "mpo/wire/nouns.h"

namespace mpo::policy_learner {
namespace {

constexpr double kTemperature = 0.8;
constexpr int kEnd = 0;

}  // namespace

std::shared_ptr<const model::LanguageModel> ToyTask::Model() {
  model::ModelConfig config;
  config.vocab_size = kVocabulary;
  config.hidden_size = 32;
  config.intermediate_size = 64;
  config.layers = 2;
  config.heads = 2;
  config.kv_heads = 1;
  config.head_dim = 16;
  config.context = 64;
  config.initializer_range = 0.3;
  config.tie_embeddings = true;
  config.eos_tokens = {kEnd};
  return *model::LanguageModel::Random(config, /*seed=*/3);
}

TrainerOptions ToyTask::Options() {
  TrainerOptions options;
  options.algorithm = Algorithm::kRloo;
  options.learning_rate = 2e-2;
  options.lr_schedule = LrSchedule::kConstant;
  options.epochs = 1;
  options.kl_coef = 0.01;
  options.kl_estimator = rl::KlEstimator::kK3;
  options.kl_in = KlPlace::kLoss;
  options.max_grad_norm = 1;
  options.whitening_epsilon = 0.1;
  options.lora = model::LoraConfig{.rank = 4, .alpha = 8, .layers = 0};
  return options;
}

std::vector<TrainingSample> ToyTask::Sample(const PolicyModel& policy,
                                            int64_t step, uint64_t seed) {
  at::NoGradGuard no_grad;
  std::vector<TrainingSample> samples;
  std::vector<std::vector<int32_t>> sequences;
  for (int i = 0; i < kPrompts * kGroup; ++i) {
    const int prompt = i / kGroup;
    TrainingSample sample;
    Rollout& r = sample.rollout;
    r.sample_key = "key-" + std::to_string(step) + "-" + std::to_string(i);
    r.step = step;
    r.group = "prompt-" + std::to_string(prompt);
    for (int t = 0; t < 2 + prompt % 3; ++t) {
      r.prompt_tokens.push_back(1 + (prompt * 3 + t) % (kVocabulary - 1));
    }
    r.temperature = kTemperature;
    samples.push_back(sample);
    sequences.push_back(r.prompt_tokens);
  }
  for (int t = 0; t < kResponse; ++t) {
    const auto batch =
        *model::PadSequences(sequences, model::PaddingSide::kLeft);
    const at::Tensor logprobs =
        (model::Forward(policy.policy(), policy.adapter(), batch)
             .select(1, batch.tokens.size(1) - 1)
             .to(at::kFloat) /
         kTemperature)
            .log_softmax(1);
    const at::Tensor cumulative = logprobs.exp().cumsum(1).contiguous();
    for (size_t i = 0; i < samples.size(); ++i) {
      Rollout& r = samples[i].rollout;
      if (r.finish_reason == FinishReason::kStop) continue;
      const double u = tensor::CounterUniform(
          seed, (static_cast<uint64_t>(step) * samples.size() + i) * kResponse +
                    static_cast<uint64_t>(t));
      const float* row = cumulative.data_ptr<float>() + i * kVocabulary;
      const int token = static_cast<int>(std::min<int64_t>(
          std::upper_bound(row, row + kVocabulary, u) - row, kVocabulary - 1));
      r.response_tokens.push_back(token);
      r.logprobs.push_back(std::min(
          0.0F, logprobs[static_cast<int64_t>(i)][token].item<float>()));
      sequences[i].push_back(token);
      if (token == kEnd) r.finish_reason = FinishReason::kStop;
    }
  }
  for (TrainingSample& sample : samples) {
    const auto& tokens = sample.rollout.response_tokens;
    sample.rollout.spans = {{0, static_cast<int>(tokens.size()), step - 1}};
    sample.verdict.scored = true;
    sample.verdict.maximum = 1;
    sample.verdict.reward = sample.verdict.raw =
        static_cast<double>(std::count(tokens.begin(), tokens.end(), kTarget)) /
        kResponse;
  }
  return samples;
}

v1::SubmitRolloutsRequest ToProto(const TrainingSample& sample) {
  v1::SubmitRolloutsRequest request;
  *request.mutable_rollout() = wire::ToProto(sample.rollout);
  *request.mutable_verdict() = wire::ToProto(sample.verdict);
  return request;
}

}  // namespace mpo::policy_learner
