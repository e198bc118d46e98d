// SPDX-License-Identifier: Apache-2.0
#include "mpo/collective/remote_membership.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "mpo/base/status_macros.h"
#include "mpo/logging/log.h"
#include "mpo/rpc/channel.h"
#include "mpo/rpc/grpc_status.h"

namespace mpo::collective {
namespace {

// Longer than the rendezvous needs to decide: it names the rank, a deadline of
// the call does not.
constexpr absl::Duration kEnterTimeout = absl::Hours(24);

void Pause(absl::Duration pause, const std::stop_token& stop) {
  Mutex mu;
  CondVar never;
  MutexLock lock(mu);
  never.WaitFor(mu, stop, pause, [] { return false; });
}

}  // namespace

absl::StatusOr<std::unique_ptr<RemoteMembership>> RemoteMembership::Join(
    const Options& options, absl::Duration timeout, std::stop_token stop) {
  auto stub =
      v1::LearnerGroupService::NewStub(rpc::MakeChannel(options.address));
  v1::JoinGroupRequest request;
  request.set_rank(options.rank);
  request.set_ranks(options.ranks);
  request.set_config_sha256(options.config_sha256);
  request.set_incarnation(options.incarnation);
  v1::JoinGroupResponse response;
  const absl::Time deadline = absl::Now() + timeout;
  for (;;) {
    const absl::Status status = rpc::Call(
        {.timeout = std::max(deadline - absl::Now(), absl::ZeroDuration()),
         .stop = stop},
        [&](grpc::ClientContext& context) {
          return stub->Join(&context, request, &response);
        });
    if (status.ok()) break;
    // The group that this process belonged to in a former life has ended; the
    // next one is served soon.
    if (absl::IsUnavailable(status) && absl::Now() < deadline) {
      logging::Warning("not joined yet", {{"error", status}});
      Pause(absl::Milliseconds(500), stop);
      continue;
    }
    return absl::Status(
        status.code(),
        absl::StrCat("rank ", options.rank, " could not join the group at ",
                     options.address, ": ", std::string(status.message())));
  }
  std::unique_ptr<RemoteMembership> membership(
      new RemoteMembership(options, std::move(stub), response.group()));
  membership->AwaitAttendance();
  return membership;
}

RemoteMembership::RemoteMembership(
    const Options& options, std::unique_ptr<v1::LearnerGroupService::Stub> stub,
    std::string group)
    : options_(options),
      stub_(std::move(stub)),
      group_(std::move(group)),
      attendance_([this](std::stop_token stop) { Attend(stop); }) {}

void RemoteMembership::Attend(std::stop_token stop) {
  grpc::ClientContext context;
  const std::stop_callback cancel(stop, [&] { context.TryCancel(); });
  v1::AttendGroupResponse response;
  const auto writer = stub_->Attend(&context, &response);
  v1::AttendGroupRequest request;
  request.set_group(group_);
  request.set_rank(options_.rank);
  bool attended = false;
  while (!stop.stop_requested()) {
    request.set_progress(progress_);
    if (!writer->Write(request)) break;
    // Comes with rank 0's first reading, once.
    if (!attended) writer->WaitForInitialMetadata();
    attended = true;
    MutexLock lock(mu_);
    attended_ = true;
    changed_.NotifyAll();
    changed_.WaitFor(mu_, stop, options_.beat, [] { return false; });
  }
  absl::Status status = rpc::FromGrpcStatus(writer->Finish());
  if (stop.stop_requested()) {
    status = absl::CancelledError("this rank has left");
  } else if (status.ok()) {
    status = absl::UnavailableError("rank 0 is gone");
  }
  MutexLock lock(mu_);
  ended_ = status;
  changed_.NotifyAll();
}

void RemoteMembership::AwaitAttendance() {
  MutexLock lock(mu_);
  while (!attended_ && ended_.ok()) changed_.Wait(mu_);
}

absl::Status RemoteMembership::AwaitEnd(absl::Duration timeout) {
  MutexLock lock(mu_);
  changed_.WaitFor(mu_, {}, timeout, [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    return !ended_.ok();
  });
  return ended_;
}

absl::Status RemoteMembership::Explain(const absl::Status& status) {
  if (!absl::IsUnavailable(status)) return status;
  // Either the rendezvous' own answer or a connection that broke: rank 0's.
  if (status.message().find("rank ") != absl::string_view::npos) return status;
  return absl::UnavailableError(
      absl::StrCat("rank 0 is gone: ", std::string(status.message())));
}

absl::Status RemoteMembership::Enter(const Entry& entry) {
  v1::EnterOperationRequest request;
  request.set_group(group_);
  request.set_rank(options_.rank);
  request.set_sequence(entry.sequence);
  request.set_operation(entry.operation);
  request.set_bytes(entry.bytes);
  request.mutable_patience()->set_seconds(absl::ToInt64Seconds(entry.patience));
  request.mutable_patience()->set_nanos(static_cast<int32_t>(
      absl::ToInt64Nanoseconds(entry.patience % absl::Seconds(1))));
  v1::EnterOperationResponse response;
  return Explain(
      rpc::Call({.timeout = kEnterTimeout}, [&](grpc::ClientContext& context) {
        // Rank 0 served a moment ago.
        context.set_wait_for_ready(false);
        return stub_->EnterOperation(&context, request, &response);
      }));
}

absl::Status RemoteMembership::Put(const std::string& key, std::string value) {
  v1::PutKeyRequest request;
  request.set_group(group_);
  request.set_key(key);
  request.set_value(std::move(value));
  v1::PutKeyResponse response;
  return Explain(rpc::Call({}, [&](grpc::ClientContext& context) {
    context.set_wait_for_ready(false);
    return stub_->PutKey(&context, request, &response);
  }));
}

absl::StatusOr<std::string> RemoteMembership::Get(const std::string& key,
                                                  absl::Duration timeout,
                                                  std::stop_token stop) {
  v1::GetKeyRequest request;
  request.set_group(group_);
  request.set_key(key);
  v1::GetKeyResponse response;
  MPO_RETURN_IF_ERROR(Explain(rpc::Call(
      {.timeout = timeout, .stop = stop}, [&](grpc::ClientContext& context) {
        context.set_wait_for_ready(false);
        return stub_->GetKey(&context, request, &response);
      })));
  return std::move(*response.mutable_value());
}

}  // namespace mpo::collective
