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
PolicyUpdate::PolicyUpdate(const TrainerOptions& options, PolicyModel& model,
                           Optimiser& optimiser,
                           const ValueFunction& value_function,
                           rl::Moments& rewards, Clock& clock,
                           const std::function<void(const char*)>& on_phase,
                           const DataParallel& parallel)
    : options_(options),
      model_(model),
      optimiser_(optimiser),
      value_(value_function),
      rewards_(rewards),
      clock_(clock),
      on_phase_(on_phase),
      parallel_(parallel) {}

StepResult PolicyUpdate::Run(int64_t step,
                             const std::vector<TrainingSample>& samples) {
  const double factor = LearningRateFactor(options_, step);
  learning_rate_ = options_.learning_rate * factor;
  value_learning_rate_ = options_.value_learning_rate > 0
                             ? options_.value_learning_rate * factor
                             : learning_rate_;
  Enter("forward");
  const rl::Moments rewards_before = rewards_;
  batch_ = MakeTrainingBatch(samples, options_, &rewards_);
  TakeTrunks(samples);
  bool finite = true;
  if (!batch_.active.empty()) {
    finite = Prepare();
    for (int epoch = 0; finite && epoch < options_.epochs; ++epoch) {
      for (const std::vector<int64_t>& rows : Minibatches(step, epoch)) {
        if (!(finite = TrainMinibatch(rows, epoch == 0))) break;
      }
      old_known_ = true;
    }
    optimiser_.ZeroGrad();
  }
  if (!finite) rewards_ = rewards_before;
  return Finish(finite);
}

at::Tensor PolicyUpdate::Take(const at::Tensor& matrix,
                              const MicroBatch& micro) const {
  return matrix.flatten().index_select(0, micro.token_index);
}

void PolicyUpdate::Put(at::Tensor& matrix, const MicroBatch& micro,
                       const at::Tensor& values) const {
  matrix.view(-1).index_copy_(0, micro.token_index, values.detach());
}

rl::TokenStatistics PolicyUpdate::Tokens(
    const MicroBatch& micro, const at::Tensor& hidden, const at::Tensor& head,
    const rl::SelectiveLogprobOptions& options) const {
  const at::Device device = hidden.device();
  rl::TokenStatistics token =
      rl::SelectiveLogprob(hidden, head, Take(batch_.targets, micro).to(device),
                           Take(temperatures_, micro).to(device), options);
  return {token.logprobs.to(at::kCPU), token.entropy.to(at::kCPU)};
}

rl::TokenStatistics PolicyUpdate::PolicyTokens(const MicroBatch& micro,
                                               const at::Tensor& layers) const {
  return Tokens(micro, Normed(model_.policy(), layers, micro.hidden_index),
                PolicyHead(), {.entropy_gradient = options_.entropy_coef != 0});
}

bool PolicyUpdate::Prepare() {
  at::NoGradGuard no_grad;
  const bool ppo = options_.algorithm == Algorithm::kPpo;
  const bool behaviour = options_.old_logprobs == OldLogprobs::kBehaviour;
  // With one minibatch the first epoch's log-probs are the old ones, unless
  // the rewards need them before.
  const bool old_needed =
      !behaviour &&
      (options_.minibatches > 1 ||
       (options_.kl_in == KlPlace::kReward && options_.kl_coef != 0));
  const bool policy_needed = old_needed || (ppo && value_.trunk == nullptr);
  temperatures_ = batch_.temperatures.unsqueeze(1).expand(batch_.mask.sizes());
  old_logprobs_ = behaviour ? batch_.behaviour.clone()
                            : torch::zeros_like(batch_.behaviour);
  reference_logprobs_ = torch::zeros_like(batch_.behaviour);
  values_ = torch::zeros_like(batch_.behaviour);
  entropy_ = torch::zeros_like(batch_.behaviour);
  std::vector<std::vector<PackedRow>> plan =
      PlanMicroBatches(batch_, parallel_.OwnRows(batch_, batch_.active),
                       options_.micro_batch_tokens);
  // Where all rows fit into one micro-batch, these passes are the first epoch's
  // too, if their graph is kept.
  const bool keep =
      plan.size() == 1 && options_.minibatches == 1 && options_.loss_block <= 0;
  for (auto& rows : plan) {
    parallel_.Progress();
    const MicroBatch micro = MakeMicroBatch(std::move(rows));
    Put(reference_logprobs_, micro,
        Tokens(micro, Hidden(micro, true), model_.reference().head(), {})
            .logprobs);
    at::AutoGradMode with_grad(keep);
    FirstPass pass;
    if (policy_needed) pass.layers = Layers(micro, false);
    if (ppo) {
      const at::Tensor hidden = ValueHidden(micro, pass.layers);
      values_.view(-1).index_copy_(0, micro.value_token_index,
                                   value_.head.Values(hidden));
      if (value_.trunk != nullptr) pass.value_hidden = hidden;
    }
    if (old_needed) {
      pass.token = PolicyTokens(micro, pass.layers);
      Put(old_logprobs_, micro, pass.token->logprobs);
    }
    if (keep) first_pass_ = std::move(pass);
  }
  old_known_ = old_needed || behaviour;
  own_rows_only_ = {entropy_};
  if (!old_known_) own_rows_only_.push_back(old_logprobs_);
  std::vector<at::Tensor> filled = {reference_logprobs_, values_};
  if (old_needed) filled.push_back(old_logprobs_);
  parallel_.Complete(filled, "log-probs and values");
  // Whitening may hide them.
  if (!batch_.scores.isfinite().all().item<bool>()) return false;
  at::Tensor kl;
  if (old_known_) {
    kl = rl::EstimateKl(old_logprobs_, reference_logprobs_,
                        options_.kl_estimator, options_.kl_max_ratio);
  }
  advantages_ = ComputeAdvantages(options_, batch_, kl, values_);
  if (!advantages_.advantages.isfinite().all().item<bool>()) return false;
  if (!ppo) return true;
  const at::Tensor returns =
      advantages_.returns.masked_select(batch_.value_mask);
  if (!returns.isfinite().all().item<bool>()) return false;
  const bool first = options_.popart && value_.head.popart().updates == 0;
  value_.head.Follow(returns);
  // The untrained head predicts 0, which the first statistics read as their
  // mean: what the clipped loss starts from.
  if (first) values_.fill_(value_.head.popart().mean);
  return true;
}

std::vector<std::vector<int64_t>> PolicyUpdate::Minibatches(int64_t step,
                                                            int epoch) const {
  std::vector<int64_t> rows = batch_.active;
  const size_t count = std::min<size_t>(options_.minibatches, rows.size());
  // Which samples are averaged together is drawn anew in each pass.
  if (count <= 1 && options_.loss_block <= 0) return {rows};
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

at::Tensor PolicyUpdate::MinibatchWeights(const at::Tensor& mask,
                                          const at::Tensor& rows) const {
  return torch::zeros_like(batch_.behaviour)
      .index_copy(
          0, rows,
          rl::LossWeights(mask.index_select(0, rows), options_.loss_aggregation,
                          options_.constant_length, options_.loss_block));
}

bool PolicyUpdate::TrainMinibatch(const std::vector<int64_t>& rows,
                                  bool first_epoch) {
  const at::Tensor index = torch::tensor(rows, torch::kLong);
  const at::Tensor weights = MinibatchWeights(batch_.mask, index);
  const bool ppo = options_.algorithm == Algorithm::kPpo;
  const bool head = ppo && value_.trunk == nullptr;
  const bool apart = ppo && value_.trunk != nullptr;
  at::Tensor value_weights;
  if (ppo) value_weights = MinibatchWeights(batch_.value_mask, index);
  std::vector<at::Tensor> hidden, tokens;
  optimiser_.ZeroGrad();
  if (apart) value_.head.ZeroGrad();
  double loss = 0;
  for (auto& micro_rows :
       PlanMicroBatches(batch_, parallel_.OwnRows(batch_, rows),
                        options_.micro_batch_tokens)) {
    const MicroBatch micro = MakeMicroBatch(std::move(micro_rows));
    at::Tensor out;
    loss += Accumulate(micro, weights, first_epoch, head ? &out : nullptr);
    if (head) hidden.push_back(out), tokens.push_back(micro.value_token_index);
    if (apart) loss += AccumulateValues(micro, value_weights);
    if (!std::isfinite(loss)) break;
  }
  Enter("optimiser");
  // In a group the others must learn of a loss that is not finite.
  optimiser_.SumGradients({&loss});
  if (!std::isfinite(loss)) return false;
  if (apart) value_.head.SumGradients();
  const double norm = optimiser_.ClipGradients(options_.max_grad_norm);
  if (!std::isfinite(norm)) return false;
  if (head && !FitValues(hidden, tokens, value_weights)) return false;
  if (apart && !value_.head.Step(value_learning_rate_)) return false;
  optimiser_.Step(learning_rate_);
  model_.Refresh();
  if (apart) value_.trunk->Refresh();
  totals_.grad_norm += norm;
  ++totals_.steps;
  Enter("forward");
  return true;
}

rl::PolicyLoss PolicyUpdate::TokenLoss(const MicroBatch& micro,
                                       const at::Tensor& old,
                                       const at::Tensor& log_ratio) const {
  rl::PolicyLoss loss =
      rl::ClippedPolicyLoss(log_ratio, Take(advantages_.advantages, micro),
                            {.low = options_.clip_low,
                             .high = options_.clip_high,
                             .dual = options_.dual_clip});
  if (options_.truncated_importance > 0) {
    loss.loss =
        loss.loss *
        rl::ImportanceWeights(
            rl::LogRatio(old, Take(batch_.behaviour, micro),
                         micro.response_index, options_.importance_level),
            options_.truncated_importance, options_.importance_above);
  }
  return loss;
}

double PolicyUpdate::Accumulate(const MicroBatch& micro,
                                const at::Tensor& weights, bool first_epoch,
                                at::Tensor* value_hidden) {
  Enter("forward");
  FirstPass kept = {std::exchange(first_pass_.layers, {}),
                    std::exchange(first_pass_.token, std::nullopt),
                    {}};
  const at::Tensor layers =
      kept.layers.defined() ? kept.layers : Layers(micro, false);
  if (value_hidden != nullptr) *value_hidden = ValueHidden(micro, layers);
  const rl::TokenStatistics token =
      kept.token.has_value() ? *kept.token : PolicyTokens(micro, layers);
  if (first_epoch) Put(entropy_, micro, token.entropy);
  if (!old_known_) Put(old_logprobs_, micro, token.logprobs);
  const at::Tensor old = Take(old_logprobs_, micro);
  const at::Tensor weight = Take(weights, micro);
  const at::Tensor log_ratio =
      rl::LogRatio(token.logprobs, old, micro.response_index, options_.ratio);
  const rl::PolicyLoss policy = TokenLoss(micro, old, log_ratio);
  const at::Tensor policy_loss = (weight * policy.loss).sum();
  at::Tensor loss = policy_loss;
  if (options_.kl_in == KlPlace::kLoss && options_.kl_coef != 0) {
    at::Tensor kl =
        rl::EstimateKl(token.logprobs, Take(reference_logprobs_, micro),
                       options_.kl_estimator, options_.kl_max_ratio);
    if (options_.kl_ratio_weighted) kl = rl::RatioWeightedKl(kl, log_ratio);
    loss = loss + options_.kl_coef * (weight * kl).sum();
  }
  if (options_.entropy_coef != 0) {
    loss = loss - options_.entropy_coef * (weight * token.entropy).sum();
  }
  const double value = loss.item<double>();
  totals_.policy_loss += policy_loss.item<double>();
  // As a share of tokens whatever the aggregation.
  const double tokens = (weights > 0).sum().item<double>();
  totals_.clipped += policy.clipped.sum().item<double>() / tokens;
  if (policy.dual_clipped.defined()) {
    totals_.dual_clipped += policy.dual_clipped.sum().item<double>() / tokens;
  }
  if (!std::isfinite(value)) return value;
  Enter("backward");
  loss.backward();
  return value;
}

ValueTargets PolicyUpdate::Targets(const at::Tensor& index,
                                   const at::Tensor& weights) const {
  const auto take = [&](const at::Tensor& matrix) {
    return matrix.flatten().index_select(0, index);
  };
  return {take(values_), take(advantages_.returns), take(weights)};
}

double PolicyUpdate::AccumulateValues(const MicroBatch& micro,
                                      const at::Tensor& weights) {
  Enter("forward");
  const at::Tensor kept = std::exchange(first_pass_.value_hidden, {});
  const at::Tensor loss = value_.head.Loss(
      kept.defined() ? kept : ValueHidden(micro, {}),
      Targets(micro.value_token_index, weights), &totals_.value_clipped);
  const double value = loss.item<double>();
  totals_.value_loss += value;
  if (!std::isfinite(value)) return value;
  Enter("backward");
  (loss * options_.value_coef).backward();
  return value;
}

bool PolicyUpdate::FitValues(const std::vector<at::Tensor>& hidden,
                             const std::vector<at::Tensor>& tokens,
                             const at::Tensor& weights) {
  // Of a group's ranks one may have no row of a minibatch.
  const double loss =
      hidden.empty()
          ? value_.head.Fit(model_.policy().final_norm().new_zeros(
                                {0, model_.policy().config().hidden_size}),
                            Targets(torch::zeros({0}, torch::kLong), weights),
                            value_learning_rate_)
          : value_.head.Fit(at::cat(hidden), Targets(at::cat(tokens), weights),
                            value_learning_rate_);
  totals_.value_loss += loss;
  totals_.value_clipped += value_.head.clipped();
  return std::isfinite(loss);
}

void PolicyUpdate::Enter(const char* phase) {
  const absl::Time now = clock_.Steady();
  if (!phase_.empty()) {
    seconds_[phase_] += absl::ToDoubleSeconds(now - phase_began_);
  }
  phase_began_ = now;
  parallel_.Progress();
  if (phase_ == phase) return;
  phase_ = phase;
  if (on_phase_) on_phase_(phase);
}

void PolicyUpdate::CompleteFigures() {
  parallel_.Complete(own_rows_only_, "entropies");
  parallel_.Sum({&totals_.policy_loss, &totals_.value_loss, &totals_.clipped,
                 &totals_.value_clipped, &totals_.dual_clipped},
                "figures");
}

StepResult PolicyUpdate::Finish(bool finite) {
  Enter("optimiser");
  CompleteFigures();
  const double steps = std::max(totals_.steps, 1);
  StepResult result;
  std::map<std::string, double>& m = result.metrics;
  m["policy_loss"] = totals_.policy_loss / steps;
  m["value_loss"] = totals_.value_loss / steps;
  m["clip_fraction"] = totals_.clipped / steps;
  if (options_.algorithm == Algorithm::kPpo) {
    m["value_clip_fraction"] = totals_.value_clipped / steps;
  }
  if (options_.dual_clip > 0) {
    m["dual_clip_fraction"] = totals_.dual_clipped / steps;
  }
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
