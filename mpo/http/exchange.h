// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <stop_token>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace mpo::http {

struct Request {
  const std::string& url;
  const std::string& bearer;  // Authorization; empty = none.
  const std::string* body;    // POSTed as JSON; null = a GET.
  absl::Duration timeout;     // Of the whole exchange.
  size_t max_reply_bytes;     // A larger reply is cut off and says so.
};

// What it gave.
struct Reply {
  enum class Transfer { kWhole, kTimedOut, kTooLarge, kBroken };
  Transfer transfer = Transfer::kBroken;
  std::string error;  // kBroken: why.
  long status = 0;
  std::string body;
  double retry_after = -1;  // Seconds, of the header; -1 = not told.
};

// What came of an exchange: OK for a whole reply of status 200, else
// DEADLINE_EXCEEDED  no reply in time, 408;
// UNAVAILABLE        the connection was refused or broke, 5xx;
// RESOURCE_EXHAUSTED 429;
// DATA_LOSS          the reply was over the limit;
// FAILED_PRECONDITION  any other status.
absl::Status StatusOf(const Reply& reply);

// The start of a reply's body for a message, bytes that are no text replaced.
std::string Excerpt(const std::string& body);

// Blocks until the exchange is over or `stop` is requested (then kBroken).
// Redirects are not followed; libcurl's proxy variables apply. Thread-safe.
Reply Exchange(const Request& request, std::stop_token stop);

}  // namespace mpo::http
