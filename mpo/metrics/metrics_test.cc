// SPDX-License-Identifier: Apache-2.0
#include <curl/curl.h>

#include <catch2/catch.hpp>
#include <string>

#include "mpo/metrics/exposer.h"
#include "mpo/metrics/process_collector.h"

namespace mpo::metrics {
namespace {

std::string Get(const std::string& url) {
  std::string body;
  CURL* curl = curl_easy_init();
  curl_easy_setopt(curl, CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl, CURLOPT_TIMEOUT, 10L);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &body);
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION,
                   +[](char* data, size_t size, size_t n, void* out) {
                     static_cast<std::string*>(out)->append(data, size * n);
                     return size * n;
                   });
  curl_easy_perform(curl);
  curl_easy_cleanup(curl);
  return body;
}

}  // namespace

TEST_CASE("Exposition serves the registry and the process metrics as text") {
  auto exposition = Exposition::Start("reward_server", "127.0.0.1:0");
  REQUIRE(exposition.ok());
  const std::string body = Get("http://127.0.0.1:" +
                               std::to_string((*exposition)->port()) +
                               "/metrics");
  CHECK_THAT(body, Catch::Contains("mpo_build_info{process=\"reward_server\""));
  CHECK_THAT(body, Catch::Contains("process_resident_memory_bytes"));
  CHECK_THAT(body, Catch::Contains("mpo_log_lines_total{level=\"error\"}"));
}

TEST_CASE("Exposition says which port is taken") {
  auto first = Exposition::Start("a", "127.0.0.1:0");
  REQUIRE(first.ok());
  const std::string address =
      "127.0.0.1:" + std::to_string((*first)->port());
  const auto second = Exposition::Start("b", address);
  CHECK(absl::IsUnavailable(second.status()));
  CHECK_THAT(std::string(second.status().message()), Catch::Contains(address));
}

TEST_CASE("Exposition without an address still has a registry") {
  auto exposition = Exposition::Start("a", "");
  REQUIRE(exposition.ok());
  CHECK((*exposition)->port() == 0);
  CHECK((*exposition)->registry().Collect().size() == 1);
}

TEST_CASE("ProcessCollector reads plausible values") {
  for (const auto& family : ProcessCollector().Collect()) {
    INFO(family.name);
    REQUIRE_FALSE(family.metric.empty());
    if (family.name == "process_start_time_seconds") {
      CHECK(family.metric[0].gauge.value > 1.6e9);
    }
    if (family.name == "process_open_fds") {
      CHECK(family.metric[0].gauge.value >= 3);
    }
  }
}

}  // namespace mpo::metrics
