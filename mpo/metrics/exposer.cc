// SPDX-License-Identifier: Apache-2.0
#include "mpo/metrics/exposer.h"

#include <prometheus/exposer.h>
#include <prometheus/gauge.h>

#include <exception>
#include <utility>

#include "absl/strings/str_cat.h"
#include "mpo/metrics/process_collector.h"

namespace mpo::metrics {

absl::StatusOr<std::unique_ptr<Exposition>> Exposition::Start(
    const std::string& process, const std::string& address) {
  std::unique_ptr<Exposition> made(new Exposition());
  made->registry_ = std::make_shared<prometheus::Registry>();
  made->process_ = std::make_shared<ProcessCollector>();
  prometheus::BuildGauge()
      .Name("mpo_build_info")
      .Help("1; the labels say what runs")
      .Register(*made->registry_)
      .Add({{"process", process}, {"version", "0.1.0"}})
      .Set(1);
  if (address.empty()) return made;
  try {
    made->exposer_ = std::make_unique<prometheus::Exposer>(address, 2);
    made->exposer_->RegisterCollectable(made->registry_);
    made->exposer_->RegisterCollectable(made->process_);
    const auto ports = made->exposer_->GetListeningPorts();
    made->port_ = ports.empty() ? 0 : ports.front();
  } catch (const std::exception& error) {
    return absl::UnavailableError(absl::StrCat(
        "cannot serve metrics on ", address, ": ", error.what(),
        "; is the port in use?"));
  }
  return made;
}

Exposition::~Exposition() = default;

}  // namespace mpo::metrics
