// SPDX-License-Identifier: Apache-2.0
#include "cli/doctor_checks.h"

#include <httplib.h>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <thread>

namespace mpo::cli {
namespace {

using Catch::Contains;
using Level = Finding::Level;

constexpr char kCpus[] =
    "processor\t: 0\nflags\t\t: fpu sse avx avx2 avx512f\n\n"
    "processor\t: 1\nflags\t\t: fpu sse avx avx2 avx512f\n";

// An HTTP server on a free port that answers /v1/models with `status`.
class Judge {
 public:
  explicit Judge(int status) {
    server_.Get("/v1/models",
                [status](const httplib::Request&, httplib::Response& response) {
                  response.status = status;
                });
    port_ = server_.bind_to_any_port("127.0.0.1");
    thread_ = std::thread([this] { server_.listen_after_bind(); });
    // A stop before the server runs would be lost.
    while (!server_.is_running()) std::this_thread::yield();
  }
  ~Judge() {
    server_.stop();
    thread_.join();
  }
  std::string url() const {
    return "http://127.0.0.1:" + std::to_string(port_) + "/v1";
  }

 private:
  httplib::Server server_;
  int port_ = 0;
  std::thread thread_;
};

}  // namespace

TEST_CASE("CheckMachine reads cores, memory, disk and instructions", "[cli]") {
  const auto findings =
      CheckMachine("MemTotal: 9 kB\nMemAvailable:   16777216 kB\n", kCpus, "/");
  REQUIRE(findings.size() == 4);
  CHECK(findings[0].detail == "2");
  CHECK(findings[1].detail == "16.0 GiB available");
  CHECK(findings[1].level == Level::kOk);
  CHECK(findings[3].detail == "AVX-512");
}

TEST_CASE("CheckMachine warns of little and fails on too little", "[cli]") {
  CHECK(CheckMachine("MemAvailable: 4194304 kB\n", "", "/")[1].level ==
        Level::kWarning);
  const auto findings = CheckMachine("MemAvailable: 1000 kB\n", "", "/");
  CHECK(findings[0].level == Level::kWarning);
  CHECK(findings[1].level == Level::kFailed);
  CHECK_THAT(findings[1].detail, Contains("expected at least 2"));
  CHECK(findings[3].level == Level::kWarning);
  CHECK(AnyFailed(findings));
}

TEST_CASE("CheckJudge tells answers from silence", "[cli]") {
  SECTION("answers") {
    const Judge judge(200);
    CHECK(CheckJudge(judge.url()).level == Level::kOk);
    CHECK(CheckJudge(judge.url() + "/").level == Level::kOk);
  }
  SECTION("wants a key") {
    const Judge judge(401);
    CHECK(CheckJudge(judge.url()).level == Level::kWarning);
  }
  SECTION("broken") {
    const Judge judge(503);
    CHECK(CheckJudge(judge.url()).level == Level::kFailed);
  }
  SECTION("nobody there") {
    std::string url;
    { url = Judge(200).url(); }
    const Finding finding = CheckJudge(url);
    CHECK(finding.level == Level::kFailed);
    CHECK_THAT(finding.detail, Contains("is the URL right"));
  }
}

TEST_CASE("Findings are lines and JSON", "[cli]") {
  const std::vector<Finding> findings = {
      {.level = Level::kOk, .name = "cores", .detail = "2"},
      {.level = Level::kFailed, .name = "disk", .detail = "none"}};
  CHECK(ToLine(findings[0]) == "ok    cores        2");
  CHECK(ToLine(findings[1]) == "FAIL  disk         none");
  const auto json = nlohmann::json::parse(ToJson(findings));
  CHECK(json.at("ok") == false);
  CHECK(json.at("checks")[1].at("name") == "disk");
}

}  // namespace mpo::cli
