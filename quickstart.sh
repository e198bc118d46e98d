#!/usr/bin/env bash
# Trains a real language model by Meta Policy Optimization on this machine and
# writes a report. See README.md.
#   --no-install   fetch nothing; say what is missing
#   --build-only   stop after the build
# Everything else is handed to `mpo train`, e.g. --seed 2 --dir runs/second.
set -euo pipefail
cd "$(dirname "$0")"
set_up=()
build_only=no
train=()
for argument in "$@"; do
  case "$argument" in
    --no-install) set_up=(--no-install) ;;
    --build-only) build_only=yes ;;
    -h|--help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) train+=("$argument") ;;
  esac
done
tools/set_up.sh "${set_up[@]}"
[ -f build/release/build.ninja ] || cmake --preset release -DBUILD_TESTING=OFF
printf '==> building (the first time takes minutes)\n'
ninja -C build/release mpo orchestrator policy_learner rollout_actor reward_server meta_reward_server
[ "$build_only" = yes ] && exit 0
exec build/release/bin/mpo train configs/quickstart.yaml "${train[@]}"
