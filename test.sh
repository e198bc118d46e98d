#!/usr/bin/env bash
# Builds everything and runs the whole test suite; the last line says
# "N passed, M failed". --no-install: fetch nothing.
set -euo pipefail
cd "$(dirname "$0")"
tools/set_up.sh "$@"
tools/check_layers.py
tools/make_configuration_doc.py --check

printf '==> release build\n'
cmake --preset release -DBUILD_TESTING=ON > /dev/null
ninja -C build/release
printf '==> address and undefined-behaviour sanitizer build, without LibTorch\n'
cmake --preset asan > /dev/null
libraries=(base logging http metrics config rpc store wire rubric text app judge evaluation model_files openai_request)
ninja -C build/asan "${libraries[@]/%/_test}"

passed=0
failed=0
# run NAME ctest-arguments...: runs ctest and adds its counts.
run() {
  printf '==> tests: %s\n' "$1"
  shift
  local log
  log="$(mktemp)"
  ctest --output-on-failure "$@" | tee "$log" || true
  local total bad
  total="$(grep -oE 'out of [0-9]+' "$log" | tail -n 1 | grep -oE '[0-9]+' || true)"
  bad="$(grep -oE '[0-9]+ tests failed' "$log" | tail -n 1 | grep -oE '^[0-9]+' || true)"
  rm -f "$log"
  # No summary line means ctest itself broke.
  if [ -z "$total" ]; then failed=$((failed + 1)); return; fi
  passed=$((passed + total - ${bad:-0}))
  failed=$((failed + ${bad:-0}))
}
# What needs a GPU counts only where there is one.
gpu=(-LE gpu)
command -v nvidia-smi > /dev/null && gpu=()
run "release" --test-dir build/release -j 2 "${gpu[@]}"
run "sanitizers" --test-dir build/asan -j 2 -R "^($(IFS='|'; echo "${libraries[*]}"))_test:"
printf '==> fuzz targets, 20 s each\n'
log="$(mktemp)"
tools/run_fuzzers.sh 20 | tee "$log" || true
summary="$(grep -oE '^[0-9]+ fuzz targets passed, [0-9]+ failed$' "$log" || true)"
rm -f "$log"
# No summary line means the targets were not built.
read -r good _ _ _ bad _ <<< "${summary:-0 fuzz targets passed, 1 failed}"
passed=$((passed + good))
failed=$((failed + bad))
printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
