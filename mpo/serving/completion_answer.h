// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "mpo/serving/client_connection.h"
#include "mpo/serving/generation_worker.h"
#include "mpo/serving/openai_request.h"
#include "mpo/serving/openai_response.h"

namespace httplib {
struct Response;
}  // namespace httplib

namespace mpo::serving {

// The samples of one request: prompt by prompt, n of each.
struct CompletionWork {
  CompletionRequest request;
  std::vector<std::unique_ptr<SampleStream>> streams;
  int64_t prompt_tokens = 0;
};

// The body of the whole answer. CANCELLED: the client hung up, or the server
// ends; a failed sample's own status. What is not done then is cancelled when
// `work` goes.
absl::StatusOr<std::string> WholeAnswer(CompletionWork& work,
                                        const ResponseWriter& writer,
                                        const ClientConnection& client);

// Makes `response` a stream of server-sent events, written as tokens come, the
// choices in turn; a failed sample ends it with an error event. `alive` is held
// until the last byte is written or the client is gone.
void StreamAnswer(std::shared_ptr<CompletionWork> work,
                  std::shared_ptr<ResponseWriter> writer,
                  std::shared_ptr<void> alive, httplib::Response& response);

}  // namespace mpo::serving
