#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The policy learner on this machine: seconds of a PPO step against TRL's PPOTrainer (ppo), of an update of a LoRA adapter
# against transformers + PEFT (lora: on all layers; trunk: on the top 8), in alternation in one run; growth of a step from 8
# to 64 samples (growth). The last line is one JSON object with ppo_ratio, lora_ratio, trunk_ratio, matrix_fraction.
#   bench/learner.sh [--cases ppo,lora,trunk,growth] [--repeats N] [--threads N]
# MPO_BENCH_TRL_VENV  virtual environment with torch 2.11.0, transformers 4.51.3, trl 0.17.0, peft 0.15.2 (default:
#                     bench/.venv-trl, made on first use)
# MPO_BENCH_BUILD     build directory that holds bin/learner_bench (default: build/release)
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
venv=${MPO_BENCH_TRL_VENV:-$root/bench/.venv-trl}
build=${MPO_BENCH_BUILD:-$root/build/release}
if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -c 'import torch, transformers, trl, peft' 2>/dev/null; then
  echo "installing torch 2.11.0, transformers 4.51.3, trl 0.17.0 and peft 0.15.2 into $venv" >&2
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet torch==2.11.0 transformers==4.51.3 trl==0.17.0 datasets==3.6.0 peft==0.15.2 numpy
fi
if [ ! -x "$build/bin/learner_bench" ]; then
  echo "$build/bin/learner_bench is missing: run ninja -C build/release learner_bench, or set MPO_BENCH_BUILD" >&2
  exit 2
fi
exec "$venv/bin/python" "$root/bench/learner.py" --build "$build" --model "$root/.deps/models/smollm2-135m-instruct" "$@"
