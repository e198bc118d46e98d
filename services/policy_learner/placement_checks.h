// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

#include <catch2/catch.hpp>
#include <cmath>

#include "services/policy_learner/trainer_checks.h"

namespace mpo::policy_learner {

// What tests on the CPU and on a GPU share.

// An adapter, full weights with a value head, or with a value model.
inline TrainerOptions KindOfWeights() {
  TrainerOptions options = ToyTask::Options();
  const int kind = GENERATE(0, 1, 2);
  if (kind == 0) return options;
  options.lora.reset();
  options.learning_rate = 3e-3;
  options.algorithm = Algorithm::kPpo;
  options.epochs = 2;
  options.value_learning_rate = 1e-2;
  options.value_coef = 1;
  if (kind == 2) options.value_model = ValueModelKind::kSeparate;
  return options;
}

// One update whose steps are in proportion to the gradient, under `placement`
// and in float32 on the CPU: directions of the changes and figures agree.
inline void CheckNearlyEqual(TrainerOptions options,
                             const model::LoadOptions& placement) {
  options.adam_beta1 = options.adam_beta2 = 0;
  options.adam_epsilon = 1;
  options.learning_rate = options.value_learning_rate = 0.1;
  options.max_grad_norm = 0;
  options.epochs = 1;
  const auto change = [&](const model::LoadOptions& where, StepResult& result) {
    options.placement = where;
    auto trainer = NewTrainer(options);
    const auto flat = [&] {
      std::vector<at::Tensor> all;
      for (const auto& weight : trainer->model().Weights()) {
        all.push_back(weight.tensor.detach().cpu().flatten().clone());
      }
      return at::cat(all);
    };
    const at::Tensor before = flat();
    const auto samples =
        ToyTask::Sample(NewTrainer(ToyTask::Options())->model(),
                        /*step=*/1, /*seed=*/1);
    auto done = trainer->Train(1, samples);
    INFO(done.status());
    REQUIRE(done.ok());
    result = *std::move(done);
    return flat() - before;
  };
  StepResult plain, other;
  const at::Tensor a = change({}, plain), b = change(placement, other);
  const double cosine = (a.dot(b) / (a.norm() * b.norm())).item<double>();
  CHECK(cosine > 0.98);
  CHECK(b.norm().item<double>() ==
        Approx(a.norm().item<double>()).epsilon(0.1));
  for (const char* name : {"kl", "entropy", "reward", "value_loss"}) {
    INFO(name);
    CHECK(other.metrics.at(name) ==
          Approx(plain.metrics.at(name)).epsilon(0.05).margin(0.01));
  }
}

}  // namespace mpo::policy_learner
