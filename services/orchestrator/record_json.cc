// SPDX-License-Identifier: Apache-2.0
#include "services/orchestrator/record_json.h"

#include <exception>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "services/orchestrator/plan.h"

namespace mpo::orchestrator {
namespace {

using Json = nlohmann::ordered_json;

std::string Dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

// Runs `read` on parsed text; nlohmann reports ill-typed fields by exception.
template <typename T, typename Read>
absl::StatusOr<T> Parsed(const char* what, const std::string& text, Read read) {
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) {
    return absl::DataLossError(absl::StrCat("ledger: ", what, ": not JSON"));
  }
  try {
    return read(json);
  } catch (const std::exception& error) {
    return absl::DataLossError(
        absl::StrCat("ledger: ", what, ": ", error.what()));
  }
}

Json VerdictJson(const Verdict& verdict) {
  Json json{{"scored", verdict.scored},
            {"rubric_sha256", verdict.rubric_sha256},
            {"judge", verdict.judge}};
  if (!verdict.scored) {
    json["reason"] = mpo::Name(verdict.reason);
    json["code"] = static_cast<int>(verdict.reason);
    json["detail"] = verdict.detail;
    return json;
  }
  json["raw"] = verdict.raw;
  json["maximum"] = verdict.maximum;
  json["reward"] = verdict.reward;
  json["criteria"] = Json::array();
  for (const CriterionScore& score : verdict.criteria) {
    json["criteria"].push_back({{"id", score.id},
                                {"score", score.score},
                                {"minimum", score.minimum},
                                {"maximum", score.maximum},
                                {"rationale", score.rationale}});
  }
  return json;
}

Verdict ReadVerdict(const Json& json) {
  Verdict verdict;
  verdict.scored = json.at("scored").get<bool>();
  verdict.rubric_sha256 = json.at("rubric_sha256").get<std::string>();
  verdict.judge = json.at("judge").get<std::string>();
  if (!verdict.scored) {
    verdict.reason = static_cast<UnscorableReason>(json.at("code").get<int>());
    verdict.detail = json.at("detail").get<std::string>();
    return verdict;
  }
  verdict.raw = json.at("raw").get<double>();
  verdict.maximum = json.at("maximum").get<double>();
  verdict.reward = json.at("reward").get<double>();
  for (const Json& one : json.at("criteria")) {
    verdict.criteria.push_back(
        {.id = one.at("id").get<std::string>(),
         .score = one.at("score").get<double>(),
         .minimum = one.at("minimum").get<double>(),
         .maximum = one.at("maximum").get<double>(),
         .rationale = one.at("rationale").get<std::string>()});
  }
  return verdict;
}

Prompt ReadPrompt(const Json& json) {
  Prompt prompt;
  prompt.id = json.at("id").get<std::string>();
  prompt.task = json.at("task").get<std::string>();
  for (const Json& message : json.at("messages")) {
    prompt.messages.push_back({message.at("role").get<std::string>(),
                               message.at("content").get<std::string>()});
  }
  prompt.text = json.at("text").get<std::string>();
  prompt.reference = json.at("reference").get<std::string>();
  prompt.subject = json.at("subject").get<std::string>();
  prompt.key_terms = json.at("key_terms").get<std::vector<std::string>>();
  prompt.cluster = json.at("cluster").get<std::string>();
  return prompt;
}

}  // namespace

std::string ToJson(const Prompt& prompt) {
  Json messages = Json::array();
  for (const ChatMessage& message : prompt.messages) {
    messages.push_back({{"role", message.role}, {"content", message.content}});
  }
  return Dump({{"id", prompt.id},
               {"task", prompt.task},
               {"messages", std::move(messages)},
               {"text", prompt.text},
               {"reference", prompt.reference},
               {"subject", prompt.subject},
               {"key_terms", prompt.key_terms},
               {"cluster", prompt.cluster}});
}

std::string ToJson(const Verdict& verdict) {
  return Dump(VerdictJson(verdict));
}

std::string ToJson(const BaseStatistics& base) {
  return Dump({{"mean_logprob", base.mean_logprob},
               {"worst_window_surprise", base.worst_window_surprise},
               {"subject_gain", base.subject_gain}});
}

std::string ToJson(const std::map<std::string, double>& values) {
  return Dump(Json(values));
}

std::string ToJson(const std::vector<std::string>& lines) {
  return Dump(Json(lines));
}

std::string ToJson(const std::vector<RubricChange>& changes) {
  Json json = Json::array();
  for (const RubricChange& change : changes) {
    json.push_back({{"action", change.action},
                    {"criterion", change.criterion},
                    {"reason", change.reason}});
  }
  return Dump(json);
}

absl::StatusOr<Prompt> PromptFromJson(const std::string& text) {
  return Parsed<Prompt>("prompt", text, ReadPrompt);
}

absl::StatusOr<Verdict> VerdictFromJson(const std::string& text) {
  return Parsed<Verdict>("verdict", text, ReadVerdict);
}

absl::StatusOr<BaseStatistics> BaseFromJson(const std::string& text) {
  return Parsed<BaseStatistics>("base statistics", text, [](const Json& json) {
    return BaseStatistics{
        .mean_logprob = json.at("mean_logprob").get<double>(),
        .worst_window_surprise = json.at("worst_window_surprise").get<double>(),
        .subject_gain = json.at("subject_gain").get<double>()};
  });
}

absl::StatusOr<std::map<std::string, double>> ValuesFromJson(
    const std::string& text) {
  return Parsed<std::map<std::string, double>>(
      "values", text, [](const Json& json) {
        return json.get<std::map<std::string, double>>();
      });
}

absl::StatusOr<std::vector<std::string>> LinesFromJson(
    const std::string& text) {
  return Parsed<std::vector<std::string>>("lines", text, [](const Json& json) {
    return json.get<std::vector<std::string>>();
  });
}

absl::StatusOr<std::vector<RubricChange>> ChangesFromJson(
    const std::string& text) {
  return Parsed<std::vector<RubricChange>>(
      "changes", text, [](const Json& json) {
        std::vector<RubricChange> changes;
        for (const Json& one : json) {
          changes.push_back(
              {.action = one.at("action").get<std::string>(),
               .criterion = one.at("criterion").get<std::string>(),
               .reason = one.at("reason").get<std::string>()});
        }
        return changes;
      });
}

std::string MetricsLine(const StepRecord& step) {
  Json json{{"step", step.step}};
  for (const auto& [name, value] : step.metrics) json[name] = value;
  json["rubric"] = step.rubric_version;
  json["rubric_sha256"] = step.rubric_sha256;
  json["weights_sha256"] = step.weights_sha256;
  json["seconds"] = step.seconds;
  return Dump(json);
}

std::string SampleLine(const SampleRecord& record) {
  Json json{{"sample_key", record.sample.key},
            {"kind", Name(record.kind)},
            {"step", record.sample.step},
            {"prompt_id", record.sample.prompt.id},
            {"replica", record.sample.replica},
            {"seed", record.sample.seed}};
  if (record.used_in_step) json["used_in_step"] = *record.used_in_step;
  if (!record.result) return Dump(json);
  const Outcome& outcome = record.result->outcome;
  json["response"] = outcome.text;
  json["response_tokens"] = outcome.response_tokens;
  json["finish_reason"] = Name(outcome.finish_reason);
  json["policy_version"] = outcome.policy_version;
  json["verdict"] = VerdictJson(outcome.verdict);
  if (record.result->proxy) json["proxy"] = *record.result->proxy;
  if (record.result->gold) json["gold"] = *record.result->gold;
  return Dump(json);
}

}  // namespace mpo::orchestrator
