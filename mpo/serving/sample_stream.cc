// SPDX-License-Identifier: Apache-2.0
#include "mpo/serving/sample_stream.h"

#include "mpo/base/clock.h"
#include "mpo/serving/sample_channel.h"

namespace mpo::serving {

SampleStream::~SampleStream() {
  MutexLock lock(state_->mu);
  state_->abandoned = true;
  if (!state_->over) state_->leavers->Add(state_->id);
}

std::optional<SampleNews> SampleStream::Next(absl::Duration timeout) {
  const absl::Time deadline = Clock::Real().Steady() + timeout;
  MutexLock lock(state_->mu);
  while (!state_->fresh) {
    const absl::Duration left = deadline - Clock::Real().Steady();
    if (left <= absl::ZeroDuration()) return std::nullopt;
    state_->changed.WaitFor(state_->mu, left);
  }
  return state_->Take();
}

}  // namespace mpo::serving
