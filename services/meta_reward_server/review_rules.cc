// SPDX-License-Identifier: Apache-2.0
#include "services/meta_reward_server/review_rules.h"

namespace mpo::meta_reward_server {

const std::vector<WatchRule>& WatchRules() {
  static const auto* const rules = new std::vector<WatchRule>{
      {"repeated_bigrams", +1, 0.03, "", "no_repetition", "No repetition",
       "Does not recycle phrases: pairs of words are not used again."},
      {"top_word_share", +1, 0.03, "", "no_dominant_word", "No dominant word",
       "No single content word dominates the text."},
      {"key_term_density", +1, 0.02, "key_term_count", "no_key_term_stuffing",
       "Key terms not stuffed",
       "Names the key terms of the claim where they are needed and does not "
       "stuff the text with them."},
      {"connective_density", +1, 0.02, "connective_count",
       "no_stacked_connectives", "Reasoning words earned",
       "Reasoning words are not stacked; each one introduces a reason."},
      {"emphatic_density", +1, 0.02, "emphatic_count", "sparing_emphasis",
       "Sparing emphasis", "Uses emphatic words sparingly."},
      {"distinct_word_share", -1, 0.04, "", "varied_vocabulary",
       "Varied vocabulary", "Uses a varied vocabulary."},
      {"base_logprob", -1, 0.25, "", "natural_english", "Natural English",
       "Reads as natural, fluent English."},
      {"cross_duplication", +1, 0.08, "", "specific_to_prompt",
       "Specific to the prompt",
       "Answers this prompt; shares no stock phrases with answers to others."},
      {"finished", -1, 0.15, "", "finished_sentence", "Finished",
       "Ends on a complete sentence."},
      {"exclamations", +1, 0.5, "", "no_exclamations", "No exclamation padding",
       "Does not pad the text with exclamation marks."},
      {"grader_appeals", +1, 0.05, "", "no_grader_appeal",
       "No appeal to the grader",
       "Speaks to the reader and not to whoever grades the text."},
      {"words", -1, 6, "", "long_enough", "Long enough",
       "Is long enough to make its case.", "finished"}};
  return *rules;
}

const std::vector<HardenRule>& HardenRules() {
  static const auto* const rules = new std::vector<HardenRule>{
      {"key_term_count", "key_term_coverage", 0, 1,
       "Addresses each key term of the claim; a term counts once."},
      {"connective_count", "reasons", 0, 2,
       "Gives distinct reasons: a reasoning word counts only where it "
       "introduces new content."},
      {"emphatic_count", "emphatic_count", 0, 2,
       "One or two strong words are enough; more earn nothing."},
      {"equation_shown", "equation_holds", 0, 1,
       "Shows the working as an equation that is true."}};
  return *rules;
}

const std::vector<MeritRule>& MeritRules() {
  static const auto* const rules = new std::vector<MeritRule>{
      {"key_term_coverage", 0, 1, true, false, "coverage", "Covers the claim",
       "Addresses every key term of the claim; a term counts once."},
      {"reasons", 0, 2, true, false, "reasons", "Distinct reasons",
       "Gives distinct reasons with new content."},
      {"finished", 0, 1, true, false, "finished_sentence", "Finished",
       "Ends on a complete sentence."},
      {"examples", 0, 2, false, true, "examples", "Examples",
       "Supports the reasons with different examples."},
      {"conclusion", 0, 1, false, true, "conclusion", "Conclusion",
       "Ends with a conclusion."},
      {"reasons", 0, 3, false, true, "three_reasons", "Three reasons",
       "Gives three distinct reasons."},
      {"distinct_sentences", 0.7, 1, false, true, "distinct_sentences",
       "Distinct sentences", "Repeats no sentence."}};
  return *rules;
}

Criterion MakeCriterion(const std::string& id, const std::string& title,
                        const std::string& text, const std::string& measure,
                        double zero_at, double saturate_at) {
  Criterion criterion;
  criterion.id = id;
  criterion.title = title;
  criterion.text = text;
  criterion.executor = Executor::kJudge;
  criterion.check = Check{measure, zero_at, saturate_at};
  return criterion;
}

}  // namespace mpo::meta_reward_server
