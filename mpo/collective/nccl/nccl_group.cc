// SPDX-License-Identifier: Apache-2.0
#include "mpo/collective/nccl/nccl_group.h"

#include <cuda_runtime_api.h>
#include <nccl.h>

#include <cstring>
#include <functional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "mpo/base/status_macros.h"

namespace mpo::collective {
namespace {

constexpr char kIdKey[] = "nccl/id";
// How often the side channel is asked while a transfer runs; its wait is also
// the pause between two looks at the GPU.
constexpr absl::Duration kLook = absl::Microseconds(200);

absl::Status OfCuda(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return absl::OkStatus();
  const std::string message =
      absl::StrCat(what, ": ", cudaGetErrorString(error));
  if (error == cudaErrorNoDevice || error == cudaErrorInvalidDevice ||
      error == cudaErrorInsufficientDriver) {
    return absl::FailedPreconditionError(message);
  }
  return absl::InternalError(message);
}

absl::Status OfNccl(ncclResult_t result) {
  if (result == ncclSuccess || result == ncclInProgress) {
    return absl::OkStatus();
  }
  const std::string message = ncclGetErrorString(result);
  if (result == ncclRemoteError || result == ncclSystemError) {
    return absl::UnavailableError(message);
  }
  return absl::InternalError(message);
}

ncclDataType_t TypeOf(const at::Tensor& tensor) {
  if (tensor.scalar_type() == at::kFloat) return ncclFloat32;
  return tensor.scalar_type() == at::kDouble ? ncclFloat64 : ncclInt64;
}

// Rank 0's id of the communicator, through the group's store.
absl::StatusOr<ncclUniqueId> ShareId(Membership& membership,
                                     absl::Duration timeout) {
  ncclUniqueId id = {};
  if (membership.rank() == 0) {
    MPO_RETURN_IF_ERROR(OfNccl(ncclGetUniqueId(&id)));
    MPO_RETURN_IF_ERROR(
        membership.Put(kIdKey, std::string(id.internal, sizeof id.internal)));
    return id;
  }
  MPO_ASSIGN_OR_RETURN(const std::string bytes,
                       membership.Get(kIdKey, timeout));
  if (bytes.size() != sizeof id.internal) {
    return absl::InternalError(absl::StrCat(
        "rank 0's NCCL has an id of ", bytes.size(), " bytes, expected ",
        sizeof id.internal, "; do all ranks run the same program?"));
  }
  std::memcpy(id.internal, bytes.data(), bytes.size());
  return id;
}

}  // namespace

struct NcclGroup::Communicator {
  ~Communicator() {
    // Destroying waits for the other ranks, aborting does not.
    if (comm != nullptr) ncclCommAbort(comm);
    if (done != nullptr) cudaEventDestroy(done);
    if (stream != nullptr) cudaStreamDestroy(stream);
  }

  // Looks again and again until `finished`, the group's end, an error or
  // `timeout`; aborts the communicator unless it finished.
  absl::Status Await(Membership& membership, absl::Duration timeout,
                     const std::function<absl::StatusOr<bool>()>& finished) {
    const absl::Time deadline = absl::Now() + timeout;
    absl::Status status;
    for (;;) {
      absl::StatusOr<bool> ready = finished();
      if (ready.ok() && *ready) return absl::OkStatus();
      status = ready.status();
      if (status.ok()) status = Error();
      if (status.ok()) status = membership.AwaitEnd(kLook);
      if (status.ok() && absl::Now() >= deadline) {
        status = absl::DeadlineExceededError(absl::StrCat(
            "NCCL stood still for ", absl::FormatDuration(timeout)));
      }
      if (!status.ok()) break;
    }
    ncclCommAbort(std::exchange(comm, nullptr));
    return status;
  }
  absl::Status Error() const {
    ncclResult_t state = ncclSuccess;
    MPO_RETURN_IF_ERROR(OfNccl(ncclCommGetAsyncError(comm, &state)));
    return OfNccl(state);
  }
  // Whether NCCL has taken in its last call.
  absl::StatusOr<bool> Ready() const {
    ncclResult_t state = ncclSuccess;
    MPO_RETURN_IF_ERROR(OfNccl(ncclCommGetAsyncError(comm, &state)));
    MPO_RETURN_IF_ERROR(OfNccl(state));
    return state == ncclSuccess;
  }

  ncclComm_t comm = nullptr;
  cudaStream_t stream = nullptr;
  cudaEvent_t done = nullptr;
};

absl::StatusOr<std::unique_ptr<NcclGroup>> NcclGroup::Connect(
    std::shared_ptr<Membership> membership, const Options& options) {
  MPO_RETURN_IF_ERROR(
      OfCuda(cudaSetDevice(options.device),
             absl::StrCat("CUDA device ", options.device).c_str()));
  MPO_ASSIGN_OR_RETURN(const ncclUniqueId id,
                       ShareId(*membership, options.connect));
  auto own = std::make_unique<Communicator>();
  MPO_RETURN_IF_ERROR(
      OfCuda(cudaStreamCreateWithFlags(&own->stream, cudaStreamNonBlocking),
             "stream"));
  MPO_RETURN_IF_ERROR(OfCuda(
      cudaEventCreateWithFlags(&own->done, cudaEventDisableTiming), "event"));
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  MPO_RETURN_IF_ERROR(OfNccl(ncclCommInitRankConfig(
      &own->comm, membership->ranks(), id, membership->rank(), &config)));
  MPO_RETURN_IF_ERROR(
      own->Await(*membership, options.connect, [&] { return own->Ready(); }));
  return std::unique_ptr<NcclGroup>(
      new NcclGroup(std::move(membership), options, std::move(own)));
}

NcclGroup::NcclGroup(std::shared_ptr<Membership> membership,
                     const Options& options,
                     std::unique_ptr<Communicator> communicator)
    : ProcessGroup(std::move(membership), options.operations),
      device_(options.device),
      communicator_(std::move(communicator)) {}

NcclGroup::~NcclGroup() = default;

absl::Status NcclGroup::Transfer(const Collective& collective) {
  Communicator& own = *communicator_;
  if (own.comm == nullptr) {
    return absl::UnavailableError("the communicator was aborted");
  }
  MPO_RETURN_IF_ERROR(OfCuda(cudaSetDevice(device_), "CUDA device"));
  // What the tensors are made by runs on other streams of this thread.
  MPO_RETURN_IF_ERROR(OfCuda(cudaDeviceSynchronize(), "pending kernels"));
  const at::Tensor& tensor = collective.tensor;
  void* data = tensor.data_ptr();
  const auto count = static_cast<size_t>(tensor.numel());
  const ncclDataType_t type = TypeOf(tensor);
  ncclResult_t result = ncclSuccess;
  switch (collective.kind) {
    case Kind::kAllReduceSum:
      result =
          ncclAllReduce(data, data, count, type, ncclSum, own.comm, own.stream);
      break;
    case Kind::kBroadcast:
      result = ncclBroadcast(data, data, count, type, collective.root, own.comm,
                             own.stream);
      break;
    case Kind::kAllGather:
      result = ncclAllGather(data, collective.all.data_ptr(), count, type,
                             own.comm, own.stream);
      break;
  }
  MPO_RETURN_IF_ERROR(OfNccl(result));
  MPO_RETURN_IF_ERROR(
      own.Await(membership(), collective.timeout, [&] { return own.Ready(); }));
  MPO_RETURN_IF_ERROR(OfCuda(cudaEventRecord(own.done, own.stream), "event"));
  return own.Await(membership(), collective.timeout,
                   [&]() -> absl::StatusOr<bool> {
                     const cudaError_t state = cudaEventQuery(own.done);
                     if (state == cudaErrorNotReady) return false;
                     MPO_RETURN_IF_ERROR(OfCuda(state, "transfer"));
                     return true;
                   });
}

}  // namespace mpo::collective
