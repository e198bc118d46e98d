// SPDX-License-Identifier: Apache-2.0
#include "cli/terminal_screen.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdio>

namespace mpo::cli {
namespace {

int Width() {
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
    return size.ws_col;
  }
  return 80;
}

}  // namespace

TerminalScreen::TerminalScreen() : terminal_(isatty(STDOUT_FILENO) == 1) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
}

TerminalScreen::~TerminalScreen() { Clear(); }

void TerminalScreen::Clear() {
  if (bar_.empty()) return;
  std::fputs("\r\x1b[2K", stdout);
  std::fflush(stdout);
  bar_.clear();
}

void TerminalScreen::Line(const std::string& text) {
  Clear();
  std::printf("%s\n", text.c_str());
}

void TerminalScreen::Bar(const BarState& state) {
  if (!terminal_) return;
  const std::string bar = BarLine(state, Width() - 1);
  if (bar == bar_) return;
  std::printf("\r\x1b[2K%s", bar.c_str());
  std::fflush(stdout);
  bar_ = bar;
}

}  // namespace mpo::cli
