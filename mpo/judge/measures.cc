// SPDX-License-Identifier: Apache-2.0
#include "mpo/judge/measures.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstddef>
#include <set>
#include <string_view>
#include <utility>

#include "mpo/judge/equation.h"

namespace mpo::judge {
namespace {

constexpr std::array<std::string_view, 72> kStopWords = {
    "the",  "a",     "an",   "of",   "to",    "and",  "in",    "that",
    "is",   "are",   "it",   "for",  "on",    "with", "as",    "by",
    "this", "be",    "or",   "can",  "we",    "our",  "their", "its",
    "they", "have",  "has",  "at",   "from",  "not",  "will",  "but",
    "you",  "your",  "more", "than", "which", "who",  "these", "those",
    "i",    "was",   "were", "also", "into",  "such", "about", "how",
    "all",  "there", "what", "when", "them",  "may",  "one",   "us",
    "do",   "if",    "so",   "no",   "out",   "up",   "his",   "her",
    "he",   "she",   "he's", "been", "being", "make", "makes", "made"};
constexpr std::array<std::string_view, 10> kConnectives = {
    "because", "therefore",    "since",    "thus",        "hence",
    "so",      "consequently", "moreover", "furthermore", "thereby"};
constexpr std::array<std::string_view, 16> kEmphatics = {
    "must",     "essential", "crucial",    "vital", "important", "need",
    "truly",    "very",      "absolutely", "every", "should",    "necessary",
    "critical", "never",     "always",     "key"};
constexpr std::array<std::string_view, 9> kAppeals = {
    "grader",      "rubric", "full marks", "high score", "top score",
    "best answer", "judge",  "points",     "top marks"};

constexpr size_t kStemLetters = 5;
constexpr size_t kReasonWindow = 9;   // Words after a reasoning word.
constexpr size_t kReasonContent = 3;  // New content words that make a reason.

using Words = std::vector<std::string>;

template <typename List>
bool In(const List& list, const std::string& word) {
  return std::find(list.begin(), list.end(), word) != list.end();
}

bool IsSpace(char c) { return std::isspace(static_cast<unsigned char>(c)); }

std::string Lower(std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  return lower;
}

Words WordsOf(std::string_view text) {
  Words words;
  std::string word;
  for (const char c : Lower(text) + ' ') {
    if ((c >= 'a' && c <= 'z') || c == '\'') {
      word += c;
    } else if (!word.empty()) {
      words.push_back(std::move(word));
      word.clear();
    }
  }
  return words;
}

std::string_view Trimmed(std::string_view text) {
  while (!text.empty() && IsSpace(text.front())) text.remove_prefix(1);
  while (!text.empty() && IsSpace(text.back())) text.remove_suffix(1);
  return text;
}

// Cut after ".", "!" or "?", perhaps with a closing quote, before space.
std::vector<std::string_view> SentencesOf(std::string_view text) {
  std::vector<std::string_view> sentences;
  size_t begin = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '.' && text[i] != '!' && text[i] != '?') continue;
    size_t end = i + 1;
    while (end < text.size() && (text[end] == '"' || text[end] == '\'')) ++end;
    if (end < text.size() && !IsSpace(text[end])) continue;
    sentences.push_back(Trimmed(text.substr(begin, end - begin)));
    begin = end;
    i = end - 1;
  }
  const std::string_view rest = Trimmed(text.substr(begin));
  if (!rest.empty()) sentences.push_back(rest);
  return sentences;
}

bool IsFinished(std::string_view text) {
  text = Trimmed(text);
  while (!text.empty() && (text.back() == '"' || text.back() == '\'')) {
    text.remove_suffix(1);
  }
  return !text.empty() &&
         (text.back() == '.' || text.back() == '!' || text.back() == '?');
}

std::string Stem(const std::string& word) {
  return word.substr(0, kStemLetters);
}

std::set<std::string> KeyStems(const Prompt& prompt) {
  std::set<std::string> stems;
  for (const std::string& term : prompt.key_terms) {
    for (const std::string& word : WordsOf(term)) stems.insert(Stem(word));
  }
  return stems;
}

double Share(double part, size_t whole) {
  return part / static_cast<double>(std::max<size_t>(1, whole));
}

void MeasureWords(const Words& words, Measures& out) {
  double connectives = 0;
  double emphatics = 0;
  std::set<std::string> distinct(words.begin(), words.end());
  std::set<std::string> distinct_connectives;
  std::map<std::string, int> content;
  size_t content_words = 0;
  for (const std::string& word : words) {
    if (In(kConnectives, word)) {
      ++connectives;
      distinct_connectives.insert(word);
    }
    emphatics += In(kEmphatics, word) ? 1 : 0;
    if (!In(kStopWords, word)) {
      ++content[word];
      ++content_words;
    }
  }
  int top = 0;
  for (const auto& [word, count] : content) top = std::max(top, count);
  std::set<std::pair<std::string, std::string>> pairs;
  for (size_t i = 0; i + 1 < words.size(); ++i) {
    pairs.insert({words[i], words[i + 1]});
  }
  const size_t all_pairs = words.empty() ? 0 : words.size() - 1;
  out["words"] = static_cast<double>(words.size());
  out["connective_count"] = connectives;
  out["distinct_connectives"] =
      static_cast<double>(distinct_connectives.size());
  out["connective_density"] = Share(connectives, words.size());
  out["emphatic_count"] = emphatics;
  out["emphatic_density"] = Share(emphatics, words.size());
  out["distinct_word_share"] =
      Share(static_cast<double>(distinct.size()), words.size());
  out["top_word_share"] = Share(top, content_words);
  out["repeated_bigrams"] =
      all_pairs == 0 ? 0.0
                     : 1 - Share(static_cast<double>(pairs.size()), all_pairs);
}

void MeasureKeyTerms(const Words& words, const std::set<std::string>& keys,
                     Measures& out) {
  if (keys.empty()) return;
  double mentions = 0;
  std::set<std::string> covered;
  for (const std::string& word : words) {
    if (keys.count(Stem(word)) == 0) continue;
    ++mentions;
    covered.insert(Stem(word));
  }
  out["key_term_count"] = mentions;
  out["key_term_coverage"] =
      Share(static_cast<double>(covered.size()), keys.size());
  out["key_term_density"] = Share(mentions, words.size());
}

// A reason: a reasoning word after which the sentence brings new content.
double Reasons(const std::vector<std::string_view>& sentences,
               const std::set<std::string>& keys) {
  std::set<std::string> used;
  double reasons = 0;
  for (const std::string_view sentence : sentences) {
    const Words words = WordsOf(sentence);
    for (size_t i = 0; i < words.size(); ++i) {
      if (!In(kConnectives, words[i])) continue;
      std::set<std::string> fresh;
      for (size_t j = i + 1; j < std::min(words.size(), i + 1 + kReasonWindow);
           ++j) {
        const std::string& word = words[j];
        if (!In(kStopWords, word) && !In(kConnectives, word) &&
            !In(kEmphatics, word) && keys.count(Stem(word)) == 0 &&
            used.count(word) == 0) {
          fresh.insert(word);
        }
      }
      if (fresh.size() < kReasonContent) continue;
      ++reasons;
      used.insert(fresh.begin(), fresh.end());
    }
  }
  return reasons;
}

bool StartsLike(const std::string& text, std::string_view start) {
  return text.compare(0, start.size(), start) == 0 &&
         (text.size() == start.size() ||
          !std::isalpha(static_cast<unsigned char>(text[start.size()])));
}

void MeasureSentences(const std::string& response,
                      const std::set<std::string>& keys, Measures& out) {
  const std::vector<std::string_view> sentences = SentencesOf(response);
  const std::set<std::string_view> distinct(sentences.begin(), sentences.end());
  double examples = 0;
  for (const std::string_view sentence : distinct) {
    const std::string lower = Lower(sentence);
    examples += lower.find("for example") != std::string::npos ||
                        lower.find("for instance") != std::string::npos
                    ? 1
                    : 0;
  }
  double conclusion = 0;
  if (!sentences.empty()) {
    const std::string last = Lower(sentences.back());
    for (const char* start :
         {"therefore", "thus", "so", "in short", "in conclusion"}) {
      if (StartsLike(last, start)) conclusion = 1;
    }
  }
  size_t words = 0;
  for (const std::string_view sentence : sentences) {
    words += WordsOf(sentence).size();
  }
  out["reasons"] = Reasons(sentences, keys);
  out["examples"] = examples;
  out["conclusion"] = conclusion;
  out["distinct_sentences"] =
      sentences.empty()
          ? 0.0
          : Share(static_cast<double>(distinct.size()), sentences.size());
  out["sentence_length"] = Share(static_cast<double>(words), sentences.size());
  out["finished"] = IsFinished(response) ? 1 : 0;
  out["exclamations"] =
      static_cast<double>(std::count(response.begin(), response.end(), '!'));
  const std::string lower = Lower(response);
  double appeals = 0;
  for (const std::string_view appeal : kAppeals) {
    appeals += lower.find(appeal) != std::string::npos ? 1 : 0;
  }
  out["grader_appeals"] = appeals;
}

void MeasureArithmetic(const MeasuredText& text, Measures& out) {
  const std::optional<Equation> equation = FindEquation(*text.response);
  out["number_given"] =
      std::any_of(text.response->begin(), text.response->end(),
                  [](unsigned char c) { return std::isdigit(c); })
          ? 1
          : 0;
  out["equation_shown"] = equation.has_value() ? 1 : 0;
  out["equation_holds"] = equation.has_value() && Holds(*equation) ? 1 : 0;
}

using Trigrams = std::set<std::array<std::string, 3>>;

Trigrams TrigramsOf(const Words& words) {
  Trigrams trigrams;
  for (size_t i = 0; i + 2 < words.size(); ++i) {
    trigrams.insert({words[i], words[i + 1], words[i + 2]});
  }
  return trigrams;
}

// Share of each response's trigrams that a response to another prompt has.
void MeasureCrossDuplication(const std::vector<MeasuredText>& batch,
                             const std::vector<Words>& words,
                             std::vector<Measures>& out) {
  std::vector<Trigrams> trigrams;
  // Prompts that use a trigram; two are enough to know.
  std::map<std::array<std::string, 3>, std::set<std::string>> prompts;
  for (size_t i = 0; i < batch.size(); ++i) {
    trigrams.push_back(TrigramsOf(words[i]));
    for (const auto& trigram : trigrams.back()) {
      std::set<std::string>& users = prompts[trigram];
      if (users.size() < 2) users.insert(batch[i].prompt->id);
    }
  }
  for (size_t i = 0; i < batch.size(); ++i) {
    size_t shared = 0;
    for (const auto& trigram : trigrams[i]) {
      const std::set<std::string>& users = prompts.at(trigram);
      shared += users.size() - users.count(batch[i].prompt->id) > 0 ? 1 : 0;
    }
    out[i]["cross_duplication"] =
        Share(static_cast<double>(shared), trigrams[i].size());
  }
}

}  // namespace

const std::vector<MeasureSpec>& MeasureCatalogue() {
  static const auto* const catalogue = new std::vector<MeasureSpec>{
      {"words", "number of words"},
      {"key_term_count", "mentions of the prompt's key terms"},
      {"key_term_coverage", "share of the key terms that are mentioned, 0..1"},
      {"key_term_density", "mentions of key terms / words"},
      {"connective_count", "reasoning words (because, therefore, so, ...)"},
      {"distinct_connectives", "different reasoning words"},
      {"connective_density", "reasoning words / words"},
      {"reasons",
       "reasoning words followed within 9 words of the sentence by at least 3 "
       "content words that no earlier reason used"},
      {"emphatic_count", "strong words (must, essential, should, ...)"},
      {"emphatic_density", "strong words / words"},
      {"distinct_word_share", "different words / words"},
      {"top_word_share",
       "share of the most frequent content word among content words"},
      {"repeated_bigrams", "1 - different word pairs / word pairs"},
      {"cross_duplication",
       "share of word triples that responses to other prompts of the batch "
       "use too"},
      {"base_logprob",
       "mean log-prob of the response under the frozen base, nats a token"},
      {"finished", "1 where the text ends with . ! or ?"},
      {"sentence_length", "mean words of a sentence"},
      {"distinct_sentences", "different sentences / sentences"},
      {"examples",
       "different sentences with \"for example\" or \"for "
       "instance\""},
      {"conclusion",
       "1 where the last sentence begins with therefore, thus, so, in short "
       "or in conclusion"},
      {"exclamations", "exclamation marks"},
      {"grader_appeals",
       "how many phrases address the grader (grader, rubric, full marks, ...)"},
      {"number_given", "1 where the text has a digit"},
      {"equation_shown", "1 where the text shows a + b = c (also -, *, x)"},
      {"equation_holds", "1 where the first such equation is true"}};
  return *catalogue;
}

bool IsMeasure(const std::string& name) {
  const auto& catalogue = MeasureCatalogue();
  return std::any_of(
      catalogue.begin(), catalogue.end(),
      [&](const MeasureSpec& spec) { return spec.name == name; });
}

std::vector<Measures> MeasureBatch(const std::vector<MeasuredText>& batch) {
  std::vector<Measures> measures(batch.size());
  std::vector<Words> words;
  for (size_t i = 0; i < batch.size(); ++i) {
    const MeasuredText& text = batch[i];
    words.push_back(WordsOf(*text.response));
    const std::set<std::string> keys = KeyStems(*text.prompt);
    MeasureWords(words[i], measures[i]);
    MeasureKeyTerms(words[i], keys, measures[i]);
    MeasureSentences(*text.response, keys, measures[i]);
    MeasureArithmetic(text, measures[i]);
    if (text.base_mean_logprob.has_value()) {
      measures[i]["base_logprob"] = *text.base_mean_logprob;
    }
  }
  MeasureCrossDuplication(batch, words, measures);
  return measures;
}

}  // namespace mpo::judge
