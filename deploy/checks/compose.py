#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks deploy/compose/compose.yaml against entry point, run.yaml and disk.

Usage: compose.py   (exit code 1 and one line a problem)
"""
import re
import sys

import mesh

FILE = mesh.ROOT / "deploy/compose/compose.yaml"
CONDITIONS = {"service_started", "service_healthy", "service_completed_successfully"}


def seconds(text):
    match = re.fullmatch(r"(\d+)(s|m)", str(text))
    return int(match[1]) * (60 if match[2] == "m" else 1) if match else 0


def with_defaults(text):
    """${NAME:-default} as compose fills it in when NAME is not set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def mount_problems(service, volumes):
    for mount in service.get("volumes", []):
        source, target = with_defaults(mount).split(":")[:2]
        if not target.startswith("/"):
            yield f"{mount}: expected an absolute path in the container"
        if source.startswith("."):
            if not (FILE.parent / source).exists():
                yield f"{mount}: there is no {source}"
        elif source not in volumes:
            yield f"{mount}: no such volume"


def mesh_service_problems(role, service, ports):
    if service.get("command", [None])[0] != role:
        yield f"command: expected the role {role} first"
    if "/etc/mpo/run.yaml" not in service.get("command", []):
        yield "command: expected --config /etc/mpo/run.yaml"
    if not any(":/etc/mpo/run.yaml:ro" in one for one in service.get("volumes", [])):
        yield "volumes: run.yaml is not mounted"
    test = service.get("healthcheck", {}).get("test")
    if test != ["CMD", "mpo_health", f"127.0.0.1:{ports[role]}"]:
        yield f"healthcheck: expected mpo_health at port {ports[role]}, got {test}"
    if seconds(service.get("stop_grace_period")) < mesh.LEAST_GRACE[role]:
        yield f"stop_grace_period: expected at least {mesh.LEAST_GRACE[role]}s"
    if service.get("read_only") is not True or service.get("cap_drop") != ["ALL"]:
        yield "expected read_only and cap_drop: [ALL]"


def problems(compose, ports):
    services = compose.get("services", {})
    volumes = compose.get("volumes", {})
    for role, host in mesh.HOSTS.items():
        if host not in services:
            yield f"services: {host} is missing"
            continue
        for problem in mesh_service_problems(role, services[host], ports):
            yield f"{host}: {problem}"
    for name, service in services.items():
        for key in ("image", "restart", "mem_limit", "stop_grace_period"):
            if key not in service:
                yield f"{name}: no {key}"
        image = with_defaults(service.get("image", ""))
        if not re.search(r":[\w.]+$", image) or image.endswith(":latest"):
            yield f"{name}: image {image}: expected a fixed tag"
        for port in service.get("ports", []):
            if not port.startswith("127.0.0.1:"):
                yield f"{name}: port {port}: expected 127.0.0.1 only"
        depends = service.get("depends_on", {})
        for other in depends:
            if other not in services:
                yield f"{name}: depends_on: no service {other}"
            elif isinstance(depends, dict):
                condition = depends[other].get("condition")
                if condition not in CONDITIONS:
                    yield f"{name}: depends_on.{other}: no condition {condition}"
                elif condition == "service_healthy" and "healthcheck" not in services[other]:
                    yield f"{name}: depends_on.{other}: it has no healthcheck"
        for problem in mount_problems(service, volumes):
            yield f"{name}: {problem}"
    # One directory holds the ledger, the checkpoints and the report's input.
    for host in ("orchestrator", "policy-learner"):
        if "runs:/opt/mpo/runs" not in services.get(host, {}).get("volumes", []):
            yield f"{host}: expected the volume runs"


def main():
    ports = mesh.listening()
    found = list(problems(mesh.load(FILE), ports))
    run = mesh.load(mesh.RUN)
    found += mesh.address_problems(run, ports)
    found += mesh.quickstart_problems(run, mesh.load(mesh.ROOT / "configs/quickstart.yaml"))
    print("\n".join(found) if found else "compose.yaml and run.yaml hold together")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
