// SPDX-License-Identifier: Apache-2.0
#include "cli/processes.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>
#include <system_error>

#include "absl/strings/str_cat.h"

extern char** environ;

namespace mpo::cli {
namespace {

std::vector<std::string> Environment(
    const std::map<std::string, std::string>& added) {
  std::vector<std::string> entries;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    if (added.count(text.substr(0, text.find('='))) == 0) {
      entries.push_back(text);
    }
  }
  for (const auto& [name, value] : added) {
    entries.push_back(name + "=" + value);
  }
  return entries;
}

std::vector<char*> Pointers(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (std::string& text : strings) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

// Runs in the child between fork and exec: async-signal-safe calls only.
[[noreturn]] void Become(char** argv, char** envp, int log, int report,
                         pid_t parent) {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  // The parent may have died before prctl.
  if (getppid() != parent) _exit(1);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  const int input = open("/dev/null", O_RDONLY);
  dup2(input, STDIN_FILENO);
  dup2(log, STDOUT_FILENO);
  dup2(log, STDERR_FILENO);
  execve(argv[0], argv, envp);
  const int error = errno;
  (void)!write(report, &error, sizeof error);
  _exit(127);
}

}  // namespace

std::string ToString(const ProcessExit& how) {
  if (how.signal == 0) return absl::StrCat("exit code ", how.code);
  return absl::StrCat("signal ", how.signal, " (", strsignal(how.signal), ")");
}

std::string LastLogLine(const std::filesystem::path& log) {
  std::ifstream file(log, std::ios::binary);
  constexpr std::streamoff kTail = 8192;
  file.seekg(0, std::ios::end);
  const std::streamoff size = file.tellg();
  if (!file || size <= 0) return "";
  file.seekg(std::max<std::streamoff>(0, size - kTail));
  std::string line;
  std::string last;
  while (std::getline(file, line)) {
    if (line.find_first_not_of(" \t\r") != std::string::npos) last = line;
  }
  return last.substr(0, 500);
}

absl::StatusOr<int> RealProcesses::Start(const ProcessSpec& spec) {
  if (spec.argv.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(spec.name, ": expected a program to start, got none"));
  }
  std::error_code ignored;
  std::filesystem::create_directories(spec.log.parent_path(), ignored);
  const int log =
      open(spec.log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (log < 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("cannot write the log ", spec.log.string(), " of ",
                     spec.name, ": ", std::strerror(errno)));
  }
  std::vector<std::string> arguments = spec.argv;
  std::vector<std::string> entries = Environment(spec.environment);
  std::vector<char*> argv = Pointers(arguments);
  std::vector<char*> envp = Pointers(entries);
  // Closed by a successful exec; carries errno of a failed one.
  int report[2] = {-1, -1};
  if (pipe2(report, O_CLOEXEC) != 0) {
    close(log);
    return absl::UnavailableError(
        absl::StrCat("cannot start ", spec.name, ": ", std::strerror(errno)));
  }
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid == 0) Become(argv.data(), envp.data(), log, report[1], parent);
  const int fork_error = errno;
  close(log);
  close(report[1]);
  int error = pid < 0 ? fork_error : 0;
  if (pid > 0 && read(report[0], &error, sizeof error) == sizeof error) {
    waitpid(pid, nullptr, 0);
  }
  close(report[0]);
  if (error != 0) {
    return absl::NotFoundError(absl::StrCat("cannot start ", spec.name, " (",
                                            spec.argv[0],
                                            "): ", std::strerror(error)));
  }
  return pid;
}

std::optional<ProcessExit> RealProcesses::Reap(int pid) {
  int status = 0;
  if (waitpid(pid, &status, WNOHANG) != pid) return std::nullopt;
  if (WIFSIGNALED(status)) return ProcessExit{.signal = WTERMSIG(status)};
  return ProcessExit{.code = WEXITSTATUS(status)};
}

void RealProcesses::Signal(int pid, int signal) { kill(pid, signal); }

}  // namespace mpo::cli
