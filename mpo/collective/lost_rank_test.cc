// SPDX-License-Identifier: Apache-2.0
// Real processes over Gloo of which one is killed or stopped.
#include <spawn.h>
#include <sys/wait.h>
#include <torch/torch.h>

#include <catch2/catch.hpp>
#include <csignal>

#include "absl/time/clock.h"
#include "mpo/collective/group_checks.h"

extern char** environ;

namespace mpo::collective {
namespace {

using Catch::Contains;

// The program collective_rank; killed at the end of its scope.
class RankProcess {
 public:
  RankProcess(const std::string& address, int rank, int ranks, int elements) {
    std::string program =
        std::string(MPO_BINARY_DIR) + "/tests/collective_rank";
    std::vector<std::string> words = {program, address, std::to_string(rank),
                                      std::to_string(ranks),
                                      std::to_string(elements)};
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    REQUIRE(posix_spawn(&pid_, program.c_str(), nullptr, nullptr, argv.data(),
                        environ) == 0);
  }
  ~RankProcess() {
    Signal(SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  void Signal(int signal) const { kill(pid_, signal); }

 private:
  pid_t pid_ = 0;
};

TEST_CASE("A rank that is killed or stopped is named within 30 seconds",
          "[collective]") {
  // With few elements the loss is mostly found by the side channel, with many
  // mostly by the transfer.
  const auto [signal, elements] = GENERATE(
      table<int, int>({{SIGKILL, 16}, {SIGKILL, 8 << 20}, {SIGSTOP, 8 << 20}}));
  auto server = RendezvousServer::Start(
      {.group = {.ranks = 3, .config_sha256 = "c"}}, Clock::Real());
  REQUIRE(server.ok());
  const std::string address = absl::StrCat("127.0.0.1:", (*server)->port());
  const RankProcess one(address, 1, 3, elements), two(address, 2, 3, elements);
  auto zero = std::make_shared<LocalMembership>((*server)->rendezvous(), 0);
  REQUIRE(zero->Join("c", absl::Seconds(60)).ok());
  auto group = GlooGroup::Connect(zero, {});
  INFO(group.status());
  REQUIRE(group.ok());
  const at::Tensor tensor = at::ones({elements});
  for (int i = 0; i < 3; ++i) {
    const absl::Status status = (*group)->AllReduceSum(tensor, "ones");
    INFO(status);
    REQUIRE(status.ok());
  }
  two.Signal(signal);
  const absl::Time began = absl::Now();
  absl::Status status;
  while (status.ok()) status = (*group)->AllReduceSum(tensor, "ones");
  INFO(status);
  CHECK(absl::Now() - began < absl::Seconds(30));
  CHECK((absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status)));
  CHECK_THAT(std::string(status.message()),
             Contains("all_reduce of ones on rank 0: rank 2"));
}

}  // namespace
}  // namespace mpo::collective
