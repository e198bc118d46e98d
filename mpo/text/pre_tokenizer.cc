// SPDX-License-Identifier: Apache-2.0
#include "mpo/text/pre_tokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "mpo/base/status_macros.h"
#include "mpo/text/unicode_classes.h"
#include "mpo/text/utf8.h"

namespace mpo::text {
namespace {

using nlohmann::json;

constexpr size_t kMaxPatternBytes = 4096;
constexpr size_t kMaxSteps = 16;
constexpr uint32_t kMatchLimit = 10'000'000;
constexpr uint32_t kHeapLimitKib = 256 * 1024;

// The expression inside ByteLevel (GPT-2's).
constexpr char kByteLevelPattern[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|"
    "\\s+(?!\\S)|\\s+";

struct FreeCode {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
};
struct FreeMatch {
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};
struct FreeContext {
  void operator()(pcre2_match_context* context) const {
    pcre2_match_context_free(context);
  }
};
using Code = std::unique_ptr<pcre2_code, FreeCode>;

absl::StatusOr<Code> Compile(const std::string& pattern, bool literal) {
  if (pattern.empty() || pattern.size() > kMaxPatternBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("pre_tokenizer: pattern of ", pattern.size(),
                     " bytes, expected 1 to ", kMaxPatternBytes));
  }
  int error = 0;
  PCRE2_SIZE offset = 0;
  // PCRE2 refuses the other options together with LITERAL.
  const uint32_t options =
      PCRE2_UTF |
      (literal ? PCRE2_LITERAL : PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C);
  Code code(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()),
                          pattern.size(), options, &error, &offset, nullptr));
  if (code == nullptr) {
    PCRE2_UCHAR message[256] = {};
    pcre2_get_error_message(error, message, sizeof(message));
    return absl::InvalidArgumentError(
        absl::StrCat("pre_tokenizer: pattern \"", pattern, "\" at offset ",
                     offset, ": ", reinterpret_cast<const char*>(message)));
  }
  pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE);  // Optional speed.
  return code;
}

// [begin, end) and whether the pattern matched it; gaps are included.
struct Piece {
  size_t begin;
  size_t end;
  bool matched;
};

absl::StatusOr<std::vector<Piece>> FindPieces(const pcre2_code* code,
                                              std::string_view text) {
  std::unique_ptr<pcre2_match_data, FreeMatch> data(
      pcre2_match_data_create_from_pattern(code, nullptr));
  std::unique_ptr<pcre2_match_context, FreeContext> context(
      pcre2_match_context_create(nullptr));
  pcre2_set_match_limit(context.get(), kMatchLimit);
  pcre2_set_heap_limit(context.get(), kHeapLimitKib);
  std::vector<Piece> pieces;
  size_t done = 0;
  size_t at = 0;
  while (at < text.size()) {
    const auto match = [&](uint32_t options) {
      return pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()),
                         text.size(), at, PCRE2_NO_UTF_CHECK | options,
                         data.get(), context.get());
    };
    int rc = match(0);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) rc = match(PCRE2_NO_JIT);
    if (rc == PCRE2_ERROR_NOMATCH) break;
    if (rc < 0) {
      return absl::ResourceExhaustedError(
          absl::StrCat("pre_tokenizer: matching stopped at byte ", at, " of ",
                       text.size(), ", pcre2 error ", rc));
    }
    const PCRE2_SIZE* range = pcre2_get_ovector_pointer(data.get());
    if (range[1] <= range[0]) {  // Empty match: step over one character.
      DecodedChar c;
      DecodeChar(text.substr(at), c);
      at += c.length;
      continue;
    }
    if (range[0] > done) pieces.push_back({done, range[0], false});
    pieces.push_back({range[0], range[1], true});
    at = done = range[1];
  }
  if (done < text.size()) pieces.push_back({done, text.size(), false});
  return pieces;
}

absl::StatusOr<bool> BoolField(const json& spec, const char* key,
                               bool fallback) {
  const auto found = spec.find(key);
  if (found == spec.end() || found->is_null()) return fallback;
  if (!found->is_boolean()) {
    return absl::InvalidArgumentError(absl::StrCat("pre_tokenizer: ", key,
                                                   " must be a boolean, got ",
                                                   found->type_name()));
  }
  return found->get<bool>();
}

// Cuts `word` at numbers: each one alone, or runs of them.
void SplitDigits(std::string_view word, bool individual,
                 std::vector<std::string>& out) {
  size_t begin = 0;
  bool in_number = false;
  for (size_t at = 0; at < word.size();) {
    DecodedChar c;
    DecodeChar(word.substr(at), c);
    const bool number = IsNumber(c.code_point);
    if (at > begin && (number != in_number || (number && individual))) {
      out.emplace_back(word.substr(begin, at - begin));
      begin = at;
    }
    in_number = number;
    at += c.length;
  }
  if (begin < word.size()) out.emplace_back(word.substr(begin));
}

}  // namespace

// One pre-tokenizer of the sequence.
struct PreTokenizer::Step {
  enum class Kind { kDigits, kPattern };
  Kind kind = Kind::kPattern;
  bool individual_digits = false;
  bool prefix_space = false;
  bool keep_matches = true;
  bool keep_gaps = true;
  Code code;  // Null: the word stays whole.

  absl::Status Run(std::string word, std::vector<std::string>& out) const {
    if (kind == Kind::kDigits) {
      SplitDigits(word, individual_digits, out);
      return absl::OkStatus();
    }
    if (prefix_space && word[0] != ' ') word.insert(0, 1, ' ');
    if (code == nullptr) {
      out.push_back(std::move(word));
      return absl::OkStatus();
    }
    MPO_ASSIGN_OR_RETURN(const std::vector<Piece> pieces,
                         FindPieces(code.get(), WithKnownClasses(word)));
    for (const Piece& piece : pieces) {
      if (piece.matched ? keep_matches : keep_gaps) {
        out.push_back(word.substr(piece.begin, piece.end - piece.begin));
      }
    }
    return absl::OkStatus();
  }

  absl::Status ReadSplit(const json& spec);
};

absl::Status PreTokenizer::Step::ReadSplit(const json& spec) {
  const auto pattern = spec.find("pattern");
  const bool is_object = pattern != spec.end() && pattern->is_object();
  const bool regex = is_object && pattern->contains("Regex");
  const char* key = regex ? "Regex" : "String";
  if (!is_object || !pattern->contains(key) || !(*pattern)[key].is_string()) {
    return absl::InvalidArgumentError(
        "pre_tokenizer: Split needs a pattern with Regex or String");
  }
  MPO_ASSIGN_OR_RETURN(code, Compile((*pattern)[key].get<std::string>(),
                                     /*literal=*/!regex));
  const auto behavior = spec.find("behavior");
  const std::string name = behavior != spec.end() && behavior->is_string()
                               ? behavior->get<std::string>()
                               : "(none)";
  MPO_ASSIGN_OR_RETURN(const bool invert, BoolField(spec, "invert", false));
  if (name == "Removed") {
    (invert ? keep_gaps : keep_matches) = false;
  } else if (name != "Isolated") {
    return absl::UnimplementedError(
        absl::StrCat("pre_tokenizer: Split behavior \"", name,
                     "\", known are Isolated and Removed"));
  }
  return absl::OkStatus();
}

PreTokenizer::PreTokenizer() = default;
PreTokenizer::PreTokenizer(PreTokenizer&&) noexcept = default;
PreTokenizer& PreTokenizer::operator=(PreTokenizer&&) noexcept = default;
PreTokenizer::~PreTokenizer() = default;

absl::StatusOr<PreTokenizer> PreTokenizer::Parse(const json& spec) {
  PreTokenizer result;
  std::vector<json> steps = {spec};
  if (spec.is_object() && spec.value("type", json()) == "Sequence") {
    const auto list = spec.find("pretokenizers");
    if (list == spec.end() || !list->is_array()) {
      return absl::InvalidArgumentError(
          "pre_tokenizer: Sequence needs a list of pretokenizers");
    }
    steps = list->get<std::vector<json>>();
  }
  if (steps.empty() || steps.size() > kMaxSteps) {
    return absl::InvalidArgumentError(absl::StrCat(
        "pre_tokenizer: ", steps.size(), " steps, expected 1 to ", kMaxSteps));
  }
  for (size_t i = 0; i < steps.size(); ++i) {
    MPO_RETURN_IF_ERROR(result.Add(steps[i], i + 1 == steps.size()));
  }
  return result;
}

absl::Status PreTokenizer::Add(const json& spec, bool last) {
  if (!spec.is_object() || !spec.contains("type") ||
      !spec["type"].is_string()) {
    return absl::InvalidArgumentError(
        absl::StrCat("pre_tokenizer: expected an object with a type, got ",
                     spec.type_name()));
  }
  const std::string type = spec["type"].get<std::string>();
  auto step = std::make_unique<Step>();
  const bool known = type == "Digits" || type == "Split" || type == "ByteLevel";
  if (!known) {
    return absl::UnimplementedError(
        absl::StrCat("pre_tokenizer: unknown type \"", type,
                     "\", known are Digits, Split, ByteLevel, Sequence"));
  }
  if ((type == "ByteLevel") != last) {
    return absl::UnimplementedError(
        absl::StrCat("pre_tokenizer: type \"", type, "\" ",
                     last ? "as the last step" : "before the last step",
                     "; ByteLevel must be the last and only there"));
  }
  if (type == "Digits") {
    step->kind = Step::Kind::kDigits;
    MPO_ASSIGN_OR_RETURN(step->individual_digits,
                         BoolField(spec, "individual_digits", false));
  } else if (type == "Split") {
    MPO_RETURN_IF_ERROR(step->ReadSplit(spec));
  } else {
    MPO_ASSIGN_OR_RETURN(step->prefix_space,
                         BoolField(spec, "add_prefix_space", true));
    MPO_ASSIGN_OR_RETURN(const bool regex, BoolField(spec, "use_regex", true));
    if (regex) {
      MPO_ASSIGN_OR_RETURN(step->code,
                           Compile(kByteLevelPattern, /*literal=*/false));
    }
  }
  steps_.push_back(std::move(step));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> PreTokenizer::Split(
    std::string_view text) const {
  std::vector<std::string> words;
  if (!text.empty()) words.emplace_back(text);
  for (const auto& step : steps_) {
    std::vector<std::string> next;
    for (std::string& word : words) {
      MPO_RETURN_IF_ERROR(step->Run(std::move(word), next));
    }
    words = std::move(next);
  }
  return words;
}

}  // namespace mpo::text
