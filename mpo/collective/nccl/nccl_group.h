// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "mpo/collective/process_group.h"

namespace mpo::collective {

// Tensors of GPUs over NCCL, one GPU a rank. NCCL alone would wait for ever for
// a rank that is lost: its calls are made without blocking, watched, and
// aborted when the group ends or they stand still. No authentication or
// encryption: for a network of the learner's own.
class NcclGroup final : public ProcessGroup {
 public:
  struct Options {
    ProcessGroup::Options operations = {};
    int device = 0;  // CUDA device of this rank.
    absl::Duration connect = absl::Seconds(25);
  };

  // Connects with all other ranks, which must call it too. UNAVAILABLE,
  // DEADLINE_EXCEEDED: a rank cannot be reached. FAILED_PRECONDITION: there is
  // no such device.
  static absl::StatusOr<std::unique_ptr<NcclGroup>> Connect(
      std::shared_ptr<Membership> membership, const Options& options);
  ~NcclGroup() override;
  at::Device device() const override {
    return {at::kCUDA, static_cast<c10::DeviceIndex>(device_)};
  }

 protected:
  // Returns once the result is there for kernels of any stream.
  absl::Status Transfer(const Collective& collective) override;

 private:
  struct Communicator;
  NcclGroup(std::shared_ptr<Membership> membership, const Options& options,
            std::unique_ptr<Communicator> communicator);

  const int device_;
  const std::unique_ptr<Communicator> communicator_;
};

}  // namespace mpo::collective
