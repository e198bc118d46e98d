// SPDX-License-Identifier: Apache-2.0
#include "cli/doctor_checks.h"

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "mpo/base/file.h"
#include "mpo/base/status_macros.h"
#include "mpo/http/exchange.h"
#include "mpo/rubric/rubric_yaml.h"
#include "services/orchestrator/ledger_audit.h"

namespace mpo::cli {
namespace {

using Level = Finding::Level;

constexpr double kGiB = 1 << 30;

// Words behind "<key>:" of the first line that has it; empty when none has.
std::string LineOf(const std::string& text, const std::string& key) {
  std::istringstream lines(text);
  std::string line;
  while (std::getline(lines, line)) {
    if (line.rfind(key, 0) != 0) continue;
    const size_t colon = line.find(':');
    if (colon != std::string::npos) return line.substr(colon + 1);
  }
  return "";
}

Finding CheckMemory(const std::string& meminfo) {
  const double available =
      std::strtod(LineOf(meminfo, "MemAvailable").c_str(), nullptr) * 1024;
  Finding finding{
      .name = "memory",
      .detail = absl::StrFormat("%.1f GiB available", available / kGiB)};
  if (available < 2 * kGiB) {
    finding.level = Level::kFailed;
    finding.detail += ", expected at least 2; end other programs";
  } else if (available < 6 * kGiB) {
    finding.level = Level::kWarning;
    finding.detail += ", the quickstart wants 6";
  }
  return finding;
}

Finding CheckDiskSpace(const std::filesystem::path& directory) {
  const absl::StatusOr<uint64_t> free = FreeBytes(directory);
  if (!free.ok()) {
    return {.level = Level::kFailed,
            .name = "disk",
            .detail = std::string(free.status().message())};
  }
  Finding finding{.name = "disk",
                  .detail = absl::StrFormat("%.1f GiB free at %s",
                                            static_cast<double>(*free) / kGiB,
                                            directory.string())};
  if (static_cast<double>(*free) < 2 * kGiB) {
    finding.level = Level::kFailed;
    finding.detail += ", expected at least 2; make room";
  }
  return finding;
}

}  // namespace

std::string ToLine(const Finding& finding) {
  const char* level = finding.level == Level::kOk        ? "ok"
                      : finding.level == Level::kWarning ? "warn"
                                                         : "FAIL";
  return absl::StrFormat("%-5s %-12s %s", level, finding.name, finding.detail);
}

std::string ToJson(const std::vector<Finding>& findings) {
  nlohmann::ordered_json checks = nlohmann::ordered_json::array();
  for (const Finding& finding : findings) {
    checks.push_back({{"name", finding.name},
                      {"ok", finding.level != Level::kFailed},
                      {"warning", finding.level == Level::kWarning},
                      {"detail", finding.detail}});
  }
  const nlohmann::ordered_json json{{"ok", !AnyFailed(findings)},
                                    {"checks", checks}};
  return json.dump(2, ' ', false,
                   nlohmann::ordered_json::error_handler_t::replace);
}

bool AnyFailed(const std::vector<Finding>& findings) {
  return std::any_of(findings.begin(), findings.end(), [](const Finding& one) {
    return one.level == Level::kFailed;
  });
}

std::vector<Finding> CheckMachine(const std::string& meminfo,
                                  const std::string& cpuinfo,
                                  const std::filesystem::path& directory) {
  int cores = 0;
  std::istringstream lines(cpuinfo);
  std::string line;
  while (std::getline(lines, line)) {
    if (line.rfind("processor", 0) == 0) ++cores;
  }
  std::vector<Finding> findings;
  findings.push_back({.level = cores >= 2 ? Level::kOk : Level::kWarning,
                      .name = "cores",
                      .detail = absl::StrCat(
                          cores, cores >= 2 ? "" : ", expected at least 2")});
  findings.push_back(CheckMemory(meminfo));
  findings.push_back(CheckDiskSpace(directory));
  const std::string flags = LineOf(cpuinfo, "flags") + " ";
  const bool avx2 = flags.find(" avx2 ") != std::string::npos;
  const bool avx512 = flags.find(" avx512f ") != std::string::npos;
  findings.push_back({.level = avx2 ? Level::kOk : Level::kWarning,
                      .name = "vectors",
                      .detail = avx512 ? "AVX-512"
                                : avx2
                                    ? "AVX2"
                                    : "no AVX2: training works and is slow"});
  return findings;
}

std::vector<Finding> AuditRun(const std::filesystem::path& directory) {
  const auto report = orchestrator::AuditLedger(
      directory / "ledger.sqlite",
      [](const std::string& yaml) -> absl::StatusOr<std::string> {
        MPO_ASSIGN_OR_RETURN(const Rubric parsed, rubric::ParseYaml(yaml));
        return rubric::Sha256Of(parsed);
      });
  if (!report.ok()) {
    return {{.level = Level::kFailed,
             .name = "ledger",
             .detail = std::string(report.status().message())}};
  }
  std::vector<Finding> findings;
  for (const auto& check : report->checks) {
    findings.push_back(
        {.level = check.ok ? Level::kOk : Level::kFailed,
         .name = "audit",
         .detail = absl::StrCat(check.name, ": ", check.detail)});
  }
  findings.push_back(
      {.level = report->ok() ? Level::kOk : Level::kFailed,
       .name = "exactly once",
       .detail = absl::StrCat(report->committed_steps, " steps, ",
                              report->samples_committed, " samples, ",
                              report->samples_unscorable, " unscorable")});
  return findings;
}

Finding CheckJudge(const std::string& base_url) {
  Finding finding{.level = Level::kFailed, .name = "judge"};
  if (!absl::StartsWith(base_url, "http://") &&
      !absl::StartsWith(base_url, "https://")) {
    finding.detail =
        absl::StrCat("expected \"embedded\" or http(s)://host[:port], got \"",
                     base_url, "\"");
    return finding;
  }
  // The same spellings as reward.judge takes.
  std::string url = base_url;
  while (url.ends_with("/")) url.pop_back();
  for (const std::string_view end : {"/chat/completions", "/v1"}) {
    if (url.ends_with(end)) url.resize(url.size() - end.size());
  }
  url += "/v1/models";
  const http::Reply reply = http::Exchange({.url = url,
                                            .bearer = "",
                                            .body = nullptr,
                                            .timeout = absl::Seconds(5),
                                            .max_reply_bytes = size_t{1} << 20},
                                           {});
  using Transfer = http::Reply::Transfer;
  if (reply.transfer == Transfer::kBroken ||
      reply.transfer == Transfer::kTimedOut) {
    finding.detail = absl::StrCat(
        url, ": ", reply.error.empty() ? "no answer in time" : reply.error,
        "; is the judge running, is the URL right?");
  } else if (reply.status >= 500) {
    finding.detail = absl::StrCat(url, " answered ", reply.status);
  } else {
    finding.level = reply.status < 300 ? Level::kOk : Level::kWarning;
    finding.detail = absl::StrCat(url, " answered ", reply.status);
  }
  return finding;
}

}  // namespace mpo::cli
