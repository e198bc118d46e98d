// SPDX-License-Identifier: Apache-2.0
#include "services/rollout_actor/base_measurement.h"

#include "absl/strings/str_cat.h"
#include "services/rollout_actor/actor_fixture.h"

namespace mpo::rollout_actor {
namespace {

TEST_CASE("StatisticsOf takes the mean and the worst eight tokens in a row",
          "[rollout_actor]") {
  const std::vector<float> few = {-1, -3};
  CHECK(StatisticsOf(few).mean_logprob == -2);
  CHECK(StatisticsOf(few).worst_window_surprise == 2);
  std::vector<float> many(20, -1.0F);
  for (int i = 5; i < 13; ++i) many[i] = -5;
  CHECK(StatisticsOf(many).mean_logprob == Approx(-2.6));
  CHECK(StatisticsOf(many).worst_window_surprise == Approx(5));
  many[5] = -1;
  CHECK(StatisticsOf(many).worst_window_surprise == Approx(4.5));
}

struct Measured {
  Prompt prompt;
  std::vector<int32_t> prompt_tokens = {'a', 'b', 'c'};
  std::vector<int32_t> response_tokens;
  std::string text;

  Measured(const std::string& response, const std::string& subject)
      : response_tokens(response.begin(), response.end()), text(response) {
    prompt.id = absl::StrCat("p", 1);
    prompt.subject = subject;
  }
  MeasuredResponse View() const {
    return {&prompt, &prompt_tokens, &response_tokens, text};
  }
};

TEST_CASE("Measure agrees with the engine's own log-probs", "[rollout_actor]") {
  ActorFixture f;
  generation::Engine& engine = f.policy->base();
  BaseMeasurement measurement(engine, *f.tokenizer);
  const Measured one("hello there", "parks");
  const auto result = measurement.Measure({one.View()}, {});
  REQUIRE(result.ok());
  REQUIRE(result->at(0).ok());

  const auto mean = [&](const std::string& context, const std::string& target,
                        std::vector<int32_t> start) {
    generation::ScoreRequest request;
    request.tokens = std::move(start);
    for (const char c : context) request.tokens.push_back(c);
    request.first_scored = static_cast<int>(request.tokens.size());
    for (const char c : target) request.tokens.push_back(c);
    const auto scores = *engine.LogProbs({request});
    double sum = 0;
    for (const float value : scores[0].logprobs) sum += value;
    return sum / static_cast<double>(scores[0].logprobs.size());
  };
  CHECK(result->at(0)->mean_logprob ==
        Approx(mean("abc", "hello there", {})).margin(1e-5));
  const double gain =
      mean("hello there\nIn short:", " parks", {text::kTinyEndOfText}) -
      mean("In short:", " parks", {text::kTinyEndOfText});
  CHECK(result->at(0)->subject_gain == Approx(gain).margin(1e-5));
}

TEST_CASE("Measure from a generation's trunk agrees with Measure from tokens",
          "[rollout_actor]") {
  ActorFixture f;
  const FetchedWeights weights = ActorFixture::Weights(1, 0.5F);
  REQUIRE(f.policy->Apply(weights.manifest, weights.tensors).ok());
  REQUIRE(f.policy->trunk_layers() == 1);
  const generation::GenerationRequest request{
      .id = "p1",
      .prompt_tokens = {'a', 'b', 'c'},
      .seed = 3,
      .keep_trunk = f.policy->trunk_layers()};
  const auto results =
      f.policy->Generate({request}, {.temperature = 1, .max_new_tokens = 12},
                         /*base_model=*/false, {});
  REQUIRE(results.ok());
  const generation::GenerationResult& result = results->at(0);
  REQUIRE(result.trunk != nullptr);
  Measured one("", "");
  one.response_tokens = result.tokens;
  MeasuredResponse view = one.View();
  BaseMeasurement measurement(f.policy->base(), *f.tokenizer);
  const auto plain = *measurement.Measure({view}, {});
  view.trunk = result.trunk;
  const auto reused = *measurement.Measure({view}, {});
  REQUIRE(plain[0].ok());
  REQUIRE(reused[0].ok());
  CHECK(reused[0]->mean_logprob == Approx(plain[0]->mean_logprob).margin(1e-5));
  CHECK(reused[0]->worst_window_surprise ==
        Approx(plain[0]->worst_window_surprise).margin(1e-5));
  // The policy itself says something else, so the base was measured.
  double policy = 0;
  for (const float value : result.untempered_logprobs) policy += value;
  CHECK(std::abs(policy / static_cast<double>(result.tokens.size()) -
                 reused[0]->mean_logprob) > 1e-4);
}

TEST_CASE("Measure does not depend on what was measured before",
          "[rollout_actor]") {
  ActorFixture f;
  const Measured one("hello there", "parks");
  const Measured two("something else", "museums");
  BaseMeasurement fresh(f.policy->base(), *f.tokenizer);
  const auto both = *fresh.Measure({one.View(), two.View()}, {});
  BaseMeasurement used(f.policy->base(), *f.tokenizer);
  REQUIRE(used.Measure({two.View()}, {}).ok());
  const auto again = *used.Measure({one.View(), two.View()}, {});
  CHECK(*both[0] == *again[0]);
  CHECK(*both[1] == *again[1]);
}

TEST_CASE("Measure gives no gain without a subject and cuts long texts",
          "[rollout_actor]") {
  ActorFixture f;
  BaseMeasurement measurement(f.policy->base(), *f.tokenizer);
  const Measured none("hello", "");
  const Measured full(std::string(250, 'x'), "parks");
  const Measured absurd("hello", std::string(400, 'y'));
  const auto result =
      measurement.Measure({none.View(), full.View(), absurd.View()}, {});
  REQUIRE(result.ok());
  CHECK(result->at(0)->subject_gain == 0);
  CHECK(result->at(1).ok());
  CHECK(result->at(2).status().code() == absl::StatusCode::kInvalidArgument);
  CHECK(measurement.Measure({}, {})->empty());
}

TEST_CASE("Measure stops when asked", "[rollout_actor]") {
  ActorFixture f;
  BaseMeasurement measurement(f.policy->base(), *f.tokenizer);
  std::stop_source stop;
  stop.request_stop();
  const Measured one("hello", "parks");
  CHECK(absl::IsCancelled(
      measurement.Measure({one.View()}, stop.get_token()).status()));
}

}  // namespace
}  // namespace mpo::rollout_actor
