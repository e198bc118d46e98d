// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "mpo/serving/generation_worker.h"
#include "mpo/text/tokenizer.h"

namespace mpo::serving {

// Builds the answers of one request in the shapes of OpenAI's API; pure.
class ResponseWriter {
 public:
  // `tokenizer` must outlive the writer. `created`: seconds since 1970.
  ResponseWriter(const text::Tokenizer& tokenizer, bool chat, std::string id,
                 std::string model, int64_t created, bool logprobs)
      : tokenizer_(tokenizer),
        chat_(chat),
        id_(std::move(id)),
        model_(std::move(model)),
        created_(created),
        logprobs_(logprobs) {}

  // One whole choice; `news` of all its tokens.
  nlohmann::ordered_json Choice(int index, const SampleNews& news) const;
  nlohmann::ordered_json Whole(std::vector<nlohmann::ordered_json> choices,
                               int64_t prompt_tokens,
                               int64_t completion_tokens) const;

  // One server-sent event with what is new of a choice; `first` opens a chat's
  // turn.
  std::string Chunk(int index, const SampleNews& news, bool first) const;
  std::string UsageChunk(int64_t prompt_tokens,
                         int64_t completion_tokens) const;
  static std::string LastEvent() { return "data: [DONE]\n\n"; }

 private:
  nlohmann::ordered_json Head(const char* object) const;
  nlohmann::ordered_json Logprobs(const std::vector<ServedToken>& tokens) const;
  std::string TextOf(int32_t token) const;

  const text::Tokenizer& tokenizer_;
  const bool chat_;
  const std::string id_;
  const std::string model_;
  const int64_t created_;
  const bool logprobs_;
};

// {"error": {...}} and the HTTP status of a failure.
struct HttpError {
  int status = 500;
  std::string body;
};
HttpError ErrorOf(const absl::Status& status);
HttpError MakeError(int status, const std::string& message,
                    const std::string& param, const std::string& code);

}  // namespace mpo::serving
