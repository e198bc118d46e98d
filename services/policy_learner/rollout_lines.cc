// SPDX-License-Identifier: Apache-2.0
#include "services/policy_learner/rollout_lines.h"

#include <algorithm>
#include <array>
#include <limits>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "mpo/base/status_macros.h"
#include "nlohmann/json.hpp"

namespace mpo::policy_learner {
namespace {

using Json = nlohmann::json;

constexpr std::array<std::pair<FinishReason, const char*>, 4> kReasons = {{
    {FinishReason::kStop, "stop"},
    {FinishReason::kLength, "length"},
    {FinishReason::kCancelled, "cancelled"},
    {FinishReason::kFailed, "failed"},
}};

// Reads the keys of one line; the first problem stays.
class LineReader {
 public:
  explicit LineReader(const Json& line) : line_(line) {
    if (!line.is_object()) Problem("expected a JSON object");
  }

  // Each fills `out` where the key is there; `required` says that it must be.
  void Text(const char* key, bool required, std::string& out) {
    const Json* value = Find(key, required);
    if (value == nullptr) return;
    if (!value->is_string()) return Wrong(key, "a text");
    out = value->get<std::string>();
  }
  void Number(const char* key, bool required, double& out) {
    const Json* value = Find(key, required);
    if (value == nullptr) return;
    if (!value->is_number()) return Wrong(key, "a number");
    out = value->get<double>();
  }
  void Numbers(const char* key, std::vector<float>& out) {
    const Json* value = Find(key, true);
    if (value == nullptr) return;
    const auto number = [](const Json& one) { return one.is_number(); };
    if (!value->is_array() ||
        !std::all_of(value->begin(), value->end(), number))
      return Wrong(key, "a list of numbers");
    out = value->get<std::vector<float>>();
  }
  void Integer(const char* key, int64_t& out) {
    const Json* value = Find(key, true);
    if (value == nullptr) return;
    if (!IsInteger<int64_t>(*value)) return Wrong(key, "an integer");
    out = value->get<int64_t>();
  }
  void Integers(const char* key, std::vector<int32_t>& out) {
    const Json* value = Find(key, true);
    if (value == nullptr) return;
    if (!value->is_array() ||
        !std::all_of(value->begin(), value->end(), IsInteger<int32_t>)) {
      return Wrong(key, "a list of integers of 32 bits");
    }
    out = value->get<std::vector<int32_t>>();
  }
  // Triples of integers.
  void Spans(const char* key, std::vector<TokenSpan>& out) {
    const Json* value = Find(key, false);
    if (value == nullptr) return;
    const auto span = [](const Json& one) {
      return one.is_array() && one.size() == 3 && IsInteger<int32_t>(one[0]) &&
             IsInteger<int32_t>(one[1]) && IsInteger<int64_t>(one[2]);
    };
    if (!value->is_array() || !std::all_of(value->begin(), value->end(), span))
      return Wrong(key, "a list of [begin, end, policy version]");
    for (const Json& one : *value) {
      out.push_back(
          {one[0].get<int>(), one[1].get<int>(), one[2].get<int64_t>()});
    }
  }

  bool Has(const char* key) const {
    return line_.is_object() && line_.contains(key);
  }

  void Problem(const std::string& what) {
    if (status_.ok()) status_ = absl::InvalidArgumentError(what);
  }

  absl::Status Finish() {
    for (auto it = line_.begin(); status_.ok() && it != line_.end(); ++it) {
      if (!read_.contains(it.key())) {
        Problem(absl::StrCat("unknown key \"", it.key(), "\""));
      }
    }
    return status_;
  }

 private:
  template <typename T>
  static bool IsInteger(const Json& value) {
    if (value.is_number_unsigned()) {
      return value.get<uint64_t>() <=
             static_cast<uint64_t>(std::numeric_limits<T>::max());
    }
    return value.is_number_integer() &&
           value.get<int64_t>() >= std::numeric_limits<T>::min() &&
           value.get<int64_t>() <= std::numeric_limits<T>::max();
  }
  const Json* Find(const char* key, bool required) {
    read_.insert(key);
    if (!status_.ok()) return nullptr;
    const auto found = line_.find(key);
    if (found != line_.end()) return &*found;
    if (required) Problem(absl::StrCat(key, ": is missing"));
    return nullptr;
  }
  void Wrong(const char* key, const char* expected) {
    Problem(absl::StrCat(key, ": expected ", expected));
  }

  const Json& line_;
  std::set<std::string> read_;
  absl::Status status_;
};

void ReadVerdict(LineReader& reader, Verdict& verdict) {
  verdict.scored = reader.Has("reward");
  if (verdict.scored == reader.Has("unscorable")) {
    reader.Problem("expected either reward or unscorable");
  }
  reader.Number("reward", false, verdict.reward);
  reader.Text("unscorable", false, verdict.detail);
}

void ReadSpans(LineReader& reader, Rollout& rollout) {
  reader.Spans("spans", rollout.spans);
  if (!reader.Has("spans") && !rollout.response_tokens.empty()) {
    rollout.spans = {{0, static_cast<int>(rollout.response_tokens.size()),
                      rollout.step - 1}};
  }
}

absl::StatusOr<TrainingSample> ReadLine(std::string_view text) {
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) return absl::InvalidArgumentError("not valid JSON");
  TrainingSample sample;
  Rollout& rollout = sample.rollout;
  LineReader reader(json);
  reader.Integer("step", rollout.step);
  reader.Text("sample_key", true, rollout.sample_key);
  reader.Text("group", true, rollout.group);
  reader.Integers("prompt_tokens", rollout.prompt_tokens);
  reader.Integers("response_tokens", rollout.response_tokens);
  reader.Numbers("logprobs", rollout.logprobs);
  reader.Number("temperature", false, rollout.temperature);
  std::string reason = "length";
  reader.Text("finish_reason", false, reason);
  bool known = false;
  for (const auto& [value, name] : kReasons) {
    if (reason != name) continue;
    rollout.finish_reason = value;
    known = true;
  }
  if (!known) {
    reader.Problem(absl::StrCat(
        "finish_reason: expected ",
        absl::StrJoin(kReasons, ", ",
                      [](std::string* out, const auto& known_reason) {
                        absl::StrAppend(out, known_reason.second);
                      }),
        ", got \"", reason, "\""));
  }
  ReadSpans(reader, rollout);
  ReadVerdict(reader, sample.verdict);
  MPO_RETURN_IF_ERROR(reader.Finish());
  return sample;
}

}  // namespace

std::string ToJsonLine(const TrainingSample& sample) {
  const Rollout& rollout = sample.rollout;
  nlohmann::ordered_json json = {{"step", rollout.step},
                                 {"sample_key", rollout.sample_key},
                                 {"group", rollout.group},
                                 {"prompt_tokens", rollout.prompt_tokens},
                                 {"response_tokens", rollout.response_tokens},
                                 {"logprobs", rollout.logprobs},
                                 {"temperature", rollout.temperature}};
  for (const auto& [value, name] : kReasons) {
    if (value == rollout.finish_reason) json["finish_reason"] = name;
  }
  json["spans"] = Json::array();
  for (const TokenSpan& span : rollout.spans) {
    json["spans"].push_back({span.begin, span.end, span.policy_version});
  }
  if (sample.verdict.scored) {
    json["reward"] = sample.verdict.reward;
  } else {
    json["unscorable"] = sample.verdict.detail;
  }
  // Text that is not UTF-8 must not stop a record.
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

absl::StatusOr<std::vector<TrainingSample>> ParseRolloutLines(
    std::string_view text, const std::string& source) {
  std::vector<TrainingSample> samples;
  std::set<std::string> keys;
  for (int number = 1; !text.empty(); ++number) {
    const size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    absl::StatusOr<TrainingSample> sample = ReadLine(line);
    if (sample.ok() && !keys.insert(sample->rollout.sample_key).second) {
      sample = absl::InvalidArgumentError(
          absl::StrCat("sample_key: \"", sample->rollout.sample_key,
                       "\" was used by a line before"));
    }
    if (!sample.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(
          source, ":", number, ": ", std::string(sample.status().message())));
    }
    samples.push_back(*std::move(sample));
  }
  if (samples.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        source, ": expected JSON lines with at least one rollout, got none"));
  }
  return samples;
}

}  // namespace mpo::policy_learner
