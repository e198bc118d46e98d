# SPDX-License-Identifier: Apache-2.0
"""What compose and Kubernetes have to agree with: roles, ports, who calls whom."""
import pathlib
import re

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
RUN = ROOT / "deploy/kubernetes/base/run.yaml"
METRICS_PORT = 9464

# Host name of a role, in both.
HOSTS = {
    "orchestrator": "orchestrator",
    "policy_learner": "policy-learner",
    "reward_server": "reward-server",
    "meta_reward_server": "meta-reward-server",
    "rollout_actor": "rollout-actor",
}
# ARCHITECTURE.md: who calls whom.
CALLS = {
    ("rollout_actor", "orchestrator"),
    ("rollout_actor", "policy_learner"),
    ("rollout_actor", "reward_server"),
    ("policy_learner", "orchestrator"),
    ("reward_server", "orchestrator"),
    ("orchestrator", "meta_reward_server"),
}
# Seconds a process may need to end: mpo/rpc's drain, the actor's 28 s, a step.
LEAST_GRACE = {
    "orchestrator": 15,
    "policy_learner": 120,
    "reward_server": 15,
    "meta_reward_server": 15,
    "rollout_actor": 30,
}


def listening():
    """{role: port} of the image's entry point."""
    text = (ROOT / "deploy/docker/entrypoint.sh").read_text(encoding="utf-8")
    return {role: int(port) for role, port in re.findall(r"^  (\w+)\) port=(\d+)", text, re.MULTILINE)}


def address_problems(run, ports):
    """The mesh section of a run against host names and ports."""
    for role, host in HOSTS.items():
        if role == "rollout_actor":
            continue
        expected = f"{host}:{ports[role]}"
        got = run.get("mesh", {}).get(role)
        if got != expected:
            yield f"run.yaml: mesh.{role} is {got}, expected {expected}"


def quickstart_problems(run, quickstart):
    """A run says what the quickstart says, but for addresses and threads."""
    ours = {section: dict(keys) if isinstance(keys, dict) else keys for section, keys in run.items()}
    ours.pop("mesh", None)
    for section in ("generation", "learner"):
        ours[section].pop("threads", None)
    if ours != quickstart:
        sections = [one for one in sorted(ours.keys() | quickstart.keys()) if ours.get(one) != quickstart.get(one)]
        yield f"run.yaml differs from configs/quickstart.yaml in {', '.join(sections)}"


def load(path):
    return yaml.safe_load(pathlib.Path(path).read_text(encoding="utf-8"))
