#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Tokens per second of our engine against transformers' generate on this machine, in alternation in one run.
# The last line is one JSON object with the ratios.
#   bench/generation.sh [--cases smollm2_32,smollm2_64x4,qwen2_4m] [--repeats N]
# MPO_BENCH_VENV   virtual environment with torch 2.11.0 and transformers 4.51.3 (default: bench/.venv, made on first use)
# MPO_BENCH_BUILD  build directory that holds bin/generation_bench (default: build/release)
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
venv=${MPO_BENCH_VENV:-$root/bench/.venv}
build=${MPO_BENCH_BUILD:-$root/build/release}
if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -c 'import torch, transformers' 2>/dev/null; then
  echo "installing torch 2.11.0 and transformers 4.51.3 into $venv" >&2
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet torch==2.11.0 transformers==4.51.3 numpy
fi
if [ ! -x "$build/bin/generation_bench" ]; then
  echo "$build/bin/generation_bench is missing: run ninja -C build/release generation_bench, or set MPO_BENCH_BUILD" >&2
  exit 2
fi
exec "$venv/bin/python" "$root/bench/generation.py" --bench "$build/bin/generation_bench" \
  --model "$root/.deps/models/smollm2-135m-instruct" "$@"
