// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "mpo/model/language_model.h"
#include "mpo/v1/policy_learner_service.pb.h"
#include "services/policy_learner/policy_model.h"
#include "services/policy_learner/trainer_options.h"
#include "services/policy_learner/training_batch.h"

namespace mpo::policy_learner {

// A task small enough to be learned inside a test: a random decoder of two
// layers is rewarded for the share of one token in its responses.
struct ToyTask {
  static constexpr int kVocabulary = 16;
  static constexpr int kTarget = 5;
  static constexpr int kPrompts = 8;
  static constexpr int kGroup = 4;
  static constexpr int kResponse = 8;

  static std::shared_ptr<const model::LanguageModel> Model();
  // RLOO, one epoch, an adapter on every layer, figures that learn fast.
  static TrainerOptions Options();
  // Samples of `step`, drawn from the policy; a pure function of its arguments.
  // Prompts have 2 to 4 tokens and end tokens make responses differ in length.
  static std::vector<TrainingSample> Sample(const PolicyModel& policy,
                                            int64_t step, uint64_t seed);
};

// What an actor would send.
v1::SubmitRolloutsRequest ToProto(const TrainingSample& sample);

}  // namespace mpo::policy_learner
