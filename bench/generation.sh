#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The generation engine on this machine: tokens per second against transformers' generate, in alternation in one run
# (smollm2_32, smollm2_64x4, qwen2_4m); log-probs, greedy tokens and token ids against the reference (logprobs, greedy,
# tokenizer); continuous batching against waiting for the longest response of a batch (continuous); memory of a cached
# token (memory). The last line is one JSON object with all ratios.
#   bench/generation.sh [--cases NAME,NAME,...] [--repeats N] [--threads N]
# MPO_BENCH_VENV   virtual environment with torch 2.11.0 and transformers 4.51.3 (default: bench/.venv, made on first use)
# MPO_BENCH_BUILD  build directory that holds bin/generation_bench and, for the case tokenizer, bin/mpo (default: build/release)
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
exec "$venv/bin/python" "$root/bench/generation.py" --build "$build" \
  --model "$root/.deps/models/smollm2-135m-instruct" "$@"
