// SPDX-License-Identifier: Apache-2.0
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "mpo/serving/openai_request.h"

namespace {

// What the header promises of a request that was not refused.
void Check(const absl::StatusOr<mpo::serving::CompletionRequest>& request,
           bool chat) {
  if (!request.ok()) {
    if (!absl::IsInvalidArgument(request.status())) std::abort();
    return;
  }
  if (request->messages.empty() == chat) std::abort();
  if (request->prompts.empty() != chat) std::abort();
  if (request->n < 1 || request->n > 128) std::abort();
  if (request->top_logprobs < 0 || request->top_logprobs > 20) std::abort();
  const mpo::SamplingOptions& sampling = request->sampling;
  if (!(sampling.temperature >= 0 && sampling.temperature <= 10)) std::abort();
  if (!(sampling.top_p > 0 && sampling.top_p <= 1)) std::abort();
}

}  // namespace

// One text as the body of both calls of mpo serve.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  Check(mpo::serving::ParseChatRequest(body), /*chat=*/true);
  Check(mpo::serving::ParseCompletionRequest(body), /*chat=*/false);
  return 0;
}
