// SPDX-License-Identifier: Apache-2.0
#include "cli/rubric_text.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

namespace mpo::cli {
namespace {

using Catch::Contains;
using orchestrator::RubricState;

Criterion Make(const std::string& id) {
  Criterion criterion;
  criterion.id = id;
  criterion.text = "text of " + id;
  return criterion;
}

const std::vector<orchestrator::RubricRecord> kRubrics = {
    {.sha256 = "abcd1111",
     .version = 0,
     .parent = "",
     .state = RubricState::kRetired,
     .origin = "initial",
     .reasons = {},
     .first_step = 1,
     .yaml = ""},
    {.sha256 = "abcd2222",
     .version = 1,
     .parent = "abcd1111",
     .state = RubricState::kActive,
     .origin = "refinement",
     .reasons = {"add flow", "drop length"},
     .first_step = 9,
     .yaml = ""},
    {.sha256 = "ffff3333",
     .version = std::nullopt,
     .parent = "abcd2222",
     .state = RubricState::kRejected,
     .origin = "refinement",
     .reasons = {},
     .first_step = 0,
     .yaml = ""}};

}  // namespace

TEST_CASE("DiffText tells new, dropped and changed criteria", "[cli]") {
  Rubric from;
  from.criteria = {Make("flow"), Make("length")};
  Rubric to = from;
  to.criteria = {Make("flow"), Make("copying")};
  to.criteria[0].weight = 1.5;
  to.criteria[0].check = Check{.name = "words", .zero_at = 0, .saturate_at = 9};
  CHECK(DiffText(from, to) ==
        "~ flow.weight: 1 -> 1.5\n"
        "~ flow.check: none -> words from 0 to 9\n"
        "+ copying: text of copying (0 to 5, weight 1, check none)\n"
        "- length: text of length\n");
  CHECK(DiffText(from, from).empty());
}

TEST_CASE("Pick finds a rubric by version and by digits", "[cli]") {
  CHECK(Pick(kRubrics, "1")->sha256 == "abcd2222");
  CHECK(Pick(kRubrics, "ffff")->sha256 == "ffff3333");
  CHECK(absl::IsNotFound(Pick(kRubrics, "7").status()));
  CHECK(absl::IsNotFound(Pick(kRubrics, "ff").status()));
  CHECK(absl::IsInvalidArgument(Pick(kRubrics, "abcd").status()));
  CHECK_THAT(std::string(Pick(kRubrics, "7").status().message()),
             Contains("0, 1, ffff3333"));
}

TEST_CASE("ListLine and ListJson show the lineage", "[cli]") {
  CHECK_THAT(ListLine(kRubrics[1]),
             Contains("active") && Contains("from step 9") &&
                 Contains("refinement: add flow; drop length"));
  CHECK_THAT(ListLine(kRubrics[2]), Contains("never judged"));
  const auto json = nlohmann::json::parse(ListJson(kRubrics));
  CHECK(json[1].at("first_step") == 9);
  CHECK(json[2].at("version").is_null());
}

}  // namespace mpo::cli
