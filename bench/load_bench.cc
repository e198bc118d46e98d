// SPDX-License-Identifier: Apache-2.0
// Loads a model directory and prints the time and the memory it took.
#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>

#include "mpo/model/language_model.h"
#include "nlohmann/json.hpp"

namespace {

// A line of /proc/self/status, in bytes.
int64_t StatusBytes(const std::string& key) {
  std::ifstream file("/proc/self/status");
  std::string line;
  while (std::getline(file, line)) {
    if (line.rfind(key + ":", 0) != 0) continue;
    std::istringstream fields(line.substr(key.size() + 1));
    int64_t kib = 0;
    fields >> kib;
    return kib * 1024;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Time and peak memory of loading a model as float32");
  std::string directory;
  app.add_option("--model", directory, "Hugging Face directory")->required();
  CLI11_PARSE(app, argc, argv);

  const int64_t before = StatusBytes("VmRSS");
  const auto began = std::chrono::steady_clock::now();
  const auto model = mpo::model::LanguageModel::Load(directory);
  if (!model.ok()) {
    std::cerr << model.status() << "\n";
    return 1;
  }
  const std::chrono::duration<double> seconds =
      std::chrono::steady_clock::now() - began;
  const int64_t peak = StatusBytes("VmHWM");
  const int64_t weights = (*model)->config().parameters() * 4;
  std::cout << nlohmann::ordered_json{{"weights_bytes", weights},
                                      {"rss_before_bytes", before},
                                      {"peak_rss_bytes", peak},
                                      {"peak_over_weights",
                                       static_cast<double>(peak) /
                                           static_cast<double>(weights)},
                                      {"growth_over_weights",
                                       static_cast<double>(peak - before) /
                                           static_cast<double>(weights)},
                                      {"seconds", seconds.count()}}
            << "\n";
  return 0;
}
