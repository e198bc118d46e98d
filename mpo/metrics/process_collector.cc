// SPDX-License-Identifier: Apache-2.0
#include "mpo/metrics/process_collector.h"

#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "mpo/logging/log.h"

namespace mpo::metrics {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

MetricFamily Single(const char* name, const char* help, MetricType type,
                    double value) {
  ClientMetric metric;
  (type == MetricType::Counter ? metric.counter.value : metric.gauge.value) =
      value;
  return {name, help, type, {metric}};
}

double CpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

double ResidentBytes() {
  std::ifstream statm("/proc/self/statm");
  int64_t total = 0;
  int64_t resident = 0;
  statm >> total >> resident;
  return static_cast<double>(resident) *
         static_cast<double>(sysconf(_SC_PAGESIZE));
}

double OpenFiles() {
  std::error_code error;
  double count = 0;
  for (auto it = std::filesystem::directory_iterator("/proc/self/fd", error);
       !error && it != std::filesystem::directory_iterator();
       it.increment(error)) {
    ++count;
  }
  return count;
}

double MaxFiles() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  return static_cast<double>(limit.rlim_cur);
}

// Field 22 of /proc/self/stat is the start in clock ticks since boot; btime of
// /proc/stat is the boot in seconds since the epoch.
double StartTime() {
  std::ifstream stat("/proc/self/stat");
  const std::string text((std::istreambuf_iterator<char>(stat)), {});
  const size_t name_end = text.rfind(')');
  if (name_end == std::string::npos) return 0;
  size_t at = name_end + 1;
  for (int field = 2; field < 21 && at != std::string::npos; ++field) {
    at = text.find(' ', at + 1);
  }
  if (at == std::string::npos) return 0;
  const double ticks = std::strtod(text.c_str() + at, nullptr);
  std::ifstream boot("/proc/stat");
  std::string key;
  double btime = 0;
  while (boot >> key) {
    if (key == "btime") {
      boot >> btime;
      break;
    }
  }
  return btime + ticks / static_cast<double>(sysconf(_SC_CLK_TCK));
}

MetricFamily LogLines() {
  MetricFamily family{"mpo_log_lines_total", "Lines logged",
                      MetricType::Counter, {}};
  for (const char* level : {"info", "warning", "error"}) {
    ClientMetric metric;
    metric.label.push_back({"level", level});
    metric.counter.value = static_cast<double>(logging::LineCount(level));
    family.metric.push_back(metric);
  }
  return family;
}

}  // namespace

std::vector<MetricFamily> ProcessCollector::Collect() const {
  return {
      Single("process_cpu_seconds_total", "User and system CPU time",
             MetricType::Counter, CpuSeconds()),
      Single("process_resident_memory_bytes", "Resident memory",
             MetricType::Gauge, ResidentBytes()),
      Single("process_open_fds", "Open file descriptors", MetricType::Gauge,
             OpenFiles()),
      Single("process_max_fds", "Limit of open file descriptors",
             MetricType::Gauge, MaxFiles()),
      Single("process_start_time_seconds", "Start of the process, Unix time",
             MetricType::Gauge, StartTime()),
      LogLines(),
  };
}

}  // namespace mpo::metrics
