// SPDX-License-Identifier: Apache-2.0
#include "services/policy_learner/policy_update.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "mpo/rl/policy_loss.h"
#include "mpo/rl/selective_logprob.h"
#include "mpo/tensor/counter_random.h"
#include "services/policy_learner/policy_trainer.h"

namespace mpo::policy_learner {

PolicyUpdate::PolicyUpdate(const TrainerOptions& options,
                           const PolicyModel& model, Optimiser& optimiser,
                           ValueHead& value_head, Clock& clock,
                           const std::function<void(const char*)>& on_phase)
    : options_(options),
      model_(model),
      optimiser_(optimiser),
      value_head_(value_head),
      clock_(clock),
      on_phase_(on_phase) {}

StepResult PolicyUpdate::Run(int64_t step,
                             const std::vector<TrainingSample>& samples) {
  const double factor = LearningRateFactor(options_, step);
  learning_rate_ = options_.learning_rate * factor;
  value_learning_rate_ = options_.value_learning_rate > 0
                             ? options_.value_learning_rate * factor
                             : learning_rate_;
  Enter("forward");
  batch_ = MakeTrainingBatch(samples, options_);
  bool finite = true;
  if (!batch_.active.empty()) {
    Prepare();
    for (int epoch = 0; finite && epoch < options_.epochs; ++epoch) {
      for (const std::vector<int64_t>& rows : Minibatches(step, epoch)) {
        if (!(finite = TrainMinibatch(rows, epoch == 0))) break;
      }
      old_known_ = true;
    }
    optimiser_.ZeroGrad();
  }
  return Finish(finite);
}

template <typename Visit>
void PolicyUpdate::ForEachSample(const MicroBatch& micro, Visit visit) const {
  for (size_t j = 0; j < micro.rows.size(); ++j) {
    int64_t offset = batch_.prompt_lengths[micro.rows[j].samples.front()];
    for (int64_t sample : micro.rows[j].samples) {
      visit(static_cast<int64_t>(j), sample, offset);
      offset += batch_.response_lengths[sample] - 1;
    }
  }
}

PolicyUpdate::MicroBatch PolicyUpdate::MakeMicroBatch(
    std::vector<PackedRow> rows) const {
  MicroBatch micro;
  micro.rows = std::move(rows);
  const auto count = static_cast<int64_t>(micro.rows.size());
  int64_t length = 0;
  bool shared = false;
  for (const PackedRow& row : micro.rows) {
    length = std::max(length, row.length);
    shared = shared || row.samples.size() > 1;
  }
  const at::Tensor tokens = torch::zeros({count, length}, torch::kLong);
  const at::Tensor positions = torch::zeros({count, length}, torch::kLong);
  // Which response a token belongs to: 0 prompt, then 1, 2, ...; -1 padding.
  const at::Tensor part = torch::full({count, length}, -1, torch::kLong);
  const int64_t columns = batch_.mask.size(1);
  std::vector<int64_t> hidden, token;
  int64_t responses = 0;
  ForEachSample(micro, [&](int64_t j, int64_t sample, int64_t offset) {
    const std::vector<int32_t>& input = batch_.inputs[sample];
    const int64_t prompt = batch_.prompt_lengths[sample];
    ++responses;
    for (int64_t t = 0; t < static_cast<int64_t>(input.size()); ++t) {
      const int64_t at = j * length + (t < prompt ? t : offset + t - prompt);
      tokens.data_ptr<int64_t>()[at] = input[t];
      positions.data_ptr<int64_t>()[at] = t;
      part.data_ptr<int64_t>()[at] = t < prompt ? 0 : responses;
    }
    for (int64_t t = 0; t < batch_.response_lengths[sample]; ++t) {
      hidden.push_back(j * length + (t == 0 ? prompt - 1 : offset + t - 1));
      token.push_back(sample * columns + t);
    }
  });
  micro.sequences.tokens = tokens;
  micro.sequences.positions = positions;
  micro.sequences.valid = part >= 0;
  if (shared) {
    const at::Tensor of_key = part.unsqueeze(1);
    const at::Tensor open =
        torch::ones({length, length}, torch::kBool)
            .tril()
            .logical_and((of_key == 0).logical_or(of_key == part.unsqueeze(2)));
    // Finite, as the decoder's own mask: no row may be without a key.
    micro.sequences.bias =
        torch::zeros({count, 1, length, length})
            .masked_fill_(open.logical_not().unsqueeze(1), -1e30);
  }
  micro.hidden_index = torch::tensor(hidden, torch::kLong);
  micro.token_index = torch::tensor(token, torch::kLong);
  return micro;
}

at::Tensor PolicyUpdate::Take(const at::Tensor& matrix,
                              const MicroBatch& micro) const {
  return matrix.flatten().index_select(0, micro.token_index);
}

void PolicyUpdate::Put(at::Tensor& matrix, const MicroBatch& micro,
                       const at::Tensor& values) const {
  matrix.view(-1).index_copy_(0, micro.token_index, values.detach());
}

at::Tensor PolicyUpdate::Trunk(const MicroBatch& micro, bool reference) {
  if (model_.adapter() == nullptr) {
    return model::Embed(reference ? model_.reference() : model_.policy(),
                        micro.sequences.tokens);
  }
  at::NoGradGuard no_grad;
  const model::LanguageModel& base = model_.reference();
  bool known = true;
  ForEachSample(micro, [&](int64_t, int64_t sample, int64_t) {
    known = known && trunk_[sample].prompt.defined();
  });
  at::Tensor out;
  if (known) {
    out = torch::zeros({static_cast<int64_t>(micro.rows.size()),
                        micro.sequences.tokens.size(1),
                        base.config().hidden_size});
  } else {
    out = model::ForwardLayers(base, nullptr,
                               model::Embed(base, micro.sequences.tokens),
                               micro.sequences, 0, model_.trunk_layers());
  }
  ForEachSample(micro, [&](int64_t row, int64_t sample, int64_t offset) {
    const at::Tensor prompt =
        out[row].narrow(0, 0, batch_.prompt_lengths[sample]);
    const at::Tensor response =
        out[row].narrow(0, offset, batch_.response_lengths[sample] - 1);
    if (known) {
      prompt.copy_(trunk_[sample].prompt);
      response.copy_(trunk_[sample].response);
    } else {
      trunk_[sample] = {prompt, response};
    }
  });
  return out;
}

at::Tensor PolicyUpdate::Hidden(const MicroBatch& micro, bool reference) {
  const model::LanguageModel& weights =
      reference ? model_.reference() : model_.policy();
  const at::Tensor out = model::ForwardLayers(
      weights, reference ? nullptr : model_.adapter(), Trunk(micro, reference),
      micro.sequences, model_.trunk_layers(), weights.config().layers);
  return model::FinalNorm(
      weights, out.flatten(0, 1).index_select(0, micro.hidden_index));
}

at::Tensor PolicyUpdate::PolicyHead() const {
  return model::HeadWeight(model_.policy(), model_.adapter());
}

void PolicyUpdate::Prepare() {
  at::NoGradGuard no_grad;
  const bool ppo = options_.algorithm == Algorithm::kPpo;
  // With one minibatch the first epoch's log-probs are the old ones, unless
  // the rewards need them before.
  const bool old_needed =
      options_.minibatches > 1 ||
      (options_.kl_in == KlPlace::kReward && options_.kl_coef != 0);
  trunk_.resize(batch_.inputs.size());
  temperatures_ = batch_.temperatures.unsqueeze(1).expand(batch_.mask.sizes());
  old_logprobs_ = torch::zeros_like(batch_.behaviour);
  reference_logprobs_ = torch::zeros_like(batch_.behaviour);
  values_ = torch::zeros_like(batch_.behaviour);
  entropy_ = torch::zeros_like(batch_.behaviour);
  for (auto& rows :
       PlanMicroBatches(batch_, batch_.active, options_.micro_batch_tokens)) {
    const MicroBatch micro = MakeMicroBatch(std::move(rows));
    const at::Tensor targets = Take(batch_.targets, micro);
    const at::Tensor temperatures = Take(temperatures_, micro);
    Put(reference_logprobs_, micro,
        rl::SelectiveLogprob(Hidden(micro, true), model_.reference().head(),
                             targets, temperatures)
            .logprobs);
    if (!old_needed && !ppo) continue;
    const at::Tensor hidden = Hidden(micro, false);
    if (ppo) Put(values_, micro, value_head_.Values(hidden));
    if (!old_needed) continue;
    Put(old_logprobs_, micro,
        rl::SelectiveLogprob(hidden, PolicyHead(), targets, temperatures)
            .logprobs);
  }
  old_known_ = old_needed;
  at::Tensor kl;
  if (old_needed) {
    kl = rl::EstimateKl(old_logprobs_, reference_logprobs_,
                        options_.kl_estimator, options_.kl_max_ratio);
  }
  advantages_ = ComputeAdvantages(options_, batch_, kl, values_);
}

std::vector<std::vector<int64_t>> PolicyUpdate::Minibatches(int64_t step,
                                                            int epoch) const {
  std::vector<int64_t> rows = batch_.active;
  const size_t count = std::min<size_t>(options_.minibatches, rows.size());
  if (count <= 1) return {rows};
  const uint64_t seed =
      tensor::CounterBits(options_.seed, static_cast<uint64_t>(step) * 1024 +
                                             static_cast<uint64_t>(epoch));
  for (size_t i = rows.size() - 1; i > 0; --i) {
    std::swap(rows[i], rows[tensor::CounterBits(seed, i) % (i + 1)]);
  }
  std::vector<std::vector<int64_t>> minibatches(count);
  for (size_t i = 0; i < rows.size(); ++i) {
    minibatches[i * count / rows.size()].push_back(rows[i]);
  }
  return minibatches;
}

bool PolicyUpdate::TrainMinibatch(const std::vector<int64_t>& rows,
                                  bool first_epoch) {
  const at::Tensor index = torch::tensor(rows, torch::kLong);
  const at::Tensor weights =
      torch::zeros_like(batch_.behaviour)
          .index_copy(0, index,
                      rl::LossWeights(batch_.mask.index_select(0, index),
                                      options_.loss_aggregation,
                                      options_.constant_length));
  const bool ppo = options_.algorithm == Algorithm::kPpo;
  std::vector<at::Tensor> hidden, tokens;
  optimiser_.ZeroGrad();
  double loss = 0;
  for (auto& micro_rows :
       PlanMicroBatches(batch_, rows, options_.micro_batch_tokens)) {
    const MicroBatch micro = MakeMicroBatch(std::move(micro_rows));
    at::Tensor out;
    loss += Accumulate(micro, weights, first_epoch, ppo ? &out : nullptr);
    if (ppo) hidden.push_back(out), tokens.push_back(micro.token_index);
    if (!std::isfinite(loss)) return false;
  }
  Enter("optimiser");
  const double norm = optimiser_.ClipGradients(options_.max_grad_norm);
  if (!std::isfinite(norm)) return false;
  if (ppo && !FitValues(hidden, tokens, weights)) return false;
  optimiser_.Step(learning_rate_);
  totals_.grad_norm += norm;
  ++totals_.steps;
  Enter("forward");
  return true;
}

double PolicyUpdate::Accumulate(const MicroBatch& micro,
                                const at::Tensor& weights, bool first_epoch,
                                at::Tensor* hidden_out) {
  Enter("forward");
  const at::Tensor hidden = Hidden(micro, false);
  if (hidden_out != nullptr) *hidden_out = hidden.detach();
  const rl::TokenStatistics token =
      rl::SelectiveLogprob(hidden, PolicyHead(), Take(batch_.targets, micro),
                           Take(temperatures_, micro),
                           {.entropy_gradient = options_.entropy_coef != 0});
  if (first_epoch) Put(entropy_, micro, token.entropy);
  if (!old_known_) Put(old_logprobs_, micro, token.logprobs);
  const at::Tensor old = Take(old_logprobs_, micro);
  const at::Tensor weight = Take(weights, micro);
  const rl::PolicyLoss policy = rl::ClippedPolicyLoss(
      token.logprobs - old, Take(advantages_.advantages, micro),
      {.low = options_.clip_low, .high = options_.clip_high});
  at::Tensor per_token = policy.loss;
  if (options_.truncated_importance > 0) {
    per_token =
        per_token * rl::ImportanceWeights(old - Take(batch_.behaviour, micro),
                                          options_.truncated_importance);
  }
  const at::Tensor policy_loss = (weight * per_token).sum();
  at::Tensor loss = policy_loss;
  if (options_.kl_in == KlPlace::kLoss && options_.kl_coef != 0) {
    const at::Tensor kl =
        rl::EstimateKl(token.logprobs, Take(reference_logprobs_, micro),
                       options_.kl_estimator, options_.kl_max_ratio);
    loss = loss + options_.kl_coef * (weight * kl).sum();
  }
  if (options_.entropy_coef != 0) {
    loss = loss - options_.entropy_coef * (weight * token.entropy).sum();
  }
  const double value = loss.item<double>();
  totals_.policy_loss += policy_loss.item<double>();
  // As a share of tokens whatever the aggregation.
  totals_.clipped +=
      policy.clipped.sum().item<double>() / (weights > 0).sum().item<double>();
  if (!std::isfinite(value)) return value;
  Enter("backward");
  loss.backward();
  return value;
}

bool PolicyUpdate::FitValues(const std::vector<at::Tensor>& hidden,
                             const std::vector<at::Tensor>& tokens,
                             const at::Tensor& weights) {
  const at::Tensor index = at::cat(tokens);
  const auto take = [&](const at::Tensor& matrix) {
    return matrix.flatten().index_select(0, index);
  };
  const double loss =
      value_head_.Fit(at::cat(hidden), take(values_), take(advantages_.returns),
                      take(weights), value_learning_rate_);
  totals_.value_loss += loss;
  return std::isfinite(loss);
}

void PolicyUpdate::Enter(const char* phase) {
  const absl::Time now = clock_.Steady();
  if (!phase_.empty()) {
    seconds_[phase_] += absl::ToDoubleSeconds(now - phase_began_);
  }
  phase_began_ = now;
  if (phase_ == phase) return;
  phase_ = phase;
  if (on_phase_) on_phase_(phase);
}

StepResult PolicyUpdate::Finish(bool finite) {
  Enter("optimiser");
  const double steps = std::max(totals_.steps, 1);
  StepResult result;
  std::map<std::string, double>& m = result.metrics;
  m["policy_loss"] = totals_.policy_loss / steps;
  m["value_loss"] = totals_.value_loss / steps;
  m["clip_fraction"] = totals_.clipped / steps;
  m["grad_norm"] = totals_.grad_norm / steps;
  m["learning_rate"] = learning_rate_;
  m["nonfinite"] = finite ? 0 : 1;
  const double scored = batch_.scored.sum().item<double>();
  const double rows = static_cast<double>(batch_.inputs.size());
  m["unscorable"] = rows - scored;
  if (scored > 0)
    m["reward"] = batch_.raw_rewards.sum().item<double>() / scored;
  const double tokens = batch_.mask.sum().item<double>();
  m["tokens"] = tokens;
  if (tokens > 0) {
    const at::Tensor kl = rl::EstimateKl(old_logprobs_, reference_logprobs_,
                                         rl::KlEstimator::kK3);
    const auto mean = [&](const at::Tensor& x) {
      return at::where(batch_.mask, x, 0.0).sum().item<double>() / tokens;
    };
    m["kl"] = mean(kl);
    m["entropy"] = mean(entropy_);
  }
  // The ledger and JSON have no word for NaN: what is none is left out, and
  // `nonfinite` tells of it.
  std::erase_if(m, [](const auto& one) { return !std::isfinite(one.second); });
  for (const char* phase : {"forward", "backward", "optimiser"}) {
    result.seconds[phase] = seconds_[phase];
  }
  return result;
}

}  // namespace mpo::policy_learner
