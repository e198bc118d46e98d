// SPDX-License-Identifier: Apache-2.0
#include "mpo/evaluation/gold.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <cstddef>
#include <set>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "mpo/base/status_macros.h"
#include "mpo/evaluation/answers.h"

namespace mpo::evaluation {
namespace {

// Function, reasoning and emphatic words: never new content.
constexpr std::array<std::string_view, 92> kNoContent = {
    "about",      "absolutely", "also",    "always",    "because",
    "been",       "being",      "could",   "critical",  "crucial",
    "does",       "essential",  "every",   "from",      "furthermore",
    "have",       "having",     "hence",   "here",      "into",
    "just",       "made",       "make",    "makes",     "more",
    "moreover",   "most",       "must",    "necessary", "need",
    "never",      "only",       "other",   "over",      "should",
    "since",      "some",       "such",    "than",      "that",
    "their",      "them",       "then",    "there",     "thereby",
    "therefore",  "these",      "they",    "this",      "those",
    "through",    "thus",       "truly",   "under",     "very",
    "vital",      "were",       "what",    "when",      "where",
    "which",      "while",      "whose",   "will",      "with",
    "would",      "your",       "yours",   "ours",      "consequently",
    "important",  "upon",       "onto",    "within",    "without",
    "each",       "both",       "many",    "much",      "same",
    "even",       "ever",       "still",   "really",    "shall",
    "after",      "before",     "between", "again",     "itself",
    "themselves", "yourself"};

constexpr size_t kStemLetters = 5;

std::string Stem(const std::string& word) {
  return word.substr(0, kStemLetters);
}

bool IsContent(const std::string& word) {
  return word.size() >= 4 && std::find(kNoContent.begin(), kNoContent.end(),
                                       word) == kNoContent.end();
}

std::vector<std::string> Words(std::string_view text) {
  std::vector<std::string> words;
  std::string word;
  for (const char raw : text) {
    const char c =
        static_cast<char>(std::tolower(static_cast<unsigned char>(raw)));
    if ((c >= 'a' && c <= 'z') || c == '\'') {
      word += c;
    } else if (!word.empty()) {
      words.push_back(std::move(word));
      word.clear();
    }
  }
  if (!word.empty()) words.push_back(std::move(word));
  return words;
}

bool IsSpace(char c) { return std::isspace(static_cast<unsigned char>(c)); }

// Pieces that end where a full stop, "!" or "?", perhaps with a closing quote,
// is followed by space.
std::vector<std::string_view> Sentences(std::string_view text) {
  std::vector<std::string_view> sentences;
  size_t begin = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '.' && text[i] != '!' && text[i] != '?') continue;
    size_t end = i + 1;
    while (end < text.size() && (text[end] == '"' || text[end] == '\'')) ++end;
    if (end < text.size() && !IsSpace(text[end])) continue;
    sentences.push_back(text.substr(begin, end - begin));
    begin = end;
    i = end - 1;
  }
  std::string_view rest = text.substr(begin);
  while (!rest.empty() && IsSpace(rest.front())) rest.remove_prefix(1);
  if (!rest.empty()) sentences.push_back(rest);
  return sentences;
}

bool IsFinished(std::string_view sentence) {
  while (!sentence.empty() &&
         (sentence.back() == '"' || sentence.back() == '\'' ||
          IsSpace(sentence.back()))) {
    sentence.remove_suffix(1);
  }
  return !sentence.empty() &&
         (sentence.back() == '.' || sentence.back() == '!' ||
          sentence.back() == '?');
}

double Logistic(double x) { return 1.0 / (1.0 + std::exp(-x)); }

double Ramp(double x, double zero, double full) {
  return std::clamp((x - zero) / (full - zero), 0.0, 1.0);
}

absl::StatusOr<double> CompressedShare(const std::string& text) {
  if (text.empty()) return 0.0;
  uLongf size = compressBound(text.size());
  std::vector<Bytef> compressed(size);
  const int code =
      compress2(compressed.data(), &size,
                reinterpret_cast<const Bytef*>(text.data()), text.size(), 9);
  if (code != Z_OK) {
    return absl::InternalError(absl::StrCat("zlib: compress2 returned ", code));
  }
  return static_cast<double>(size) / static_cast<double>(text.size());
}

std::set<std::string> KeyStems(const Prompt& prompt) {
  std::set<std::string> stems;
  for (const std::string& term : prompt.key_terms) {
    for (const std::string& word : Words(term)) stems.insert(Stem(word));
  }
  return stems;
}

double ContentWords(const std::vector<std::string>& words,
                    const std::set<std::string>& keys,
                    const GoldConstants& constants) {
  std::set<std::string> distinct;
  for (const std::string& word : words) {
    if (IsContent(word) && keys.count(Stem(word)) == 0) distinct.insert(word);
  }
  return std::min(
      1.0, static_cast<double>(distinct.size()) / constants.content_words_full);
}

double KeyTermsOnce(const std::vector<std::string>& words,
                    const std::set<std::string>& keys,
                    const GoldConstants& constants) {
  double covered = 0;
  double most = 0;
  for (const std::string& key : keys) {
    const double mentions = static_cast<double>(
        std::count_if(words.begin(), words.end(),
                      [&](const std::string& w) { return Stem(w) == key; }));
    covered += mentions > 0 ? 1 : 0;
    most = std::max(most, mentions);
  }
  covered /= static_cast<double>(keys.size());
  return covered *
         std::min(1.0, constants.mentions_full / std::max(1.0, 1.5 * most));
}

double SentenceShape(const std::string& response, size_t words,
                     const GoldConstants& constants) {
  size_t formed = 0;
  for (const std::string_view sentence : Sentences(response)) {
    const size_t n = Words(sentence).size();
    if (IsFinished(sentence) &&
        n >= static_cast<size_t>(constants.sentence_words_least) &&
        n <= static_cast<size_t>(constants.sentence_words_most)) {
      formed += n;
    }
  }
  return words == 0 ? 0.0
                    : static_cast<double>(formed) / static_cast<double>(words);
}

double AboutSubject(double gain, const GoldConstants& constants) {
  return Logistic((gain - constants.subject_middle) / constants.subject_width) *
         Logistic((constants.copy_middle - gain) / constants.copy_width);
}

absl::StatusOr<GoldScore> EssayGold(const Prompt& prompt,
                                    const std::string& response,
                                    const BaseStatistics& statistics,
                                    const GoldConstants& constants) {
  const std::set<std::string> keys = KeyStems(prompt);
  if (keys.empty() || prompt.subject.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("prompt ", prompt.id,
                     ": gold of task essay needs a subject and key terms"));
  }
  if (!std::isfinite(statistics.worst_window_surprise) ||
      !std::isfinite(statistics.subject_gain)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "prompt ", prompt.id, ": base statistics must be finite, got surprise ",
        statistics.worst_window_surprise, " and subject gain ",
        statistics.subject_gain));
  }
  MPO_ASSIGN_OR_RETURN(const double share, CompressedShare(response));
  const std::vector<std::string> words = Words(response);
  GoldScore gold;
  gold.parts = {
      {"natural", words.empty() ? 0.0
                                : Logistic((constants.surprise_middle -
                                            statistics.worst_window_surprise) /
                                           constants.surprise_width)},
      {"not_redundant", Ramp(share, constants.zlib_zero, constants.zlib_full)},
      {"new_content", ContentWords(words, keys, constants)},
      {"key_terms_once", KeyTermsOnce(words, keys, constants)},
      {"sentence_shape", SentenceShape(response, words.size(), constants)},
      {"about_subject",
       words.empty() ? 0.0 : AboutSubject(statistics.subject_gain, constants)}};
  double logs = 0;
  for (const auto& [name, part] : gold.parts) {
    logs += std::log(std::max(constants.part_floor, part));
  }
  gold.value = 10 * std::exp(logs / static_cast<double>(gold.parts.size()));
  return gold;
}

}  // namespace

absl::StatusOr<GoldScore> Gold(const Prompt& prompt,
                               const std::string& response,
                               const BaseStatistics& statistics,
                               const GoldConstants& constants) {
  if (prompt.task == "essay") {
    return EssayGold(prompt, response, statistics, constants);
  }
  if (prompt.task == "math") {
    auto correct = IsCorrect(prompt.reference, response);
    if (!correct.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "prompt ", prompt.id, ": ", std::string(correct.status().message())));
    }
    const double share = *correct ? 1.0 : 0.0;
    return GoldScore{10 * share, {{"correct", share}}};
  }
  return absl::InvalidArgumentError(
      absl::StrCat("prompt ", prompt.id, ": no gold measure for task \"",
                   prompt.task, "\"; known are essay and math"));
}

}  // namespace mpo::evaluation
