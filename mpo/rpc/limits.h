// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace mpo::rpc {

// Same on both sides of every connection of the mesh.
inline constexpr int kMaxMessageBytes = 8 << 20;
inline constexpr int kKeepaliveMs = 5'000;
inline constexpr int kKeepaliveTimeoutMs = 3'000;
// Below the client's interval, or gRPC answers "too many pings".
inline constexpr int kMinReceivedPingMs = 2'000;

}  // namespace mpo::rpc
