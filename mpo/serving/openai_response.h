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

// What a stream has told of a choice so far.
struct ToldChoice {
  bool opened = false;      // A chat's turn.
  int64_t text_offset = 0;  // Of the next token, in characters.
};

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

  // One server-sent event with what is new of a choice; `told` goes on.
  std::string Chunk(int index, const SampleNews& news, ToldChoice& told) const;
  std::string UsageChunk(int64_t prompt_tokens,
                         int64_t completion_tokens) const;
  static std::string LastEvent() { return "data: [DONE]\n\n"; }

 private:
  nlohmann::ordered_json Head(const char* object) const;
  nlohmann::ordered_json Logprobs(const std::vector<ServedToken>& tokens,
                                  int64_t& text_offset) const;
  // Empty for an id that only the model has.
  std::string BytesOf(int32_t token) const;
  // Its bytes with U+FFFD for what is not UTF-8: as within a text, so with the
  // space it may begin with.
  std::string TextOf(int32_t token) const;

  const text::Tokenizer& tokenizer_;
  const bool chat_;
  const std::string id_;
  const std::string model_;
  const int64_t created_;
  const bool logprobs_;
};

// {"error": {...}} and the HTTP status of a failure. RESOURCE_EXHAUSTED is a
// full queue (429), UNAVAILABLE and CANCELLED are a
// lack of memory, as the message says, or the end of the server (503).
struct HttpError {
  int status = 500;
  std::string body;
};
HttpError ErrorOf(const absl::Status& status);
HttpError MakeError(int status, const std::string& message,
                    const std::string& param, const std::string& code);

}  // namespace mpo::serving
