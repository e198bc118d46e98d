#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the fuzz targets and runs each for a time; says what each found.
# Usage: run_fuzzers.sh [SECONDS a target, default 20] [TARGET ...]
# Exit code 1 when a target found something (its input stays under
# build/fuzz/findings/) or did not run. The last line says
# "N fuzz targets passed, M failed".
set -euo pipefail
cd "$(dirname "$0")/.."
seconds="${1:-20}"
shift || true
if ! [[ "$seconds" =~ ^[1-9][0-9]*$ ]]; then
  echo "error: SECONDS must be a whole number above 0, found '$seconds'" >&2
  exit 2
fi
jobs="$(nproc)"
[ "$jobs" -gt 2 ] && jobs=2
cmake --preset fuzz > /dev/null
ninja -C build/fuzz -j "$jobs" fuzzers > build/fuzz/build.log || { cat build/fuzz/build.log; exit 1; }

export ASAN_OPTIONS="allocator_may_return_null=1:detect_leaks=1"
passed=0
failed=0
while read -r name corpus; do
  if [ "$#" -gt 0 ] && [[ " $* " != *" $name "* ]]; then continue; fi
  # New inputs go to a folder of the build, never into the seeds.
  mkdir -p "build/fuzz/corpus/$name" build/fuzz/findings
  log="build/fuzz/$name.log"
  if "build/fuzz/fuzzers/$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=16384 \
      -print_final_stats=1 -artifact_prefix="build/fuzz/findings/$name-" \
      "build/fuzz/corpus/$name" "$corpus" > "$log" 2>&1; then
    passed=$((passed + 1))
    printf '%s: %s inputs, nothing found\n' "$name" "$(grep -oP 'number_of_executed_units: \K[0-9]+' "$log")"
  else
    failed=$((failed + 1))
    printf '%s: FOUND SOMETHING, see %s\n' "$name" "$log"
    grep -E 'ERROR|SUMMARY|Test unit written' "$log" || tail -n 5 "$log"
  fi
done < build/fuzz/fuzz_targets.txt
printf '%d fuzz targets passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
