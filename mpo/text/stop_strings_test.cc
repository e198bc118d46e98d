// SPDX-License-Identifier: Apache-2.0
#include "mpo/text/stop_strings.h"

#include <catch2/catch.hpp>

namespace mpo::text {
namespace {

// The whole text that comes out when `text` is cut into pieces of `size`.
std::string Stream(const std::vector<std::string>& stops,
                   const std::string& text, size_t size, bool* found) {
  StopStrings watch(stops);
  std::string out;
  for (size_t at = 0; at < text.size(); at += size)
    out += watch.Push(std::string_view(text).substr(at, size));
  out += watch.Finish();
  *found = watch.found();
  return out;
}

TEST_CASE("text ends before the first stop string, however it is cut",
          "[text]") {
  const std::string text = "one two\n\nthree END four";
  struct Case {
    std::vector<std::string> stops;
    std::string expected;
    bool found;
  };
  const std::vector<Case> cases = {
      {{}, text, false},
      {{""}, text, false},
      {{"\n\n"}, "one two", true},
      {{"END"}, "one two\n\nthree ", true},
      {{"END", "two"}, "one ", true},
      {{"ENDING", "fourth"}, text, false},
      {{"one"}, "", true},
      {{"\n\nthree END four"}, "one two", true},
      {{"aab", "ab"}, text, false},
  };
  for (const Case& c : cases) {
    for (size_t size = 1; size <= text.size(); ++size) {
      bool found = false;
      CHECK(Stream(c.stops, text, size, &found) == c.expected);
      CHECK(found == c.found);
    }
  }
  bool found = false;
  CHECK(Stream({"aab"}, "aaab", 1, &found) == "a");
  CHECK(found);
}

TEST_CASE("only what may begin a stop string is held back", "[text]") {
  StopStrings watch({"STOP"});
  CHECK(watch.Push("go ST") == "go ");
  CHECK(watch.Push("AY") == "STAY");
  CHECK(watch.Push(" S") == " ");
  CHECK(watch.Push("TOP and more") == "");
  CHECK(watch.found());
  CHECK(watch.Push("later") == "");
  CHECK(watch.Finish() == "");
}

}  // namespace
}  // namespace mpo::text
