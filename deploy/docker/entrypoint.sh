#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# entrypoint.sh ROLE [flag ...]: becomes one process of the mesh, or a command.
# A service listens on its port of the table below and shows metrics on 9464,
# on all addresses of the container, unless its flags say otherwise. It replaces
# this shell, so it is the process that gets SIGTERM.
set -eu
roles="orchestrator, policy_learner, reward_server, meta_reward_server, rollout_actor, mpo, mpo_health"
role="${1:-}"
case "$role" in
  orchestrator) port=7070 ;;
  policy_learner) port=7071 ;;
  reward_server) port=7072 ;;
  meta_reward_server) port=7073 ;;
  rollout_actor) port=7074 ;;
  mpo | mpo_health) exec "$@" ;;
  *)
    echo "expected one of $roles as the first argument, got '$role'" >&2
    exit 2
    ;;
esac

# given FLAG ARGUMENT...: whether the arguments set FLAG.
given() {
  flag="$1"
  shift
  for argument in "$@"; do
    case "$argument" in "$flag" | "$flag="*) return 0 ;; esac
  done
  return 1
}
given --listen "$@" || set -- "$@" --listen "0.0.0.0:$port"
given --metrics-listen "$@" || set -- "$@" --metrics-listen 0.0.0.0:9464
# Actors need different names; a container's host name is its own.
if [ "$role" = rollout_actor ]; then
  given --name "$@" || set -- "$@" --name "${HOSTNAME:-$(cat /proc/sys/kernel/hostname)}"
fi
exec "$@"
