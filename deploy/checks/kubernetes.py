#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks rendered manifests: names, references, ports, rights, network edges.

Usage: kubectl kustomize deploy/kubernetes/base | kubernetes.py
(exit code 1 and one line a problem)
"""
import itertools
import re
import sys

import mesh
import yaml

WORKLOADS = {"StatefulSet", "Deployment"}
NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")


def title(document):
    return f"{document.get('kind')} {document.get('metadata', {}).get('name')}"


def matches(selector, labels):
    """matchLabels or a Service's selector; an empty one selects all."""
    wanted = selector.get("matchLabels", selector)
    return all(labels.get(key) == value for key, value in wanted.items())


def labels_of(workload):
    return workload["spec"]["template"]["metadata"].get("labels", {})


def container_of(workload):
    return workload["spec"]["template"]["spec"]["containers"][0]


def role_of(workload):
    return (container_of(workload).get("args") or [None])[0]


def object_problems(documents):
    seen = set()
    for document in documents:
        if not document.get("apiVersion") or not document.get("kind"):
            yield f"{title(document)}: no apiVersion or kind"
        name = document.get("metadata", {}).get("name", "")
        if not NAME.fullmatch(name):
            yield f"{title(document)}: '{name}' is no name for an object"
        if title(document) in seen:
            yield f"{title(document)}: is there twice"
        seen.add(title(document))


def right_problems(pod, container):
    rights = pod.get("securityContext", {})
    if rights.get("runAsNonRoot") is not True or rights.get("runAsUser", 0) < 1000:
        yield "expected runAsNonRoot and a numeric user"
    if rights.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "expected seccompProfile RuntimeDefault"
    if pod.get("automountServiceAccountToken") is not False:
        yield "expected automountServiceAccountToken: false"
    own = container.get("securityContext", {})
    if own.get("readOnlyRootFilesystem") is not True or own.get("allowPrivilegeEscalation") is not False:
        yield "expected readOnlyRootFilesystem and no privilege escalation"
    if own.get("capabilities", {}).get("drop") != ["ALL"]:
        yield "expected capabilities to drop ALL"


def mount_problems(workload, configs):
    pod = workload["spec"]["template"]["spec"]
    volumes = {one["name"]: one for one in pod.get("volumes", [])}
    claims = {one["metadata"]["name"] for one in workload["spec"].get("volumeClaimTemplates", [])}
    for mount in container_of(workload).get("volumeMounts", []):
        if mount["name"] not in volumes.keys() | claims:
            yield f"mounts {mount['name']}, which is no volume"
    for name, volume in volumes.items():
        if "configMap" in volume and volume["configMap"].get("name") not in configs:
            yield f"volume {name}: no ConfigMap {volume['configMap'].get('name')}"
    writes = role_of(workload) in ("orchestrator", "policy_learner")
    if writes != ("/opt/mpo/runs" in [one["mountPath"] for one in container_of(workload).get("volumeMounts", [])]):
        yield "expected /opt/mpo/runs on orchestrator and policy-learner, and on nobody else"


def workload_problems(workload, ports, configs):
    pod, container = workload["spec"]["template"]["spec"], container_of(workload)
    role = role_of(workload)
    if role not in ports:
        yield f"args: {role} is no role of the image"
        return
    if not matches(workload["spec"]["selector"], labels_of(workload)):
        yield "the selector does not match its own pods"
    open_ports = {one["name"]: one["containerPort"] for one in container.get("ports", [])}
    if open_ports != {"grpc": ports[role], "metrics": mesh.METRICS_PORT}:
        yield f"ports are {open_ports}, the process listens on {ports[role]} and {mesh.METRICS_PORT}"
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        if container.get(probe, {}).get("grpc", {}).get("port") != ports[role]:
            yield f"{probe}: expected grpc at port {ports[role]}"
    resources = container.get("resources", {})
    if not {"cpu", "memory"} <= resources.get("requests", {}).keys() or "memory" not in resources.get("limits", {}):
        yield "expected requests of cpu and memory and a limit of memory"
    if not re.search(r":[\w.]+$", container["image"]) or container["image"].endswith(":latest"):
        yield f"image {container['image']}: expected a fixed tag"
    if pod.get("terminationGracePeriodSeconds", 0) < mesh.LEAST_GRACE[role]:
        yield f"terminationGracePeriodSeconds: expected at least {mesh.LEAST_GRACE[role]}"
    yield from right_problems(pod, container)
    yield from mount_problems(workload, configs)


def service_problems(service, workloads):
    chosen = [one for one in workloads if matches(service["spec"]["selector"], labels_of(one))]
    if len(chosen) != 1:
        yield f"selects {len(chosen)} workloads, expected 1"
        return
    names = {one["name"]: one["containerPort"] for one in container_of(chosen[0]).get("ports", [])}
    for port in service["spec"]["ports"]:
        if names.get(port["targetPort"], port["targetPort"]) != port["port"]:
            yield f"port {port['port']} leads to {port['targetPort']}, which is not that port of {title(chosen[0])}"


def peers_allow(rule, side, labels):
    """Whether one rule of a policy names these pods of the same namespace."""
    if side not in rule:
        return True
    return any("podSelector" in peer and "namespaceSelector" not in peer and matches(peer["podSelector"], labels)
               for peer in rule[side])


def allowed(policies, direction, here, there, port):
    """Whether pods `here` may take (Ingress) or make (Egress) a call, by all policies."""
    side, rules = ("from", "ingress") if direction == "Ingress" else ("to", "egress")
    mine = [one["spec"] for one in policies
            if direction in one["spec"]["policyTypes"] and matches(one["spec"]["podSelector"], here)]
    if not mine:
        return True
    return any(peers_allow(rule, side, there) and port in [one["port"] for one in rule.get("ports", [{"port": port}])]
               for spec in mine for rule in spec.get(rules, []))


def network_problems(policies, workloads, ports):
    by_role = {role_of(one): labels_of(one) for one in workloads}
    for caller, callee in itertools.permutations(by_role, 2):
        here, there, port = by_role[caller], by_role[callee], ports[callee]
        out = allowed(policies, "Egress", here, there, port)
        into = allowed(policies, "Ingress", there, here, port)
        if (caller, callee) in mesh.CALLS and not (out and into):
            yield f"NetworkPolicy: {caller} cannot call {callee} at {port}"
        if (caller, callee) not in mesh.CALLS and (out or into):
            yield f"NetworkPolicy: {caller} may call {callee}, which it never does"
    for role, labels in by_role.items():
        if not allowed(policies, "Ingress", labels, {"app.kubernetes.io/name": "prometheus"}, mesh.METRICS_PORT):
            yield f"NetworkPolicy: Prometheus cannot read {role}"
        if not allowed(policies, "Egress", labels, {}, 53):
            yield f"NetworkPolicy: {role} cannot ask the name service"


def run_problems(configs, services, workloads, ports):
    """The run's addresses lead to the right processes; threads fit the cores."""
    runs = [one for one in configs.values() if "run.yaml" in one.get("data", {})]
    if len(runs) != 1:
        yield f"expected one ConfigMap with run.yaml, found {len(runs)}"
        return
    run = yaml.safe_load(runs[0]["data"]["run.yaml"])
    yield from mesh.address_problems(run, ports)
    for role, host in mesh.HOSTS.items():
        if host not in services:
            yield f"Service {host} is missing"
        elif [role_of(one) for one in workloads
              if matches(services[host]["spec"]["selector"], labels_of(one))] != [role]:
            yield f"Service {host} does not lead to {role}"
    for role, section in (("policy_learner", "learner"), ("rollout_actor", "generation")):
        for workload in workloads:
            if role_of(workload) == role:
                cores = container_of(workload).get("resources", {}).get("limits", {}).get("cpu")
                if str(run[section].get("threads")) != str(cores):
                    yield f"{section}.threads is {run[section].get('threads')}, {title(workload)} has {cores} cores"


def problems(documents, ports):
    yield from object_problems(documents)
    workloads = [one for one in documents if one["kind"] in WORKLOADS]
    services = {one["metadata"]["name"]: one for one in documents if one["kind"] == "Service"}
    configs = {one["metadata"]["name"]: one for one in documents if one["kind"] == "ConfigMap"}
    for workload in workloads:
        for problem in workload_problems(workload, ports, configs):
            yield f"{title(workload)}: {problem}"
        if workload["kind"] == "StatefulSet" and workload["spec"].get("serviceName") not in services:
            yield f"{title(workload)}: serviceName: no Service {workload['spec'].get('serviceName')}"
    if len({container_of(one)["image"] for one in workloads}) > 1:
        yield "the workloads do not run one image"
    for service in services.values():
        for problem in service_problems(service, workloads):
            yield f"{title(service)}: {problem}"
    for budget in (one for one in documents if one["kind"] == "PodDisruptionBudget"):
        if not any(matches(budget["spec"]["selector"], labels_of(one)) for one in workloads):
            yield f"{title(budget)}: matches no pods"
    policies = [one for one in documents if one["kind"] == "NetworkPolicy"]
    yield from network_problems(policies, [one for one in workloads if role_of(one) in ports], ports)
    yield from run_problems(configs, services, workloads, ports)


def main():
    documents = [one for one in yaml.safe_load_all(sys.stdin) if one is not None]
    found = list(problems(documents, mesh.listening()))
    print("\n".join(found) if found else f"{len(documents)} objects hold together")
    return 1 if found or not documents else 0


if __name__ == "__main__":
    sys.exit(main())
