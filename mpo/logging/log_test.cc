// SPDX-License-Identifier: Apache-2.0
#include "mpo/logging/log.h"

#include <catch2/catch.hpp>

namespace mpo::logging {

TEST_CASE("Field writes plain values as they are") {
  CHECK(Field("step", 7).text() == "step=7");
  CHECK(Field("ready", true).text() == "ready=true");
  CHECK(Field("gold", 7.25).text() == "gold=7.25");
  CHECK(Field("unit", "training/1/0").text() == "unit=training/1/0");
}

TEST_CASE("Field quotes what could be read as another field") {
  CHECK(Field("text", "two words").text() == "text=\"two words\"");
  CHECK(Field("text", "").text() == "text=\"\"");
  CHECK(Field("text", "say \"x\"").text() == "text=\"say \\\"x\\\"\"");
}

TEST_CASE("Field escapes control characters so that no text can forge a line") {
  CHECK(Field("text", "a\nERROR b\x1b[2J").text() ==
        "text=\"a\\nERROR b\\x1b[2J\"");
}

TEST_CASE("A status shows its code and message") {
  CHECK(Field("status", absl::NotFoundError("no rubric 7")).text() ==
        "status=\"NOT_FOUND: no rubric 7\"");
}

TEST_CASE("Lines are counted by level") {
  const int64_t before = LineCount("warning");
  Warning("counted line", {{"n", 1}});
  CHECK(LineCount("warning") == before + 1);
}

}  // namespace mpo::logging
