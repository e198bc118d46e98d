// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>

#include "services/orchestrator/record.h"

namespace mpo::orchestrator {

// The enumerator of type E whose Name() is `text`; nullopt for none. The
// ledger's CHECK constraints keep other texts out.
template <typename E>
std::optional<E> FromName(const std::string& text, E last) {
  for (int i = 0; i <= static_cast<int>(last); ++i) {
    if (text == Name(static_cast<E>(i))) return static_cast<E>(i);
  }
  return std::nullopt;
}

inline WorkKind KindFrom(const std::string& text) {
  return text == "eval" ? WorkKind::kEvaluation : WorkKind::kTraining;
}
inline StepState StepStateFrom(const std::string& text) {
  return FromName(text, StepState::kCommitted).value_or(StepState::kPlanned);
}
inline UnitState UnitStateFrom(const std::string& text) {
  return FromName(text, UnitState::kComplete).value_or(UnitState::kReady);
}
inline RubricState RubricStateFrom(const std::string& text) {
  return FromName(text, RubricState::kRejected).value_or(RubricState::kDraft);
}
inline RefinementState RefinementStateFrom(const std::string& text) {
  return FromName(text, RefinementState::kFailed)
      .value_or(RefinementState::kOpen);
}
inline FinishReason FinishReasonFrom(const std::string& text) {
  return FromName(text, FinishReason::kFailed).value_or(FinishReason::kFailed);
}

}  // namespace mpo::orchestrator
