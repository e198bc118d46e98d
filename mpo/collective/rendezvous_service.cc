// SPDX-License-Identifier: Apache-2.0
#include "mpo/collective/rendezvous_service.h"

#include <functional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "mpo/rpc/grpc_status.h"

namespace mpo::collective {
namespace {

using rpc::ToGrpcStatus;

// A call that is answered when its ticket is. Deletes itself when done.
class WaitReactor final : public grpc::ServerUnaryReactor {
 public:
  using Begin = std::function<Rendezvous::Ticket(Rendezvous::Done)>;

  // `keep` gets the value of an OK answer before the call ends.
  WaitReactor(Rendezvous& rendezvous, const Begin& begin,
              std::function<void(std::string)> keep)
      : rendezvous_(rendezvous), keep_(std::move(keep)) {
    // The library calls no method of a reactor before the handler has returned
    // it, so `ticket_` is set when OnCancel reads it.
    ticket_ = begin([this](absl::StatusOr<std::string> value) {
      if (value.ok() && keep_) keep_(*std::move(value));
      Finish(ToGrpcStatus(value.status()));
    });
  }
  void OnCancel() override { rendezvous_.Cancel(ticket_); }
  void OnDone() override { delete this; }

 private:
  Rendezvous& rendezvous_;
  const std::function<void(std::string)> keep_;
  Rendezvous::Ticket ticket_ = 0;
};

// The beats of one rank. Deletes itself when done.
class AttendReactor final
    : public grpc::ServerReadReactor<v1::AttendGroupRequest> {
 public:
  using Checker = std::function<absl::Status(const v1::AttendGroupRequest&)>;

  AttendReactor(Rendezvous& rendezvous, Checker check)
      : rendezvous_(rendezvous), check_(std::move(check)) {
    ticket_ = rendezvous_.OnEnd([this](absl::StatusOr<std::string> end) {
      Finish(ToGrpcStatus(end.status()));
    });
    StartRead(&request_);
  }
  void OnReadDone(bool ok) override {
    if (!ok) {
      // Of a call that has been answered: the group had ended already.
      if (rank_ >= 0) {
        rendezvous_.End(absl::UnavailableError(
            absl::StrCat("rank ", rank_, " is gone: its connection broke")));
      }
      rendezvous_.Cancel(ticket_);
      return;
    }
    if (absl::Status status = check_(request_); !status.ok()) {
      rank_ = -1;
      rendezvous_.Cancel(ticket_);
      return;
    }
    // The rank waits for this: from now on its death is seen at once.
    if (rank_ < 0) StartSendInitialMetadata();
    rank_ = request_.rank();
    rendezvous_.Beat(rank_, request_.progress());
    StartRead(&request_);
  }
  void OnDone() override { delete this; }

 private:
  Rendezvous& rendezvous_;
  const Checker check_;
  v1::AttendGroupRequest request_;
  int rank_ = -1;
  Rendezvous::Ticket ticket_ = 0;
};

grpc::ServerUnaryReactor* Answer(grpc::CallbackServerContext* context,
                                 const absl::Status& status) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpcStatus(status));
  return reactor;
}

}  // namespace

absl::Status RendezvousService::Check(const std::string& group,
                                      int rank) const {
  if (group != rendezvous_.group()) {
    return absl::AbortedError(absl::StrCat(
        "group ", group, " is no more, this is ", rendezvous_.group()));
  }
  if (rank < 0 || rank >= rendezvous_.ranks()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "expected a rank in [0, ", rendezvous_.ranks(), "), got ", rank));
  }
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* RendezvousService::Join(
    grpc::CallbackServerContext*, const v1::JoinGroupRequest* request,
    v1::JoinGroupResponse* response) {
  return new WaitReactor(
      rendezvous_,
      [&](Rendezvous::Done done) {
        return rendezvous_.Join({.rank = request->rank(),
                                 .ranks = request->ranks(),
                                 .config_sha256 = request->config_sha256(),
                                 .incarnation = request->incarnation(),
                                 .beats = true},
                                std::move(done));
      },
      [response](std::string group) { response->set_group(group); });
}

grpc::ServerReadReactor<v1::AttendGroupRequest>* RendezvousService::Attend(
    grpc::CallbackServerContext*, v1::AttendGroupResponse*) {
  return new AttendReactor(rendezvous_,
                           [this](const v1::AttendGroupRequest& request) {
                             return Check(request.group(), request.rank());
                           });
}

grpc::ServerUnaryReactor* RendezvousService::EnterOperation(
    grpc::CallbackServerContext* context,
    const v1::EnterOperationRequest* request, v1::EnterOperationResponse*) {
  if (absl::Status status = Check(request->group(), request->rank());
      !status.ok()) {
    return Answer(context, status);
  }
  const Entry entry = {
      .rank = request->rank(),
      .sequence = request->sequence(),
      .operation = request->operation(),
      .bytes = request->bytes(),
      .patience = absl::Seconds(request->patience().seconds()) +
                  absl::Nanoseconds(request->patience().nanos())};
  return new WaitReactor(
      rendezvous_,
      [&](Rendezvous::Done done) {
        return rendezvous_.Enter(entry, std::move(done));
      },
      nullptr);
}

grpc::ServerUnaryReactor* RendezvousService::PutKey(
    grpc::CallbackServerContext* context, const v1::PutKeyRequest* request,
    v1::PutKeyResponse*) {
  absl::Status status = Check(request->group(), 0);
  if (status.ok()) status = rendezvous_.Put(request->key(), request->value());
  return Answer(context, status);
}

grpc::ServerUnaryReactor* RendezvousService::GetKey(
    grpc::CallbackServerContext* context, const v1::GetKeyRequest* request,
    v1::GetKeyResponse* response) {
  if (absl::Status status = Check(request->group(), 0); !status.ok()) {
    return Answer(context, status);
  }
  return new WaitReactor(
      rendezvous_,
      [&](Rendezvous::Done done) {
        return rendezvous_.Get(request->key(), std::move(done));
      },
      [response](std::string value) { response->set_value(std::move(value)); });
}

}  // namespace mpo::collective
