// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <stop_token>
#include <string>

#include "absl/time/time.h"

namespace mpo::judge {

struct HttpRequest {
  const std::string& url;
  const std::string& bearer;  // Authorization; empty = none.
  const std::string* body;    // POSTed as JSON; null = a GET.
  absl::Duration timeout;     // Of the whole exchange.
  size_t max_reply_bytes;     // A larger reply is cut off and says so.
};

// What it gave.
struct HttpReply {
  enum class Transfer { kWhole, kTimedOut, kTooLarge, kBroken };
  Transfer transfer = Transfer::kBroken;
  std::string error;  // kBroken: why.
  long status = 0;
  std::string body;
  double retry_after = -1;  // Seconds, of the header; -1 = not told.
};

// Blocks until the exchange is over or `stop` is requested (then kBroken).
// Redirects are not followed; libcurl's proxy variables apply. Thread-safe.
HttpReply Exchange(const HttpRequest& request, std::stop_token stop);

}  // namespace mpo::judge
