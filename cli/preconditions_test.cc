// SPDX-License-Identifier: Apache-2.0
#include "cli/preconditions.h"

#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "mpo/config/run_config.h"
#include "mpo/model/language_model.h"
#include "tests/support/tiny_tokenizer.h"

namespace mpo::cli {
namespace {

namespace fs = std::filesystem;

struct Workspace {
  fs::path dir =
      fs::temp_directory_path() / absl::StrCat("mpo_preconditions_", getpid());
  config::v1::RunConfig config;

  Workspace() {
    fs::create_directories(dir / "model");
    model::ModelConfig shape;
    shape.vocab_size = text::kTinyVocabSize;
    shape.hidden_size = 8;
    shape.intermediate_size = 8;
    shape.layers = 1;
    shape.heads = shape.kv_heads = 1;
    shape.head_dim = 8;
    shape.context = 64;
    const auto model = model::LanguageModel::Random(shape, 1);
    REQUIRE(model.ok());
    REQUIRE((*model)->Save(dir / "model").ok());
    REQUIRE(text::WriteTinyTokenizer(dir / "model").ok());
    Write("prompts.jsonl", Line("short", 5));
    Write("rubric.yaml",
          "id: r\nscope: global\naggregation: raw_sum\nscale: by_maximum\n"
          "criteria:\n  - {id: words, text: Many words, maximum: 5, "
          "check: {name: words, saturate_at: 10}}\n");
    const auto loaded = config::ParseRunConfig(
        absl::StrCat(
            "run: {name: r, steps: 3, dir: ", (dir / "run").string(),
            "}\ntask: math\ndata: {train: ", (dir / "prompts.jsonl").string(),
            "}\npolicy: {model: ", (dir / "model").string(),
            "}\ngeneration: {prompts_per_step: 1, group_size: 2, "
            "unit_size: 2, max_new_tokens: 4}\nreward: {rubric: ",
            (dir / "rubric.yaml").string(), "}\n"),
        "test");
    INFO(loaded.status());
    REQUIRE(loaded.ok());
    config = loaded->config;
  }
  ~Workspace() { fs::remove_all(dir); }

  static std::string Line(const std::string& id, int length) {
    return absl::StrCat("{\"id\": \"", id, "\", \"prompt\": \"",
                        std::string(length, 'x'),
                        "\", \"reference\": \"1\"}\n");
  }
  void Write(const std::string& name, const std::string& text) const {
    std::ofstream(dir / name) << text;
  }
};

TEST_CASE("a run whose files are in order has no problems", "[cli]") {
  const Workspace w;
  CHECK(FindProblems(w.config).empty());
}

TEST_CASE("prompts that leave no room for a response are named", "[cli]") {
  Workspace w;
  std::string lines = Workspace::Line("fits", 63);
  for (int i = 0; i < 5; ++i)
    lines += Workspace::Line(absl::StrCat("p", i), 64);
  w.Write("prompts.jsonl", lines);
  w.config.mutable_data()->set_heldout(w.config.data().train());
  const auto problems = FindProblems(w.config);
  REQUIRE(problems.size() == 2);
  CHECK(absl::StartsWith(problems[0], "data.train: "));
  CHECK(absl::StartsWith(problems[1], "data.heldout: "));
  CHECK(
      absl::StrContains(problems[0],
                        "prompts.jsonl: prompt \"p0\" has 64 tokens, expected "
                        "fewer than the model's context of 64"));
  CHECK(absl::StrContains(problems[0], "and 2 more"));
  CHECK(!absl::StrContains(problems[0], "fits"));
}

TEST_CASE("every problem of a run is told at once", "[cli]") {
  Workspace w;
  w.Write("rubric.yaml", "id: r\nscope: global\ncriteria: []\n");
  w.Write("prompts.jsonl", "not json\n");
  fs::remove(w.dir / "model" / "model.safetensors");
  w.config.mutable_reward()->mutable_http()->set_api_key_file("/no/such/key");
  const auto problems = FindProblems(w.config);
  REQUIRE(problems.size() == 4);
  CHECK(absl::StartsWith(problems[0], "policy.model: "));
  CHECK(absl::StartsWith(problems[1], "reward.rubric: "));
  CHECK(absl::StartsWith(problems[2], "data.train: "));
  CHECK(absl::StartsWith(problems[3], "reward.http.api_key_file: "));
}

TEST_CASE("a plan that the prompts do not allow is refused", "[cli]") {
  Workspace w;
  w.config.mutable_generation()->set_prompts_per_step(2);
  const auto problems = FindProblems(w.config);
  REQUIRE(problems.size() == 1);
  CHECK(absl::StartsWith(problems[0], "plan: "));
  CHECK(absl::StrContains(problems[0], "prompts_per_step"));
}

TEST_CASE("a device that is not there is told before the run", "[cli]") {
  Workspace w;
  w.config.mutable_generation()->set_device("cuda:99");
  const auto problems = FindProblems(w.config);
  REQUIRE(problems.size() == 1);
  CHECK(absl::StartsWith(problems[0], "generation: device"));
}

TEST_CASE("the learner's settings and the reference are told before the run",
          "[cli]") {
  Workspace w;
  w.config.mutable_learner()->set_dual_clip(1);
  w.config.mutable_policy()->set_reference((w.dir / "nowhere").string());
  const auto problems = FindProblems(w.config);
  REQUIRE(problems.size() == 2);
  CHECK(absl::StartsWith(problems[0], "policy.reference: no directory"));
  CHECK(absl::StartsWith(problems[1], "learner: learner.dual_clip"));
}

TEST_CASE("a run needs room for everything it keeps", "[cli]") {
  constexpr uint64_t kGiB = uint64_t{1} << 30;
  config::v1::RunConfig config;
  config.mutable_learner()->set_checkpoints_kept(2);
  CHECK(NeededBytes(kGiB, config) > 18 * kGiB);
  config.mutable_policy()->mutable_lora();
  const uint64_t adapter = NeededBytes(kGiB, config);
  CHECK(adapter < 3 * kGiB);
  config.mutable_learner()->set_value_model("separate");
  CHECK(NeededBytes(kGiB, config) == adapter + 18 * kGiB);
  config.mutable_learner()->clear_value_model();
  config.mutable_run()->set_steps(100);
  config.mutable_learner()->set_checkpoints_keep_every(10);
  CHECK(NeededBytes(kGiB, config) > 2 * adapter);
  config.mutable_learner()->clear_checkpoints_keep_every();
  config.mutable_learner()->set_record_rollouts(true);
  config.mutable_generation()->set_prompts_per_step(16);
  config.mutable_generation()->set_group_size(4);
  config.mutable_generation()->set_max_new_tokens(400);
  CHECK(NeededBytes(kGiB, config) > adapter + 90'000'000);
}

}  // namespace
}  // namespace mpo::cli
