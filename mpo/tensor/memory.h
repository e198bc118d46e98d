// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace mpo::tensor {

// From now on memory that is freed stays with the process, to be used again:
// fresh pages of large tensors cost an update some percent of its time. Its
// resident memory then stays at the peak. For processes that train; to be
// called before any thread starts. Does nothing with another C library than
// glibc.
void KeepMemory();

}  // namespace mpo::tensor
