// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "cli/train_session.h"

namespace mpo::cli {

// Writes to stdout: lines, and below them a bar where stdout is a terminal.
// Not thread-safe.
class TerminalScreen final : public Screen {
 public:
  TerminalScreen();
  ~TerminalScreen() override;
  void Line(const std::string& text) override;
  void Bar(const BarState& state) override;

 private:
  void Clear();

  const bool terminal_;
  std::string bar_;  // As drawn.
};

}  // namespace mpo::cli
