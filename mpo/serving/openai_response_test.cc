// SPDX-License-Identifier: Apache-2.0
#include "mpo/serving/openai_response.h"

#include "mpo/serving/serving_fixture.h"

namespace mpo::serving {
namespace {

using Json = nlohmann::json;

Json EventOf(const std::string& event) { return Json::parse(event.substr(6)); }

TEST_CASE("the bytes of a token are its own where they are no text",
          "[serving]") {
  const ServingFixture f;
  const ResponseWriter writer(*f.tokenizer, /*chat=*/true, "id", "m", 1, true);
  // Half a code point, and an id that only the model has.
  const SampleNews news{.tokens = {{.token = 0xC3, .top = {{0xA9, -1.0F}}},
                                   {.token = text::kTinyVocabSize + 7}}};
  const Json content = writer.Choice(0, news)["logprobs"]["content"];
  CHECK(content[0]["bytes"] == Json{0xC3});
  CHECK(content[0]["token"] == "\uFFFD");
  CHECK(content[0]["top_logprobs"][0]["bytes"] == Json{0xA9});
  CHECK(content[1]["bytes"].empty());
  CHECK(content[1]["token"] == "");
}

TEST_CASE("offsets go on from chunk to chunk of a choice", "[serving]") {
  const ServingFixture f;
  const ResponseWriter writer(*f.tokenizer, /*chat=*/false, "id", "m", 1, true);
  const SampleNews news{.tokens = {{.token = ' '}, {.token = 'b'}}};
  ToldChoice told;
  CHECK(EventOf(writer.Chunk(0, news,
                             told))["choices"][0]["logprobs"]["text_offset"] ==
        Json({0, 1}));
  CHECK(EventOf(writer.Chunk(0, news,
                             told))["choices"][0]["logprobs"]["text_offset"] ==
        Json({2, 3}));
}

TEST_CASE("failures have the HTTP status of their cause", "[serving]") {
  CHECK(ErrorOf(absl::ResourceExhaustedError("full")).status == 429);
  CHECK(ErrorOf(absl::InvalidArgumentError("n: 0")).status == 400);
  CHECK(ErrorOf(absl::CancelledError("")).status == 503);
  CHECK(ErrorOf(absl::DataLossError("NaN")).status == 500);
  const HttpError memory = ErrorOf(absl::UnavailableError("out of memory: x"));
  CHECK(memory.status == 503);
  CHECK(Json::parse(memory.body)["error"]["code"] == "out_of_memory");
}

}  // namespace
}  // namespace mpo::serving
