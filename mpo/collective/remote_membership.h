// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <memory>
#include <stop_token>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "mpo/base/mutex.h"
#include "mpo/collective/membership.h"
#include "mpo/v1/learner_group_service.grpc.pb.h"

namespace mpo::collective {

// A rank in another process than its rendezvous. A thread of its own sends a
// beat a second, so that rank 0 sees at once when this process dies and within
// seconds when it stops; it learns of the group's end the same way.
// Thread-safe.
class RemoteMembership final : public Membership {
 public:
  struct Options {
    std::string address;  // host:port of rank 0's rendezvous.
    int rank = 1;
    int ranks = 2;
    std::string config_sha256;
    std::string incarnation;  // Random, one a process.
    absl::Duration beat = absl::Seconds(1);
  };

  // Waits until all ranks have joined; tries again while rank 0 cannot be
  // reached or serves a group that has ended. DEADLINE_EXCEEDED after
  // `timeout`; else errors as LearnerGroupService.Join. CANCELLED when stopped.
  static absl::StatusOr<std::unique_ptr<RemoteMembership>> Join(
      const Options& options, absl::Duration timeout,
      std::stop_token stop = {});

  int rank() const override { return options_.rank; }
  int ranks() const override { return options_.ranks; }
  absl::Status Enter(const Entry& entry) override;
  absl::Status Put(const std::string& key, std::string value) override;
  absl::StatusOr<std::string> Get(const std::string& key,
                                  absl::Duration timeout,
                                  std::stop_token stop = {}) override;
  void Progress() override { ++progress_; }
  absl::Status AwaitEnd(absl::Duration timeout) override
      ABSL_LOCKS_EXCLUDED(mu_);

 private:
  RemoteMembership(const Options& options,
                   std::unique_ptr<v1::LearnerGroupService::Stub> stub,
                   std::string group);
  void Attend(std::stop_token stop) ABSL_LOCKS_EXCLUDED(mu_);
  // Blocks until rank 0 has the first beat or the group has ended.
  void AwaitAttendance() ABSL_LOCKS_EXCLUDED(mu_);
  // The reason the group ended, where it is known soon; else `status`.
  absl::Status Explain(const absl::Status& status) ABSL_LOCKS_EXCLUDED(mu_);

  const Options options_;
  const std::unique_ptr<v1::LearnerGroupService::Stub> stub_;
  const std::string group_;
  std::atomic<int64_t> progress_ = 0;
  Mutex mu_;
  CondVar changed_;
  bool attended_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status ended_ ABSL_GUARDED_BY(mu_);
  std::jthread attendance_;
};

}  // namespace mpo::collective
