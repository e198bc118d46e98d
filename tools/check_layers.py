#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fails when a folder includes one at its own level or above, or a header it must never see.

The levels are those of ARCHITECTURE.md. Run from anywhere; exit code 1 lists every breach.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
LEVELS = [
    ["mpo/base"],
    ["mpo/types", "mpo/logging", "mpo/store", "mpo/http"],
    ["mpo/metrics", "mpo/config", "mpo/rpc", "mpo/wire"],
    ["mpo/rubric", "mpo/text", "mpo/tensor", "mpo/app"],
    ["mpo/model", "mpo/judge", "mpo/evaluation"],
    ["mpo/generation", "mpo/rl", "mpo/weights", "mpo/collective"],
    ["mpo/serving"],
    ["services/orchestrator", "services/policy_learner", "services/rollout_actor",
     "services/reward_server", "services/meta_reward_server"],
    ["cli"],
]
LEVEL = {folder: level for level, folders in enumerate(LEVELS) for folder in folders}
# The gold measure is held out: neither grader nor reviewer may read it.
FORBIDDEN = [
    (re.compile(r"^(mpo/judge|services/reward_server|services/meta_reward_server)/"),
     re.compile(r"^mpo/evaluation/gold\.h$"), "the gold measure is held out from grader and reviewer"),
    (re.compile(r"^(?!mpo/collective/nccl/|.*\.cu$).*"), re.compile(r"^(cuda|nccl)"), "CUDA and NCCL stay in mpo/collective/nccl and .cu files"),
    (re.compile(r"^(?!mpo/collective/gloo/gloo_shim\.cc$).*"), re.compile(r"^gloo/"), "Gloo stays in libmpo_gloo.so"),
]
INCLUDE = re.compile(r'^\s*#include\s+["<]([^">]+)[">]', re.MULTILINE)


def folder_of(path):
    return next((f for f in LEVEL if path.startswith(f + "/")), None)


def breaches(path, text):
    """Yields a sentence for each include of `path` that breaks a rule."""
    here = folder_of(path)
    for include in INCLUDE.findall(text):
        for who, what, why in FORBIDDEN:
            if who.match(path) and what.match(include):
                yield f"{path} includes {include}: {why}"
        there = folder_of(include)
        if here is None or there is None or here == there:
            continue
        if LEVEL[there] >= LEVEL[here]:
            yield f"{path} includes {include}: {there} is not below {here}"


def main():
    found = []
    for top in ("mpo", "services", "cli"):
        for path in sorted((ROOT / top).rglob("*")):
            if path.suffix in (".h", ".cc", ".cu"):
                found += breaches(str(path.relative_to(ROOT)), path.read_text())
    print("\n".join(found) if found else "layers hold")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
