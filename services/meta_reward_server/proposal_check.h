// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "mpo/types/refinement.h"
#include "services/meta_reward_server/meta_prompts.h"

namespace mpo::meta_reward_server {

// Problems that keep a meta-judge's rubric from being used: those of
// rubric::Validate, too many criteria, a check that is not in the catalogue,
// and, where checks are required, criteria without one.
std::vector<std::string> ProposalProblems(const Rubric& rubric,
                                          const PromptLimits& limits);

// Drops criteria that say nearly the same as an earlier one (shared words of
// title and text >= 80 % of their union) or repeat its id; returns their ids.
std::vector<std::string> DropNearDuplicates(Rubric& rubric);

// What differs between the active rubric and the proposed one: "add", "drop"
// and "rewrite". Reasons count in how many of the `refinements` (rubrics that
// were merged) a criterion of that id stands.
std::vector<RubricChange> ChangesBetween(
    const Rubric& active, const Rubric& proposed,
    const std::vector<Rubric>& refinements);

}  // namespace mpo::meta_reward_server
