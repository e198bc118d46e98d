// SPDX-License-Identifier: Apache-2.0
#include "mpo/rubric/rubric_yaml.h"

#include <yaml-cpp/yaml.h>

#include <charconv>
#include <cmath>
#include <exception>
#include <functional>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "mpo/base/digest.h"

namespace mpo::rubric {
namespace {

constexpr size_t kMaxBytes = 1 << 20;

// Names of an enumeration in the order of its values.
using Names = std::vector<std::string>;
const Names& AggregationNames() {
  static const Names names = {"raw_sum", "normalised_mean", "weighted",
                              "gated",   "implicit",        "saturating"};
  return names;
}
const Names& ScaleNames() {
  static const Names names = {"none", "by_maximum", "continuity", "running"};
  return names;
}
const Names& PolarityNames() {
  static const Names names = {"award", "deduct"};
  return names;
}
const Names& TierNames() {
  static const Names names = {"essential", "important", "optional", "pitfall"};
  return names;
}
const Names& ModeNames() {
  static const Names names = {"score", "gate", "veto", "shadow"};
  return names;
}
const Names& ExecutorNames() {
  static const Names names = {"judge", "program"};
  return names;
}

// Reads nodes and collects what is wrong.
class Reader {
 public:
  using Field = std::function<void(const YAML::Node&)>;

  // Calls the field of each key; reports unknown and repeated ones.
  void Map(const YAML::Node& node, const std::string& what,
           const std::map<std::string, Field>& fields) {
    if (!node.IsMap()) return Problem(node, what + ": expected keys");
    std::set<std::string> seen;
    for (const auto& entry : node) {
      const std::string key =
          entry.first.IsScalar() ? entry.first.Scalar() : "";
      const auto field = fields.find(key);
      if (field == fields.end()) {
        Problem(entry.first, absl::StrCat(what, ": unknown key \"", key, "\""));
      } else if (!seen.insert(key).second) {
        Problem(entry.first, absl::StrCat(what, ": ", key, " is given twice"));
      } else {
        field->second(entry.second);
      }
    }
  }

  Field Text(const std::string& what, std::string& out) {
    return [this, what, &out](const YAML::Node& node) {
      if (node.IsNull()) {
        out.clear();
      } else if (!node.IsScalar()) {
        Problem(node, what + ": expected text");
      } else {
        out = node.Scalar();
      }
    };
  }

  Field Integer(const std::string& what, int& out) {
    return [this, what, &out](const YAML::Node& node) {
      if (!node.IsScalar() || !absl::SimpleAtoi(node.Scalar(), &out)) {
        Problem(node, what + ": expected a whole number");
      }
    };
  }

  Field Number(const std::string& what, double& out) {
    return [this, what, &out](const YAML::Node& node) {
      double value = 0;
      if (!node.IsScalar() || !absl::SimpleAtod(node.Scalar(), &value) ||
          !std::isfinite(value)) {
        Problem(node, what + ": expected a number");
      } else {
        out = value;
      }
    };
  }

  template <typename E>
  Field Enum(const std::string& what, const Names& names, E& out) {
    return [this, what, &names, &out](const YAML::Node& node) {
      const std::string text = node.IsScalar() ? node.Scalar() : "";
      for (size_t i = 0; i < names.size(); ++i) {
        if (names[i] == text) {
          out = static_cast<E>(i);
          return;
        }
      }
      Problem(node,
              absl::StrCat(what, ": expected one of ",
                           absl::StrJoin(names, ", "), ", got \"", text, "\""));
    };
  }

  void Problem(const YAML::Node& node, const std::string& what) {
    problems_.push_back(
        absl::StrCat("line ", node.Mark().line + 1, ": ", what));
  }
  const std::vector<std::string>& problems() const { return problems_; }

 private:
  std::vector<std::string> problems_;
};

Criterion ReadCriterion(Reader& reader, const YAML::Node& node,
                        const std::string& what) {
  Criterion criterion;
  reader.Map(
      node, what,
      {{"id", reader.Text(what + ": id", criterion.id)},
       {"title", reader.Text(what + ": title", criterion.title)},
       {"text", reader.Text(what + ": text", criterion.text)},
       {"minimum", reader.Integer(what + ": minimum", criterion.minimum)},
       {"maximum", reader.Integer(what + ": maximum", criterion.maximum)},
       {"weight", reader.Number(what + ": weight", criterion.weight)},
       {"polarity",
        reader.Enum(what + ": polarity", PolarityNames(), criterion.polarity)},
       {"tier", reader.Enum(what + ": tier", TierNames(), criterion.tier)},
       {"mode", reader.Enum(what + ": mode", ModeNames(), criterion.mode)},
       {"executor",
        reader.Enum(what + ": executor", ExecutorNames(), criterion.executor)},
       {"levels",
        [&](const YAML::Node& levels) {
          if (!levels.IsMap()) {
            return reader.Problem(levels, what + ": levels: expected keys");
          }
          for (const auto& level : levels) {
            int score = 0;
            if (!level.first.IsScalar() || !level.second.IsScalar() ||
                !absl::SimpleAtoi(level.first.Scalar(), &score)) {
              reader.Problem(level.first,
                             what + ": levels: expected score: text");
            } else {
              criterion.levels[score] = level.second.Scalar();
            }
          }
        }},
       {"check", [&](const YAML::Node& check) {
          if (check.IsNull()) return;
          criterion.check.emplace();
          const std::string of = what + ": check";
          reader.Map(
              check, of,
              {{"name", reader.Text(of + ": name", criterion.check->name)},
               {"zero_at",
                reader.Number(of + ": zero_at", criterion.check->zero_at)},
               {"saturate_at", reader.Number(of + ": saturate_at",
                                             criterion.check->saturate_at)}});
        }}});
  return criterion;
}

Rubric ReadRubric(Reader& reader, const YAML::Node& node) {
  Rubric rubric;
  reader.Map(
      node, "rubric",
      {{"id", reader.Text("id", rubric.id)},
       {"scope", reader.Text("scope", rubric.scope)},
       {"aggregation",
        reader.Enum("aggregation", AggregationNames(), rubric.aggregation)},
       {"scale", reader.Enum("scale", ScaleNames(), rubric.scale)},
       {"criteria", [&](const YAML::Node& list) {
          if (list.IsNull()) return;
          if (!list.IsSequence()) {
            return reader.Problem(list, "criteria: expected a list");
          }
          for (const YAML::Node& item : list) {
            const YAML::Node id = item.IsMap() ? item["id"] : YAML::Node();
            const std::string name =
                id.IsDefined() && id.IsScalar()
                    ? id.Scalar()
                    : absl::StrCat(rubric.criteria.size() + 1);
            rubric.criteria.push_back(
                ReadCriterion(reader, item, "criterion " + name));
          }
        }}});
  return rubric;
}

std::string Quote(const std::string& text) {
  std::string quoted = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (c == '\n') {
      quoted += "\\n";
    } else if (byte < 0x20 || byte == 0x7f) {
      absl::StrAppendFormat(&quoted, "\\x%02x", static_cast<int>(byte));
    } else {
      quoted += c;
    }
  }
  return quoted + "\"";
}

// The shortest text that reads back to the same number.
std::string Shortest(double value) {
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value);
  return std::string(buffer, end.ptr);
}

template <typename E>
const std::string& NameOf(const Names& names, E value) {
  return names[static_cast<size_t>(value)];
}

}  // namespace

absl::StatusOr<Rubric> ParseYaml(const std::string& yaml) {
  if (yaml.size() > kMaxBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a rubric may have ", kMaxBytes, " bytes, this has ", yaml.size()));
  }
  // yaml-cpp reports by exception.
  try {
    Reader reader;
    Rubric rubric = ReadRubric(reader, YAML::Load(yaml));
    if (!reader.problems().empty()) {
      return absl::InvalidArgumentError(absl::StrJoin(reader.problems(), "\n"));
    }
    return rubric;
  } catch (const YAML::Exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(
        "line ", error.mark.line + 1, ": not valid YAML: ", error.msg));
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError(error.what());
  }
}

std::string ToYaml(const Rubric& rubric) {
  std::string yaml = absl::StrCat(
      "id: ", Quote(rubric.id), "\nscope: ", Quote(rubric.scope),
      "\naggregation: ", NameOf(AggregationNames(), rubric.aggregation),
      "\nscale: ", NameOf(ScaleNames(), rubric.scale), "\ncriteria:");
  if (rubric.criteria.empty()) yaml += " []";
  yaml += "\n";
  for (const Criterion& one : rubric.criteria) {
    absl::StrAppend(
        &yaml, "  - id: ", Quote(one.id), "\n    title: ", Quote(one.title),
        "\n    text: ", Quote(one.text), "\n    minimum: ", one.minimum,
        "\n    maximum: ", one.maximum, "\n    weight: ", Shortest(one.weight),
        "\n    polarity: ", NameOf(PolarityNames(), one.polarity),
        "\n    tier: ", NameOf(TierNames(), one.tier),
        "\n    mode: ", NameOf(ModeNames(), one.mode));
    absl::StrAppend(
        &yaml, "\n    executor: ", NameOf(ExecutorNames(), one.executor), "\n");
    if (!one.levels.empty()) yaml += "    levels:\n";
    for (const auto& [score, text] : one.levels) {
      absl::StrAppend(&yaml, "      ", score, ": ", Quote(text), "\n");
    }
    if (one.check.has_value()) {
      absl::StrAppend(&yaml, "    check: {name: ", Quote(one.check->name),
                      ", zero_at: ", Shortest(one.check->zero_at),
                      ", saturate_at: ", Shortest(one.check->saturate_at),
                      "}\n");
    }
  }
  return yaml;
}

std::string Sha256Of(const Rubric& rubric) { return Sha256Hex(ToYaml(rubric)); }

}  // namespace mpo::rubric
