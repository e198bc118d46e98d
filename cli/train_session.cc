// SPDX-License-Identifier: Apache-2.0
#include "cli/train_session.h"

#include "absl/strings/str_cat.h"

namespace mpo::cli {

TrainSession::TrainSession(Supervisor& supervisor, RunSource& run,
                           Screen& screen, Clock& clock,
                           const SessionOptions& options)
    : supervisor_(supervisor),
      run_(run),
      screen_(screen),
      clock_(clock),
      options_(options),
      began_(clock.Steady()),
      wall_began_(clock.Wall()) {}

std::optional<TrainSession::Outcome> TrainSession::Turn(int signal) {
  if (signal != 0) OnSignal();
  Supervise();
  if (!ending_.has_value()) {
    if (const std::optional<RunState> state = run_.State()) {
      Follow(*state);
    } else if (clock_.Steady() - began_ > options_.start_deadline) {
      status_ = absl::UnavailableError(
          absl::StrCat("the orchestrator did not answer within ",
                       ShortDuration(options_.start_deadline), "; see ",
                       options_.directory, "/logs/orchestrator.log"));
      End(Outcome::kFailed);
    }
  }
  if (ending_.has_value() && supervisor_.AllGone()) return ending_;
  return std::nullopt;
}

void TrainSession::OnSignal() {
  ++interrupts_;
  if (interrupts_ == 1 && !ending_.has_value()) {
    screen_.Line(
        "stopping: the processes finish what they hold; once more kills them");
    End(Outcome::kInterrupted);
  } else {
    supervisor_.Kill();
  }
}

void TrainSession::Supervise() {
  std::vector<Supervisor::Event> events;
  const absl::Status status = supervisor_.Tick(events);
  for (const Supervisor::Event& event : events) {
    switch (event.kind) {
      case Supervisor::Event::Kind::kEnded:
        screen_.Line(absl::StrCat(
            event.process, " ended with ", ToString(event.how),
            "; it is started again in ", absl::FormatDuration(event.backoff)));
        break;
      case Supervisor::Event::Kind::kRestarted:
        screen_.Line(absl::StrCat(event.process, " was started again"));
        break;
      case Supervisor::Event::Kind::kKilled:
        screen_.Line(absl::StrCat(
            event.process, " did not end by itself in time and was killed"));
        break;
    }
  }
  if (!status.ok() && !ending_.has_value()) {
    status_ = status;
    End(Outcome::kFailed);
  }
}

void TrainSession::Follow(const RunState& state) {
  const bool first = !heard_;
  heard_ = true;
  ShowSteps(state);
  if (state.finished) {
    End(Outcome::kFinished);
    return;
  }
  if (!state.paused) {
    told_pause_ = false;
  } else if (first) {
    // The run stood still when this session began: starting it again is the
    // wish to go on.
    screen_.Line(
        absl::StrCat("the run was paused (", state.reason, "); it goes on"));
    if (const absl::Status resumed = run_.Resume(); !resumed.ok()) {
      status_ = resumed;
      End(Outcome::kFailed);
    }
    told_pause_ = true;
  } else if (state.reason.rfind(kOperatorPause, 0) == 0) {
    if (!told_pause_) {
      screen_.Line(absl::StrCat("paused (", state.reason,
                                "); mpo resume --run ", options_.directory,
                                " continues"));
    }
    told_pause_ = true;
  } else if (!told_pause_) {
    status_ = absl::UnavailableError(
        absl::StrCat("the run paused itself after step ", state.step, ": ",
                     state.reason, "; nothing is lost: mend the cause and run ",
                     options_.command, " again"));
    End(Outcome::kPaused);
  }
}

void TrainSession::ShowSteps(const RunState& state) {
  if (state.step > shown_step_) {
    const auto steps = run_.CommittedAfter(shown_step_);
    if (steps.ok()) {
      for (const orchestrator::StepRecord& step : *steps) {
        shown_step_ = step.step;
        last_ = step;
        // Steps of earlier sessions were shown then, and say nothing about
        // the pace of this one.
        if (step.committed < wall_began_) continue;
        remaining_.OnStep(step.step, step.committed);
        screen_.Line(StepLine(step, state.total_steps,
                              remaining_.Estimate(state.total_steps)));
      }
    }
  }
  screen_.Bar({.step = state.step,
               .total = state.total_steps,
               .samples_done = state.samples_done,
               .samples_planned = state.samples_planned,
               .phase = state.phase,
               .last = last_.has_value() ? &*last_ : nullptr,
               .left = remaining_.Estimate(state.total_steps)});
}

void TrainSession::End(Outcome outcome) {
  ending_ = outcome;
  supervisor_.BeginDrain();
}

}  // namespace mpo::cli
