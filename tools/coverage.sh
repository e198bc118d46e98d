#!/usr/bin/env bash
# Line coverage of mpo/ and services/ by the test suite, generated code aside.
# Needs gcovr from PyPI in a virtual environment of its own. Takes a build of
# its own (preset coverage).
set -euo pipefail
cd "$(dirname "$0")/.."
tools/set_up.sh "$@"
venv=build/coverage-venv
[ -x "$venv/bin/gcovr" ] || { python3 -m venv "$venv"; "$venv/bin/pip" install -q gcovr==8.4; }
cmake --preset coverage > /dev/null
ninja -C build/coverage
find build/coverage -name '*.gcda' -delete
status=0
ctest --test-dir build/coverage --output-on-failure -j 2 || status=1
"$venv/bin/gcovr" --root . --filter 'mpo/' --filter 'services/' --exclude '.*_test\.cc' --exclude '.*/fake_.*' \
  --gcov-ignore-errors=no_working_dir_found --gcov-ignore-parse-errors=suspicious_hits.warn --print-summary build/coverage | tail -n 6
exit "$status"
