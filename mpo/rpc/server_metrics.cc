// SPDX-License-Identifier: Apache-2.0
#include "mpo/rpc/server_metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>

#include <string>

#include "absl/status/status.h"
#include "mpo/base/clock.h"

namespace mpo::rpc {
namespace {

using grpc::experimental::InterceptionHookPoints;

struct Families {
  prometheus::Family<prometheus::Counter>& handled;
  prometheus::Family<prometheus::Histogram>& seconds;
  prometheus::Family<prometheus::Gauge>& in_flight;
};

class CallMetrics final : public grpc::experimental::Interceptor {
 public:
  CallMetrics(const Families& families, std::string method)
      : families_(families),
        method_(std::move(method)),
        start_(Clock::Real().Steady()),
        in_flight_(families.in_flight.Add({{"method", method_}})) {
    in_flight_.Increment();
  }

  ~CallMetrics() override {
    in_flight_.Decrement();
    families_.handled.Add({{"method", method_}, {"code", code_}}).Increment();
    families_.seconds
        .Add({{"method", method_}},
             prometheus::Histogram::BucketBoundaries{
                 0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 60})
        .Observe(absl::ToDoubleSeconds(Clock::Real().Steady() - start_));
  }

  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(
            InterceptionHookPoints::PRE_SEND_STATUS)) {
      const auto code =
          static_cast<absl::StatusCode>(methods->GetSendStatus().error_code());
      code_ = absl::StatusCodeToString(code);
    }
    methods->Proceed();
  }

 private:
  const Families& families_;
  const std::string method_;
  const absl::Time start_;
  prometheus::Gauge& in_flight_;
  std::string code_ = "CANCELLED";  // Unless a status was sent.
};

class Factory final
    : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  explicit Factory(prometheus::Registry& registry)
      : families_{
            prometheus::BuildCounter()
                .Name("mpo_grpc_server_handled_total")
                .Help("Calls that ended, by method and status code")
                .Register(registry),
            prometheus::BuildHistogram()
                .Name("mpo_grpc_server_handling_seconds")
                .Help("Time from a call's start to its end")
                .Register(registry),
            prometheus::BuildGauge()
                .Name("mpo_grpc_server_in_flight")
                .Help("Calls running now")
                .Register(registry)} {}

  grpc::experimental::Interceptor* CreateServerInterceptor(
      grpc::experimental::ServerRpcInfo* info) override {
    return new CallMetrics(families_, info->method());
  }

 private:
  const Families families_;
};

}  // namespace

std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>
MakeServerMetrics(prometheus::Registry& registry) {
  return std::make_unique<Factory>(registry);
}

}  // namespace mpo::rpc
