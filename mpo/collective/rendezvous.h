// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "mpo/base/clock.h"
#include "mpo/base/mutex.h"
#include "mpo/collective/membership.h"

namespace mpo::collective {

// Rank 0's book of one group: who is there, who was last heard of when, which
// operation each rank has entered, and a small key-value store. Ends the group
// when a rank is lost. Nothing here blocks: who waits leaves a callback, which
// is called exactly once, from whichever call decides it, never under the lock.
// Thread-safe.
class Rendezvous {
 public:
  struct Options {
    int ranks = 1;
    std::string config_sha256;
    // A rank that sends beats is lost when none came for that long.
    absl::Duration silence = absl::Seconds(10);
  };
  static constexpr int64_t kMaxValueBytes = 6 << 20;
  static constexpr int64_t kMaxStoreBytes = 256 << 20;
  using Done = std::function<void(absl::StatusOr<std::string>)>;
  using Ticket = uint64_t;

  Rendezvous(Options options, Clock& clock);
  ~Rendezvous();  // Ends the group with CANCELLED.

  const std::string& group() const { return group_; }
  int ranks() const { return options_.ranks; }

  struct Joining {
    int rank = 0;
    int ranks = 0;
    std::string config_sha256;
    std::string incarnation;
    bool beats = false;  // Whether it will send beats.
  };
  // Done with the group's id once all have joined; errors as
  // LearnerGroupService.Join.
  Ticket Join(const Joining& joining, Done done);
  // Done with "" once all ranks have entered; errors as Membership::Enter.
  Ticket Enter(const Entry& entry, Done done);
  // RESOURCE_EXHAUSTED: the value or all of them are too large.
  absl::Status Put(const std::string& key, std::string value);
  Ticket Get(const std::string& key, Done done);
  // Forgets keys that begin so.
  void Drop(const std::string& prefix);
  // Done with the reason when the group ends.
  Ticket OnEnd(Done done);
  // Calls a pending callback with CANCELLED now.
  void Cancel(Ticket ticket);

  void Beat(int rank, int64_t progress);
  // Ends the group; later calls change nothing. `why` must not be OK.
  void End(const absl::Status& why);
  // OK while the group lives.
  absl::Status ended() const;
  // Ranks that have not joined, as "1, 3".
  std::string Missing() const;
  // Looks for ranks that are silent or keep others waiting; to be called
  // several times a second.
  void Check();

 private:
  enum class Kind { kJoin, kEnter, kGet, kEnd };
  struct Member {
    bool joined = false;
    bool beats = false;
    std::string incarnation;
    absl::Time heard, progressed;
    int64_t progress = 0;
    int64_t sequence = 0;  // Last operation entered.
    std::string operation;
    int64_t bytes = 0;
  };
  struct Waiter {
    Kind kind = Kind::kEnd;
    Done done;
    Entry entry;       // kEnter.
    absl::Time began;  // kEnter.
    std::string key;   // kGet.
  };
  using Answers = std::vector<std::pair<Done, absl::StatusOr<std::string>>>;

  Ticket Add(Kind kind, Done done, const Entry& entry = {},
             const std::string& key = "");
  // What `waiter` waits for, if it has come.
  std::optional<absl::StatusOr<std::string>> Outcome(const Waiter& waiter) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Takes those out that have an outcome.
  Answers Settle() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  static void Call(Answers answers);
  absl::Status Refusal(const Joining& joining) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool AllJoined() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Why the group is to end, if it is.
  absl::Status FindLost() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const Options options_;
  Clock& clock_;
  const std::string group_;
  mutable Mutex mu_;
  std::vector<Member> members_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, std::string> values_ ABSL_GUARDED_BY(mu_);
  int64_t stored_bytes_ ABSL_GUARDED_BY(mu_) = 0;
  std::map<Ticket, Waiter> waiters_ ABSL_GUARDED_BY(mu_);
  Ticket next_ticket_ ABSL_GUARDED_BY(mu_) = 1;
  absl::Status ended_ ABSL_GUARDED_BY(mu_);
};

// A rank in the process of its rendezvous: rank 0, or any rank of a group of
// threads. Thread-safe.
class LocalMembership final : public Membership {
 public:
  // `rendezvous` must outlive it.
  LocalMembership(Rendezvous& rendezvous, int rank)
      : rendezvous_(rendezvous), rank_(rank) {}
  // Joins and waits for all ranks. DEADLINE_EXCEEDED after `timeout`, with the
  // number that is missing; else errors as Rendezvous::Join.
  absl::Status Join(const std::string& config_sha256, absl::Duration timeout,
                    std::stop_token stop = {});

  int rank() const override { return rank_; }
  int ranks() const override { return rendezvous_.ranks(); }
  absl::Status Enter(const Entry& entry) override;
  absl::Status Put(const std::string& key, std::string value) override {
    return rendezvous_.Put(key, std::move(value));
  }
  absl::StatusOr<std::string> Get(const std::string& key,
                                  absl::Duration timeout,
                                  std::stop_token stop = {}) override;
  void Progress() override;
  absl::Status AwaitEnd(absl::Duration timeout) override;

 private:
  Rendezvous& rendezvous_;
  const int rank_;
  Mutex mu_;
  int64_t progress_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace mpo::collective
