// SPDX-License-Identifier: Apache-2.0
#include "mpo/config/run_config.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <google/protobuf/util/message_differencer.h>
#include <yaml-cpp/yaml.h>

#include <exception>
#include <map>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "mpo/base/digest.h"
#include "mpo/base/file.h"
#include "mpo/base/status_macros.h"
#include "mpo/config/scalar.h"
#include "mpo/config/v1/rule.pb.h"

namespace mpo::config {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

constexpr uint64_t kMaxFileBytes = uint64_t{1} << 20;

// Sections that mean something by being left out.
bool MayBeAbsent(const FieldDescriptor& field) {
  return field.message_type() == v1::Lora::descriptor();
}

std::string Child(const std::string& path, const std::string& key) {
  return path.empty() ? key : path + "." + key;
}

// Walks YAML and message side by side and collects every problem.
class Reader {
 public:
  Reader(std::string source, std::set<std::string> overridden)
      : source_(std::move(source)), overridden_(std::move(overridden)) {}

  void Read(const YAML::Node& node, const std::string& path, Message& message);

  const std::vector<std::string>& problems() const { return problems_; }
  std::set<std::string> TakeGiven() { return std::move(given_); }

 private:
  void ReadField(const YAML::Node& node, const std::string& path,
                 const FieldDescriptor& field, Message& message);
  void ReadSections(const YAML::Node& node, const std::string& path,
                    const FieldDescriptor& field, Message& message);
  void Complete(const YAML::Node& node, const std::string& path,
                const std::set<std::string>& seen, Message& message);
  void Problem(const YAML::Node& node, const std::string& path,
               const std::string& what);

  const std::string source_;
  const std::set<std::string> overridden_;
  std::vector<std::string> problems_;
  std::set<std::string> given_;
};

void Reader::Problem(const YAML::Node& node, const std::string& path,
                     const std::string& what) {
  std::string where = source_;
  if (overridden_.count(path) > 0) {
    where = "--set";
  } else if (node.IsDefined() && node.Mark().line >= 0) {
    absl::StrAppend(&where, ":", node.Mark().line + 1);
  }
  problems_.push_back(
      absl::StrCat(where, ": ", path, path.empty() ? "" : ": ", what));
}

void Reader::Read(const YAML::Node& node, const std::string& path,
                  Message& message) {
  std::set<std::string> seen;
  if (node.IsDefined() && !node.IsNull() && !node.IsMap()) {
    Problem(node, path, "expected a section with keys");
    return;
  }
  if (node.IsDefined() && node.IsMap()) {
    for (const auto& entry : node) {
      if (!entry.first.IsScalar()) {
        Problem(entry.first, path, "expected a plain word as key");
        continue;
      }
      const std::string& key = entry.first.Scalar();
      const std::string child = Child(path, key);
      const FieldDescriptor* field =
          message.GetDescriptor()->FindFieldByName(key);
      if (field == nullptr) {
        std::vector<std::string> known;
        for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
          known.push_back(message.GetDescriptor()->field(i)->name());
        }
        Problem(entry.first, child,
                absl::StrCat("unknown key, expected one of ",
                             absl::StrJoin(known, ", ")));
      } else if (!seen.insert(key).second) {
        Problem(entry.first, child, "the key is given twice");
      } else {
        given_.insert(child);
        ReadField(entry.second, child, *field, message);
      }
    }
  }
  Complete(node, path, seen, message);
}

void Reader::ReadField(const YAML::Node& node, const std::string& path,
                       const FieldDescriptor& field, Message& message) {
  const v1::Rule& rule = field.options().GetExtension(v1::rule);
  if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
    if (field.is_repeated()) return ReadSections(node, path, field, message);
    if (node.IsNull() && MayBeAbsent(field)) return;
    Read(node, path,
         *message.GetReflection()->MutableMessage(&message, &field));
    return;
  }
  if (field.is_repeated()) {
    if (!node.IsSequence()) {
      Problem(node, path, "expected a list");
      return;
    }
    for (const YAML::Node& item : node) {
      const std::string problem =
          item.IsScalar() ? SetScalar(item.Scalar(), rule, field, message)
                          : "expected a list of plain values";
      if (!problem.empty()) Problem(item, path, problem);
    }
    return;
  }
  std::string problem;
  if (node.IsNull() && field.cpp_type() == FieldDescriptor::CPPTYPE_STRING) {
    problem = SetScalar("", rule, field, message);
  } else if (!node.IsScalar()) {
    problem = "expected one value";
  } else {
    problem = SetScalar(node.Scalar(), rule, field, message);
  }
  if (!problem.empty()) Problem(node, path, problem);
}

// A list of sections; nothing is an empty list.
void Reader::ReadSections(const YAML::Node& node, const std::string& path,
                          const FieldDescriptor& field, Message& message) {
  if (node.IsNull()) return;
  if (!node.IsSequence()) {
    Problem(node, path, "expected a list of sections");
    return;
  }
  int index = 0;
  for (const YAML::Node& item : node) {
    Read(item, absl::StrCat(path, "[", index++, "]"),
         *message.GetReflection()->AddMessage(&message, &field));
  }
}

// What a key is when the file does not give it.
const std::string& DefaultOf(const v1::Rule& rule, const Message& section) {
  const FieldDescriptor* preset =
      section.GetDescriptor()->FindFieldByName("preset");
  if (preset != nullptr && !rule.paper().empty() &&
      section.GetReflection()->GetString(section, preset) == "paper") {
    return rule.paper();
  }
  return rule.default_();
}

// Defaults and required keys of what the section did not give.
void Reader::Complete(const YAML::Node& node, const std::string& path,
                      const std::set<std::string>& seen, Message& message) {
  const Descriptor& type = *message.GetDescriptor();
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    if (seen.count(field.name()) > 0) continue;
    const v1::Rule& rule = field.options().GetExtension(v1::rule);
    const std::string child = Child(path, field.name());
    if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      if (MayBeAbsent(field) || field.is_repeated()) continue;
      Read(YAML::Node(YAML::NodeType::Undefined), child,
           *message.GetReflection()->MutableMessage(&message, &field));
    } else if (rule.required()) {
      Problem(node, child, "expected a value, got none");
    } else if (const std::string& text = DefaultOf(rule, message);
               !text.empty()) {
      ReadField(YAML::Load(text), child, field, message);
    }
  }
}

// Puts "a.b.c=value" into the tree; returns what is wrong, else "".
std::string Override(const std::string& text, YAML::Node root,
                     std::set<std::string>& overridden) {
  const size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0) {
    return absl::StrCat("--set: expected section.key=value, got \"", text,
                        "\"");
  }
  const std::string path = text.substr(0, equals);
  YAML::Node node = root;
  size_t begin = 0;
  while (true) {
    const size_t dot = path.find('.', begin);
    const std::string key = path.substr(begin, dot - begin);
    if (node.IsDefined() && !node.IsNull() && !node.IsMap()) {
      return absl::StrCat("--set: ", path, ": ", path.substr(0, begin),
                          " is not a section");
    }
    if (dot == std::string::npos) {
      node[key] = YAML::Load(text.substr(equals + 1));
      overridden.insert(path);
      return "";
    }
    // reset() makes `node` another handle; = would write through it.
    node.reset(YAML::Node(node[key]));
    begin = dot + 1;
  }
}

void Emit(const Message& message, int depth, std::string& yaml) {
  const Descriptor& type = *message.GetDescriptor();
  const auto& reflection = *message.GetReflection();
  const std::string indent(static_cast<size_t>(depth) * 2, ' ');
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE &&
        field.is_repeated()) {
      const int size = reflection.FieldSize(message, &field);
      if (size > 0) absl::StrAppend(&yaml, indent, field.name(), ":\n");
      for (int k = 0; k < size; ++k) {
        absl::StrAppend(&yaml, indent, "  -\n");
        Emit(reflection.GetRepeatedMessage(message, &field, k), depth + 2,
             yaml);
      }
    } else if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      if (!reflection.HasField(message, &field)) continue;
      absl::StrAppend(&yaml, indent, field.name(), ":\n");
      Emit(reflection.GetMessage(message, &field), depth + 1, yaml);
    } else if (field.is_repeated()) {
      std::vector<std::string> items;
      for (int k = 0; k < reflection.FieldSize(message, &field); ++k) {
        items.push_back(ScalarToYaml(message, field, k));
      }
      absl::StrAppend(&yaml, indent, field.name(), ": [",
                      absl::StrJoin(items, ", "), "]\n");
    } else {
      absl::StrAppend(&yaml, indent, field.name(), ": ",
                      ScalarToYaml(message, field, -1), "\n");
    }
  }
}

// What decides a run's result.
v1::RunConfig Decisive(v1::RunConfig config) {
  config.clear_mesh();
  config.mutable_run()->clear_dir();
  config.mutable_learner()->clear_ranks();
  config.mutable_learner()->clear_engines();
  return config;
}

}  // namespace

absl::StatusOr<LoadedConfig> ParseRunConfig(
    std::string_view yaml, const std::string& source,
    const std::vector<std::string>& overrides) {
  LoadedConfig loaded;
  loaded.text = std::string(yaml);
  // yaml-cpp reports by exception.
  try {
    YAML::Node root = YAML::Load(loaded.text);
    std::set<std::string> overridden;
    for (const std::string& one : overrides) {
      if (const std::string problem = Override(one, root, overridden);
          !problem.empty()) {
        return absl::InvalidArgumentError(problem);
      }
    }
    Reader reader(source, std::move(overridden));
    reader.Read(root, "", loaded.config);
    if (!reader.problems().empty()) {
      return absl::InvalidArgumentError(absl::StrJoin(reader.problems(), "\n"));
    }
    loaded.given = reader.TakeGiven();
    return loaded;
  } catch (const YAML::Exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(
        source, ":", error.mark.line + 1, ": not valid YAML: ", error.msg));
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(source, ": ", error.what()));
  }
}

absl::StatusOr<LoadedConfig> LoadRunConfig(
    const std::filesystem::path& path,
    const std::vector<std::string>& overrides) {
  MPO_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxFileBytes));
  return ParseRunConfig(text, path.string(), overrides);
}

std::string ToYaml(const v1::RunConfig& config) {
  std::string yaml;
  Emit(config, 0, yaml);
  return yaml;
}

std::string Sha256Of(const v1::RunConfig& config) {
  return Sha256Hex(ToYaml(Decisive(config)));
}

std::string DifferencesOf(const v1::RunConfig& before,
                          const v1::RunConfig& after) {
  std::string report;
  google::protobuf::util::MessageDifferencer differencer;
  differencer.ReportDifferencesToString(&report);
  differencer.Compare(Decisive(before), Decisive(after));
  // Lines of "modified: run.seed: 1 -> 2".
  std::vector<std::string> lines =
      absl::StrSplit(report, '\n', absl::SkipEmpty());
  for (std::string& line : lines) {
    if (absl::StartsWith(line, "modified: ")) line.erase(0, 10);
  }
  return absl::StrJoin(lines, "; ");
}

}  // namespace mpo::config
