// SPDX-License-Identifier: Apache-2.0
#include "mpo/collective/rendezvous.h"

#include <algorithm>
#include <memory>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace mpo::collective {
namespace {

std::string RandomId() {
  std::random_device device;
  return absl::StrFormat("%08x%08x", device(), device());
}

std::string Named(const std::string& operation, int64_t sequence) {
  return absl::StrCat("'", operation, "' (number ", sequence, ")");
}

// Waits for the one call of a callback.
class Answer {
 public:
  Rendezvous::Done Callback() {
    return [this](absl::StatusOr<std::string> value) {
      MutexLock lock(mu_);
      value_ = std::move(value);
      // Under the lock: who waits destroys this as soon as it sees the value.
      changed_.NotifyAll();
    };
  }
  // The answer, or nullopt after `timeout` or a stop.
  std::optional<absl::StatusOr<std::string>> Wait(absl::Duration timeout,
                                                  const std::stop_token& stop) {
    MutexLock lock(mu_);
    changed_.WaitFor(
        mu_, stop, timeout,
        [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return value_.has_value(); });
    return value_;
  }
  absl::StatusOr<std::string> Wait() {
    MutexLock lock(mu_);
    while (!value_.has_value()) changed_.Wait(mu_);
    return *value_;
  }

 private:
  Mutex mu_;
  CondVar changed_;
  std::optional<absl::StatusOr<std::string>> value_ ABSL_GUARDED_BY(mu_);
};

}  // namespace

Rendezvous::Rendezvous(Options options, Clock& clock)
    : options_(std::move(options)),
      clock_(clock),
      group_(RandomId()),
      members_(options_.ranks) {}

Rendezvous::~Rendezvous() { End(absl::CancelledError("the group has ended")); }

absl::Status Rendezvous::Refusal(const Joining& joining) const {
  if (joining.rank < 0 || joining.rank >= options_.ranks) {
    return absl::InvalidArgumentError(absl::StrCat(
        "expected a rank in [0, ", options_.ranks, "), got ", joining.rank));
  }
  if (joining.ranks != options_.ranks) {
    return absl::FailedPreconditionError(
        absl::StrCat("rank ", joining.rank, " expects ", joining.ranks,
                     " ranks, rank 0 has ", options_.ranks,
                     "; give all of them the same learner.ranks"));
  }
  if (joining.config_sha256 != options_.config_sha256) {
    return absl::FailedPreconditionError(absl::StrCat(
        "rank ", joining.rank, " has configuration ", joining.config_sha256,
        ", rank 0 has ", options_.config_sha256,
        "; start all of them with the same file"));
  }
  return absl::OkStatus();
}

bool Rendezvous::AllJoined() const {
  return std::all_of(members_.begin(), members_.end(),
                     [](const Member& member) { return member.joined; });
}

Rendezvous::Ticket Rendezvous::Join(const Joining& joining, Done done) {
  absl::Status refused;
  bool anew = false;
  {
    MutexLock lock(mu_);
    refused = Refusal(joining);
    if (refused.ok()) {
      Member& member = members_[joining.rank];
      // Until all are there nothing is lost by one that comes again.
      anew = AllJoined() && member.incarnation != joining.incarnation;
      const bool last = !member.joined;
      member.joined = true;
      member.incarnation = joining.incarnation;
      member.beats = joining.beats;
      if (last && AllJoined()) {
        // From now on each of them sends beats.
        for (Member& one : members_) {
          one.heard = one.progressed = clock_.Steady();
        }
      }
    }
  }
  if (!refused.ok()) {
    done(refused);
    return 0;
  }
  if (anew) {
    End(absl::UnavailableError(
        absl::StrCat("rank ", joining.rank, " was started again")));
  }
  return Add(Kind::kJoin, std::move(done));
}

Rendezvous::Ticket Rendezvous::Enter(const Entry& entry, Done done) {
  absl::Status wrong;
  {
    MutexLock lock(mu_);
    Member& own = members_[entry.rank];
    own.sequence = entry.sequence;
    own.operation = entry.operation;
    own.bytes = entry.bytes;
    own.progressed = own.heard = clock_.Steady();
    for (int rank = 0; rank < options_.ranks; ++rank) {
      const Member& other = members_[rank];
      if (other.sequence != own.sequence ||
          (other.operation == own.operation && other.bytes == own.bytes)) {
        continue;
      }
      wrong = absl::InternalError(absl::StrCat(
          "rank ", entry.rank, " entered ", Named(own.operation, own.sequence),
          " with ", own.bytes, " bytes, rank ", rank, " ",
          Named(other.operation, other.sequence), " with ", other.bytes,
          "; do all ranks run the same program?"));
    }
  }
  if (!wrong.ok()) End(wrong);
  return Add(Kind::kEnter, std::move(done), entry);
}

absl::Status Rendezvous::Put(const std::string& key, std::string value) {
  Answers answers;
  {
    MutexLock lock(mu_);
    if (!ended_.ok()) return ended_;
    const auto old = values_.find(key);
    const int64_t bytes =
        stored_bytes_ + static_cast<int64_t>(value.size()) -
        (old == values_.end() ? 0 : static_cast<int64_t>(old->second.size()));
    if (static_cast<int64_t>(value.size()) > kMaxValueBytes ||
        bytes > kMaxStoreBytes) {
      return absl::ResourceExhaustedError(absl::StrCat(
          "key '", key, "': expected at most ", kMaxValueBytes, " bytes and ",
          kMaxStoreBytes, " in all, got ", value.size(), " and ", bytes));
    }
    stored_bytes_ = bytes;
    values_[key] = std::move(value);
    answers = Settle();
  }
  Call(std::move(answers));
  return absl::OkStatus();
}

Rendezvous::Ticket Rendezvous::Get(const std::string& key, Done done) {
  return Add(Kind::kGet, std::move(done), {}, key);
}

void Rendezvous::Drop(const std::string& prefix) {
  MutexLock lock(mu_);
  auto it = values_.lower_bound(prefix);
  while (it != values_.end() && it->first.starts_with(prefix)) {
    stored_bytes_ -= static_cast<int64_t>(it->second.size());
    it = values_.erase(it);
  }
}

Rendezvous::Ticket Rendezvous::OnEnd(Done done) {
  return Add(Kind::kEnd, std::move(done));
}

Rendezvous::Ticket Rendezvous::Add(Kind kind, Done done, const Entry& entry,
                                   const std::string& key) {
  Waiter waiter;
  waiter.kind = kind;
  waiter.done = std::move(done);
  waiter.entry = entry;
  waiter.began = clock_.Steady();
  waiter.key = key;
  Answers answers;
  Ticket ticket = 0;
  {
    MutexLock lock(mu_);
    ticket = next_ticket_++;
    waiters_.emplace(ticket, std::move(waiter));
    answers = Settle();
  }
  Call(std::move(answers));
  return ticket;
}

void Rendezvous::Cancel(Ticket ticket) {
  Done done;
  {
    MutexLock lock(mu_);
    const auto it = waiters_.find(ticket);
    if (it == waiters_.end()) return;
    done = std::move(it->second.done);
    waiters_.erase(it);
  }
  done(absl::CancelledError("cancelled"));
}

std::optional<absl::StatusOr<std::string>> Rendezvous::Outcome(
    const Waiter& waiter) const {
  if (!ended_.ok()) return ended_;
  switch (waiter.kind) {
    case Kind::kJoin:
      if (!AllJoined()) return std::nullopt;
      return group_;
    case Kind::kEnter:
      if (!std::all_of(members_.begin(), members_.end(),
                       [&](const Member& member) {
                         return member.sequence >= waiter.entry.sequence;
                       })) {
        return std::nullopt;
      }
      return "";
    case Kind::kGet: {
      const auto it = values_.find(waiter.key);
      if (it == values_.end()) return std::nullopt;
      return it->second;
    }
    case Kind::kEnd:
      break;
  }
  return std::nullopt;
}

Rendezvous::Answers Rendezvous::Settle() {
  Answers answers;
  for (auto it = waiters_.begin(); it != waiters_.end();) {
    if (auto outcome = Outcome(it->second); outcome.has_value()) {
      answers.emplace_back(std::move(it->second.done), *std::move(outcome));
      it = waiters_.erase(it);
    } else {
      ++it;
    }
  }
  return answers;
}

void Rendezvous::Call(Answers answers) {
  for (auto& [done, value] : answers) done(std::move(value));
}

void Rendezvous::Beat(int rank, int64_t progress) {
  MutexLock lock(mu_);
  if (rank < 0 || rank >= options_.ranks) return;
  Member& member = members_[rank];
  member.heard = clock_.Steady();
  if (progress != member.progress) member.progressed = member.heard;
  member.progress = progress;
}

void Rendezvous::End(const absl::Status& why) {
  Answers answers;
  {
    MutexLock lock(mu_);
    if (!ended_.ok()) return;
    ended_ = why;
    answers = Settle();
  }
  Call(std::move(answers));
}

absl::Status Rendezvous::ended() const {
  MutexLock lock(mu_);
  return ended_;
}

std::string Rendezvous::Missing() const {
  MutexLock lock(mu_);
  std::vector<int> missing;
  for (int rank = 0; rank < options_.ranks; ++rank) {
    if (!members_[rank].joined) missing.push_back(rank);
  }
  return absl::StrJoin(missing, ", ");
}

absl::Status Rendezvous::FindLost() const {
  const absl::Time now = clock_.Steady();
  for (int rank = 0; rank < options_.ranks; ++rank) {
    const Member& member = members_[rank];
    if (AllJoined() && member.beats && now - member.heard > options_.silence) {
      return absl::UnavailableError(
          absl::StrCat("rank ", rank, " was not heard of for ",
                       absl::FormatDuration(now - member.heard),
                       "; its process has stopped or its machine is cut off"));
    }
  }
  for (const auto& [ticket, waiter] : waiters_) {
    if (waiter.kind != Kind::kEnter) continue;
    for (int rank = 0; rank < options_.ranks; ++rank) {
      const Member& member = members_[rank];
      if (member.sequence >= waiter.entry.sequence) continue;
      const absl::Time since = std::max(waiter.began, member.progressed);
      if (now - since <= waiter.entry.patience) continue;
      return absl::DeadlineExceededError(absl::StrCat(
          "rank ", rank, " lives but has not entered ",
          Named(waiter.entry.operation, waiter.entry.sequence), " within ",
          absl::FormatDuration(waiter.entry.patience), "; its last was ",
          member.sequence == 0 ? "none"
                               : Named(member.operation, member.sequence)));
    }
  }
  return absl::OkStatus();
}

void Rendezvous::Check() {
  absl::Status lost;
  {
    MutexLock lock(mu_);
    if (!ended_.ok()) return;
    lost = FindLost();
  }
  if (!lost.ok()) End(lost);
}

absl::Status LocalMembership::Join(const std::string& config_sha256,
                                   absl::Duration timeout,
                                   std::stop_token stop) {
  Answer answer;
  const Rendezvous::Ticket ticket =
      rendezvous_.Join({.rank = rank_,
                        .ranks = rendezvous_.ranks(),
                        .config_sha256 = config_sha256,
                        .incarnation = absl::StrCat("local/", rank_)},
                       answer.Callback());
  if (answer.Wait(timeout, stop).has_value()) return answer.Wait().status();
  const std::string missing = rendezvous_.Missing();
  rendezvous_.Cancel(ticket);
  const absl::Status status = answer.Wait().status();
  if (!absl::IsCancelled(status) || stop.stop_requested()) return status;
  return absl::DeadlineExceededError(absl::StrCat(
      "of ", rendezvous_.ranks(), " ranks these did not join within ",
      absl::FormatDuration(timeout), ": ", missing));
}

absl::Status LocalMembership::Enter(const Entry& entry) {
  Answer answer;
  Entry own = entry;
  own.rank = rank_;
  rendezvous_.Enter(own, answer.Callback());
  return answer.Wait().status();
}

absl::StatusOr<std::string> LocalMembership::Get(const std::string& key,
                                                 absl::Duration timeout,
                                                 std::stop_token stop) {
  Answer answer;
  const Rendezvous::Ticket ticket = rendezvous_.Get(key, answer.Callback());
  if (answer.Wait(timeout, stop).has_value()) return answer.Wait();
  rendezvous_.Cancel(ticket);
  absl::StatusOr<std::string> value = answer.Wait();
  if (!absl::IsCancelled(value.status()) || stop.stop_requested()) return value;
  return absl::DeadlineExceededError(absl::StrCat(
      "key '", key, "' had no value within ", absl::FormatDuration(timeout)));
}

void LocalMembership::Progress() {
  int64_t progress = 0;
  {
    MutexLock lock(mu_);
    progress = ++progress_;
  }
  rendezvous_.Beat(rank_, progress);
}

absl::Status LocalMembership::AwaitEnd(absl::Duration timeout) {
  Answer answer;
  const Rendezvous::Ticket ticket = rendezvous_.OnEnd(answer.Callback());
  if (!answer.Wait(timeout, {}).has_value()) rendezvous_.Cancel(ticket);
  const absl::Status status = answer.Wait().status();
  return rendezvous_.ended().ok() ? absl::OkStatus() : status;
}

}  // namespace mpo::collective
