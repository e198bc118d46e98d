// SPDX-License-Identifier: Apache-2.0
#include "services/orchestrator/record.h"

namespace mpo::orchestrator {

const char* Name(StepState state) {
  switch (state) {
    case StepState::kPlanned:
      return "planned";
    case StepState::kAssigned:
      return "assigned";
    case StepState::kCommitted:
      return "committed";
  }
  return "";
}

const char* Name(UnitState state) {
  switch (state) {
    case UnitState::kReady:
      return "ready";
    case UnitState::kLeased:
      return "leased";
    case UnitState::kComplete:
      return "complete";
  }
  return "";
}

const char* Name(RubricState state) {
  switch (state) {
    case RubricState::kDraft:
      return "draft";
    case RubricState::kActive:
      return "active";
    case RubricState::kRetired:
      return "retired";
    case RubricState::kRejected:
      return "rejected";
  }
  return "";
}

const char* Name(RefinementState state) {
  switch (state) {
    case RefinementState::kOpen:
      return "open";
    case RefinementState::kAccepted:
      return "accepted";
    case RefinementState::kUnchanged:
      return "unchanged";
    case RefinementState::kRejected:
      return "rejected";
    case RefinementState::kFailed:
      return "failed";
  }
  return "";
}

const char* Name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kCancelled:
      return "cancelled";
    case FinishReason::kFailed:
      return "failed";
  }
  return "";
}

}  // namespace mpo::orchestrator
