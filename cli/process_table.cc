// SPDX-License-Identifier: Apache-2.0
#include "cli/process_table.h"

#include <exception>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "mpo/base/file.h"

namespace mpo::cli {

absl::Status WriteProcesses(const std::filesystem::path& directory,
                            const ProcessTable& table) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  for (const auto& [name, entry] : table) {
    json[name] = {{"pid", entry.pid},
                  {"address", entry.addresses.grpc},
                  {"metrics", entry.addresses.metrics}};
  }
  return WriteFileAtomically(directory / "processes.json", json.dump(2) + "\n");
}

absl::StatusOr<ProcessTable> ReadProcesses(
    const std::filesystem::path& directory) {
  const std::filesystem::path path = directory / "processes.json";
  const absl::StatusOr<std::string> text = ReadFile(path);
  if (absl::IsNotFound(text.status())) {
    return absl::NotFoundError(
        absl::StrCat("no run in ", directory.string(),
                     ": expected the run directory of mpo train, with a "
                     "processes.json"));
  }
  if (!text.ok()) return text.status();
  try {
    ProcessTable table;
    const nlohmann::json json = nlohmann::json::parse(*text);
    for (const auto& [name, entry] : json.items()) {
      table[name] = {
          .pid = entry.at("pid").get<int>(),
          .addresses = {.grpc = entry.at("address").get<std::string>(),
                        .metrics = entry.at("metrics").get<std::string>()}};
    }
    return table;
  } catch (const std::exception& error) {
    return absl::DataLossError(absl::StrCat(path.string(), ": ", error.what()));
  }
}

}  // namespace mpo::cli
