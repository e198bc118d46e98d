#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Checks everything below deploy/ without a container engine or a cluster. What
# needs promtool (Debian: prometheus) or kubectl is skipped, with a line, where
# they are missing.
set -uo pipefail
cd "$(dirname "$0")"
python=/usr/bin/python3
failed=0

# step NAME COMMAND...: runs it and says how it ended.
step() {
  local name="$1" output
  shift
  if output="$("$@" 2>&1)"; then
    printf 'ok       %s: %s\n' "$name" "$(tail -n 1 <<< "$output")"
  else
    failed=$((failed + 1))
    printf 'FAILED   %s\n%s\n' "$name" "$output"
  fi
}
skip() { printf 'skipped  %s: %s is not installed\n' "$1" "$2"; }
have() { command -v "$1" > /dev/null; }
rendered() { kubectl kustomize kubernetes/base | "$python" checks/kubernetes.py; }

if ! "$python" -c 'import yaml' 2> /dev/null; then
  echo 'FAILED   python3-yaml is not installed; tools/set_up.sh installs it'
  exit 1
fi
step "the checks themselves" "$python" checks/checks_test.py
step "compose and run.yaml" "$python" checks/compose.py
step "dashboard and alerts" "$python" checks/metrics.py
step "provisioning" "$python" -c '
import pathlib, yaml
files = sorted(pathlib.Path("grafana/provisioning").rglob("*.yaml"))
assert len(files) == 2, files
print(*(path.name for path in files if yaml.safe_load(path.read_text())["apiVersion"] == 1))'
if have promtool; then
  step "Prometheus configuration" promtool check config prometheus/prometheus.yml
  step "alerts" promtool test rules prometheus/alerts_test.yml
else
  skip "Prometheus configuration, alerts" promtool
fi
if have kubectl; then step "Kubernetes" rendered; else skip Kubernetes kubectl; fi
[ "$failed" -eq 0 ]
