// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "services/policy_learner/policy_trainer.h"
#include "services/policy_learner/toy_task.h"

namespace mpo::policy_learner {

// What tests of the trainer share: trainers of the toy task and their weights.

inline std::unique_ptr<PolicyTrainer> NewTrainer(
    const TrainerOptions& options,
    std::shared_ptr<const model::LanguageModel> reference = nullptr) {
  auto trainer = PolicyTrainer::Create(ToyTask::Model(), options, Clock::Real(),
                                       std::move(reference));
  INFO(trainer.status());
  REQUIRE(trainer.ok());
  return *std::move(trainer);
}

inline std::string Digest(const PolicyTrainer& trainer) {
  return *tensor::Digest(trainer.model().Weights());
}

// Largest difference of the weights after an update whose steps are in
// proportion to the gradient.
inline double Difference(TrainerOptions options,
                         const std::vector<TrainingSample>& samples_a,
                         const std::vector<TrainingSample>& samples_b,
                         int64_t tokens_b) {
  options.adam_beta1 = options.adam_beta2 = 0;
  options.adam_epsilon = 1;
  options.learning_rate = options.value_learning_rate = 1;
  options.max_grad_norm = 0;
  auto a = NewTrainer(options);
  options.micro_batch_tokens = tokens_b;
  auto b = NewTrainer(options);
  const auto result_a = a->Train(1, samples_a);
  const auto result_b = b->Train(1, samples_b);
  REQUIRE(result_a.ok());
  REQUIRE(result_b.ok());
  CHECK(result_a->metrics.at("value_loss") ==
        Approx(result_b->metrics.at("value_loss")).epsilon(1e-4));
  double largest = 0;
  const auto wa = a->model().Weights(), wb = b->model().Weights();
  for (size_t i = 0; i < wa.size(); ++i) {
    largest = std::max(
        largest, (wa[i].tensor - wb[i].tensor).abs().max().item<double>());
  }
  CHECK(Digest(*a) != Digest(*NewTrainer(options)));
  return largest;
}

}  // namespace mpo::policy_learner
