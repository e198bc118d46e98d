// SPDX-License-Identifier: Apache-2.0
#include "cli/supervisor.h"

#include <algorithm>
#include <csignal>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "mpo/base/status_macros.h"

namespace mpo::cli {
namespace {

// A service ends with this code when its configuration or command line is bad.
constexpr int kBadInputCode = 2;

// Where a person finds out more: the log and its last line.
std::string See(const ProcessSpec& spec) {
  const std::string last = LastLogLine(spec.log);
  return absl::StrCat("; see ", spec.log.string(),
                      last.empty() ? "" : ", which ends with: ", last);
}

}  // namespace

Supervisor::~Supervisor() { Kill(); }

absl::Status Supervisor::Start(const ProcessSpec& spec) {
  MPO_ASSIGN_OR_RETURN(const int pid, processes_.Start(spec));
  children_.push_back({.spec = spec,
                       .pid = pid,
                       .started = clock_.Steady(),
                       .restart_at = absl::InfiniteFuture(),
                       .backoff = options_.first_backoff,
                       .restarted = {}});
  return absl::OkStatus();
}

absl::Status Supervisor::Tick(std::vector<Event>& events) {
  for (Child& child : children_) {
    if (child.pid != 0) {
      const std::optional<ProcessExit> how = processes_.Reap(child.pid);
      if (!how.has_value()) continue;
      child.pid = 0;
      if (draining_) continue;
      MPO_RETURN_IF_ERROR(HandleEnd(child, *how, events));
      FellGroup(child);
    } else if (!draining_ && clock_.Steady() >= child.restart_at) {
      MPO_RETURN_IF_ERROR(StartAgain(child, events));
    }
  }
  if (draining_) DrainTick(events);
  return absl::OkStatus();
}

absl::Status Supervisor::HandleEnd(Child& child, const ProcessExit& how,
                                   std::vector<Event>& events) {
  const absl::Time now = clock_.Steady();
  const std::string what =
      absl::StrCat(child.spec.name, " ended with ", ToString(how));
  if (how.signal == 0 && how.code == kBadInputCode) {
    return absl::FailedPreconditionError(absl::StrCat(what, See(child.spec)));
  }
  std::erase_if(child.restarted,
                [&](absl::Time at) { return now - at > options_.window; });
  if (static_cast<int>(child.restarted.size()) >= options_.budget) {
    return absl::UnavailableError(
        absl::StrCat(what, " after ", child.restarted.size(),
                     " restarts within ", absl::FormatDuration(options_.window),
                     ", the most allowed", See(child.spec)));
  }
  if (now - child.started >= options_.stable_after) {
    child.backoff = options_.first_backoff;
  }
  child.restart_at = now + child.backoff;
  events.push_back({.kind = Event::Kind::kEnded,
                    .process = child.spec.name,
                    .how = how,
                    .backoff = child.backoff});
  child.backoff = std::min(child.backoff * 2, options_.longest_backoff);
  return absl::OkStatus();
}

void Supervisor::FellGroup(Child& ended) {
  if (std::exchange(ended.felled, false)) return;
  if (ended.spec.restart_group.empty()) return;
  for (Child& child : children_) {
    if (child.pid == 0 || child.felled ||
        child.spec.restart_group != ended.spec.restart_group) {
      continue;
    }
    // Not asked to end: it may be stopped, or wait for the one that is gone.
    child.felled = true;
    processes_.Signal(child.pid, SIGKILL);
  }
}

absl::Status Supervisor::StartAgain(Child& child, std::vector<Event>& events) {
  MPO_ASSIGN_OR_RETURN(child.pid, processes_.Start(child.spec));
  child.started = clock_.Steady();
  child.restart_at = absl::InfiniteFuture();
  child.restarted.push_back(child.started);
  ++restarts_[child.spec.name];
  events.push_back({.kind = Event::Kind::kRestarted,
                    .process = child.spec.name,
                    .how = {},
                    .backoff = absl::ZeroDuration()});
  return absl::OkStatus();
}

void Supervisor::BeginDrain() {
  if (draining_) return;
  draining_ = true;
  drain_began_ = clock_.Steady();
  std::vector<Event> none;
  DrainTick(none);
}

void Supervisor::DrainTick(std::vector<Event>& events) {
  const bool late = clock_.Steady() - drain_began_ >= options_.drain_deadline;
  int stage = std::numeric_limits<int>::max();
  for (const Child& child : children_) {
    if (child.pid != 0) stage = std::min(stage, child.spec.drain_stage);
  }
  for (Child& child : children_) {
    if (child.pid == 0) continue;
    if (late) {
      processes_.Signal(child.pid, SIGKILL);
      events.push_back({.kind = Event::Kind::kKilled,
                        .process = child.spec.name,
                        .how = {},
                        .backoff = absl::ZeroDuration()});
    } else if (child.spec.drain_stage == stage && !child.asked_to_end) {
      child.asked_to_end = true;
      processes_.Signal(child.pid, SIGTERM);
    }
  }
}

void Supervisor::Kill() {
  draining_ = true;
  drain_began_ = absl::InfinitePast();
  for (const Child& child : children_) {
    if (child.pid != 0) processes_.Signal(child.pid, SIGKILL);
  }
}

bool Supervisor::AllGone() const {
  return std::all_of(children_.begin(), children_.end(),
                     [](const Child& child) { return child.pid == 0; });
}

std::map<std::string, int> Supervisor::Running() const {
  std::map<std::string, int> running;
  for (const Child& child : children_) {
    if (child.pid != 0) running[child.spec.name] = child.pid;
  }
  return running;
}

}  // namespace mpo::cli
