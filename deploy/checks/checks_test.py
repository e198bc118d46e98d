#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The checks find what is wrong, and the entry point starts what it should."""
import copy
import json
import os
import pathlib
import subprocess
import tempfile
import unittest

import compose
import kubernetes
import live
import mesh
import metrics

PORTS = {"orchestrator": 7070, "policy_learner": 7071, "reward_server": 7072, "meta_reward_server": 7073,
         "rollout_actor": 7074}


class Metrics(unittest.TestCase):
    KNOWN = {"mpo_a_total": False, "mpo_g": False, "mpo_h_seconds": True}

    def complaints(self, expression):
        return list(metrics.expression_problems(expression, self.KNOWN))

    def test_names_are_found_and_labels_and_functions_are_not(self):
        self.assertEqual(metrics.used('sum by (le, phase) (rate(mpo_x{phase="mpo_y"}[5m])) / on (a) time() > 3e2 '
                                      "and mpo_z"), ["mpo_x", "mpo_z"])

    def test_good_expressions_pass(self):
        for one in ("mpo_g > 3", "rate(mpo_a_total[5m])", 'sum(up{job="x"})', "increase(mpo_h_seconds_count[1m])",
                    "histogram_quantile(0.5, sum by (le) (rate(mpo_h_seconds_bucket[5m])))"):
            self.assertEqual(self.complaints(one), [], one)

    def test_bad_expressions_are_named(self):
        self.assertIn("mpo_typo is exported by no process", self.complaints("mpo_typo"))
        self.assertIn("mpo_g_count is exported by no process", self.complaints("mpo_g_count"))
        self.assertIn("only ever rises", self.complaints("mpo_a_total")[0])
        self.assertIn("only ever rises", self.complaints("rate(mpo_a_total[5m]) / mpo_a_total")[0])
        self.assertIn("histogram", self.complaints("mpo_h_seconds")[0])

    def test_the_sources_are_read(self):
        found = metrics.exported()
        self.assertIs(found["mpo_learner_step_phase_seconds"], True)
        for name in ("mpo_orchestrator_gold", "mpo_grpc_server_in_flight", "process_open_fds", "mpo_learner_kl_nats"):
            self.assertIs(found[name], False, name)

    def test_dashboard_faults_are_named(self):
        good = json.loads((metrics.DASHBOARDS / "mpo-mesh-run.json").read_text())
        known = metrics.exported()
        self.assertEqual(list(metrics.dashboard_problems(good, known)), [])
        faults = {
            "uid": lambda d: d.update(uid=""),
            "no unit": lambda d: d["panels"][3]["fieldConfig"]["defaults"].pop("unit"),
            "is taken": lambda d: d["panels"][1].update(id=1),
            "lies over": lambda d: d["panels"][1].update(gridPos=d["panels"][0]["gridPos"]),
            "data source": lambda d: d["panels"][2].update(datasource={"uid": "abc"}),
            "exported by no process": lambda d: d["panels"][0]["targets"][0].update(expr="mpo_nothing"),
            "no query": lambda d: d["panels"][0].update(targets=[]),
            "variable": lambda d: d["templating"].update(list=[]),
        }
        for complaint, fault in faults.items():
            bad = copy.deepcopy(good)
            fault(bad)
            self.assertRegex("\n".join(metrics.dashboard_problems(bad, known)), complaint)

    def test_an_alert_of_an_unknown_metric_is_named(self):
        rule = {"alert": "A", "expr": "mpo_nothing > 1", "annotations": {"summary": "see `mpo_neither`"}}
        found = "\n".join(metrics.alert_problems({"groups": [{"rules": [rule]}]}, self.KNOWN))
        self.assertRegex(found, "A: mpo_nothing is exported")
        self.assertRegex(found, "names mpo_neither")


class Compose(unittest.TestCase):
    def setUp(self):
        self.good = mesh.load(compose.FILE)

    def test_the_file_passes(self):
        self.assertEqual(list(compose.problems(self.good, PORTS)), [])

    def test_faults_are_named(self):
        actor, orchestrator = "rollout-actor", "orchestrator"
        faults = {
            "policy-learner is missing": lambda s: s.pop("policy-learner"),
            "expected the role rollout_actor": lambda s: s[actor].update(command=["reward_server"]),
            "mpo_health at port 7070": lambda s: s[orchestrator].pop("healthcheck"),
            "at least 120s": lambda s: s["policy-learner"].update(stop_grace_period="10s"),
            "no mem_limit": lambda s: s[actor].pop("mem_limit"),
            "no condition ready": lambda s: s[actor]["depends_on"].update(orchestrator={"condition": "ready"}),
            "no service oracle": lambda s: s[actor].update(depends_on=["oracle"]),
            "fixed tag": lambda s: s[actor].update(image="${X:-localhost/mpo-mesh:latest}"),
            "127.0.0.1 only": lambda s: s[orchestrator].update(ports=["7070:7070"]),
            "there is no ./gone": lambda s: s[actor]["volumes"].append("./gone:/gone"),
            "no such volume": lambda s: s[actor]["volumes"].append("lost:/lost"),
            "volume runs": lambda s: s[orchestrator]["volumes"].pop(),
            "read_only": lambda s: s[actor].update(read_only=False),
        }
        for complaint, fault in faults.items():
            bad = copy.deepcopy(self.good)
            fault(bad["services"])
            self.assertRegex("\n".join(compose.problems(bad, PORTS)), complaint)

    def test_run_yaml_is_the_quickstart_with_addresses(self):
        run = mesh.load(mesh.RUN)
        quickstart = mesh.load(mesh.ROOT / "configs/quickstart.yaml")
        self.assertEqual(list(mesh.quickstart_problems(run, quickstart)), [])
        run["learner"]["kl_coef"] = 7
        self.assertRegex("\n".join(mesh.quickstart_problems(run, quickstart)), "learner")
        run["mesh"]["policy_learner"] = "policy_learner:7071"
        self.assertRegex("\n".join(mesh.address_problems(run, PORTS)), "expected policy-learner:7071")


def workload(role, host):
    port = PORTS[role]
    probe = {"grpc": {"port": port}}
    mounts = [{"name": "run", "mountPath": "/etc/mpo"}]
    pod = {
        "terminationGracePeriodSeconds": 300,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
        "automountServiceAccountToken": False,
        "volumes": [{"name": "run", "configMap": {"name": "mpo-run-1"}}],
        "containers": [{
            "name": host, "image": "localhost/mpo-mesh:0.1.0", "args": [role, "--config", "/etc/mpo/run.yaml"],
            "ports": [{"name": "grpc", "containerPort": port}, {"name": "metrics", "containerPort": 9464}],
            "startupProbe": probe, "readinessProbe": probe, "livenessProbe": probe,
            "resources": {"requests": {"cpu": "2", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "1Gi"}},
            "securityContext": {"readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False,
                                "capabilities": {"drop": ["ALL"]}},
            "volumeMounts": mounts}]}
    spec = {"selector": {"matchLabels": {"app": host}},
            "template": {"metadata": {"labels": {"app": host}}, "spec": pod}}
    kind = "Deployment"
    if role in ("orchestrator", "policy_learner"):
        kind = "StatefulSet"
        spec["serviceName"] = host
        spec["volumeClaimTemplates"] = [{"metadata": {"name": "runs"}}]
        mounts.append({"name": "runs", "mountPath": "/opt/mpo/runs"})
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": host}, "spec": spec}


def policy(role):
    def peers(others):
        return [{"podSelector": {"matchLabels": {"app": mesh.HOSTS[other]}}} for other in others]
    into = sorted(caller for caller, callee in mesh.CALLS if callee == role)
    out = sorted(callee for caller, callee in mesh.CALLS if caller == role)
    ingress = [{"from": [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "prometheus"}}}],
                "ports": [{"port": 9464}]}]
    if into:
        ingress.append({"from": peers(into), "ports": [{"port": PORTS[role]}]})
    egress = [{"ports": [{"port": 53}]}] + [{"to": peers([other]), "ports": [{"port": PORTS[other]}]} for other in out]
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": mesh.HOSTS[role]},
            "spec": {"podSelector": {"matchLabels": {"app": mesh.HOSTS[role]}}, "policyTypes": ["Ingress", "Egress"],
                     "ingress": ingress, "egress": egress}}


def manifests():
    """A mesh made here, so that the check is tested where kubectl is missing."""
    run = mesh.RUN.read_text(encoding="utf-8")
    documents = [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mpo-run-1"}, "data": {"run.yaml": run}}]
    for role, host in mesh.HOSTS.items():
        documents.append(workload(role, host))
        documents.append(policy(role))
        documents.append({"apiVersion": "v1", "kind": "Service", "metadata": {"name": host},
                          "spec": {"selector": {"app": host},
                                   "ports": [{"name": "grpc", "port": PORTS[role], "targetPort": "grpc"},
                                             {"name": "metrics", "port": 9464, "targetPort": "metrics"}]}})
    return documents


class Kubernetes(unittest.TestCase):
    def find(self, documents, kind, name):
        return next(one for one in documents if one["kind"] == kind and one["metadata"]["name"] == name)

    def pod(self, documents, kind, name):
        return self.find(documents, kind, name)["spec"]["template"]["spec"]

    def test_a_whole_mesh_passes(self):
        self.assertEqual(list(kubernetes.problems(manifests(), PORTS)), [])

    def test_faults_are_named(self):
        def actor(documents):
            return self.pod(documents, "Deployment", "rollout-actor")

        def container(documents):
            return actor(documents)["containers"][0]

        faults = {
            "is there twice": lambda d: d.append(d[1]),
            "no name for an object": lambda d: d[1]["metadata"].update(name="Orchestrator_1"),
            "does not match its own pods": lambda d: self.find(d, "Deployment", "rollout-actor")["spec"].update(
                selector={"matchLabels": {"app": "other"}}),
            "the process listens on 7074": lambda d: container(d)["ports"][0].update(containerPort=7075),
            "livenessProbe": lambda d: container(d).update(livenessProbe={"grpc": {"port": 1}}),
            "limit of memory": lambda d: container(d).update(resources={}),
            "runAsNonRoot": lambda d: actor(d).update(securityContext={}),
            "drop ALL": lambda d: container(d)["securityContext"].update(capabilities={}),
            "at least 30": lambda d: actor(d).update(terminationGracePeriodSeconds=5),
            "no ConfigMap mpo-run-2": lambda d: actor(d).update(
                volumes=[{"name": "run", "configMap": {"name": "mpo-run-2"}}]),
            "which is no volume": lambda d: container(d)["volumeMounts"].append({"name": "x", "mountPath": "/x"}),
            "fixed tag": lambda d: container(d).update(image="mpo-mesh:latest"),
            "do not run one image": lambda d: container(d).update(image="mpo-mesh:0.2.0"),
            "is no role": lambda d: container(d).update(args=["actor"]),
            "generation.threads is 2": lambda d: container(d)["resources"]["limits"].update(cpu="4"),
            "no Service gone": lambda d: self.find(d, "StatefulSet", "orchestrator")["spec"].update(serviceName="gone"),
            "selects 0 workloads": lambda d: self.find(d, "Service", "reward-server")["spec"].update(
                selector={"app": "gone"}),
            "leads to metrics": lambda d: self.find(d, "Service", "reward-server")["spec"]["ports"][0].update(
                targetPort="metrics"),
            "Service orchestrator is missing": lambda d: d.remove(self.find(d, "Service", "orchestrator")),
            "reward_server cannot call orchestrator": lambda d: self.find(
                d, "NetworkPolicy", "reward-server")["spec"]["egress"].pop(),
            "rollout_actor may call meta_reward_server": lambda d: self.find(
                d, "NetworkPolicy", "rollout-actor")["spec"]["egress"].append({}),
            "Prometheus cannot read orchestrator": lambda d: self.find(
                d, "NetworkPolicy", "orchestrator")["spec"]["ingress"].pop(0),
            "expected one ConfigMap": lambda d: d[0].update(data={}),
        }
        for complaint, fault in faults.items():
            bad = copy.deepcopy(manifests())
            fault(bad)
            self.assertRegex("\n".join(kubernetes.problems(bad, PORTS)), complaint)


class FakePrometheus:
    def __init__(self, **answers):
        self.answers = answers

    def get(self, path, **parameters):
        return self.answers.get(path.split("/")[0], {})(parameters)


class Live(unittest.TestCase):
    DASHBOARD = {"panels": [{"title": "Gold", "targets": [{"expr": "mpo_orchestrator_gold[$__rate_interval]"}]}]}

    def prometheus(self, value="1", health="up", names=("up", "mpo_orchestrator_gold")):
        targets = [{"scrapeUrl": one, "health": health, "lastError": "", "labels": {"service": one}}
                   for one in live.SERVICES]
        return FakePrometheus(
            targets=lambda _: {"activeTargets": targets},
            query=lambda asked: {"result": [{"value": [0, value]}] if value and "1m" in asked["query"] else []},
            rules=lambda _: {"groups": [{"rules": [{"name": "A", "health": "ok"}]}]},
            label=lambda _: names)

    def test_a_mesh_with_data_passes(self):
        self.assertEqual(list(live.problems(self.prometheus(), [self.DASHBOARD])), [])

    def test_faults_are_named(self):
        for complaint, prometheus in {
                "no data": self.prometheus(value=None), "nothing but NaN": self.prometheus(value="NaN"),
                "down": self.prometheus(health="down"),
                "mpo_secret is scraped": self.prometheus(names=["mpo_secret"])}.items():
            self.assertRegex("\n".join(live.problems(prometheus, [self.DASHBOARD])), complaint)


class EntryPoint(unittest.TestCase):
    def run_it(self, *arguments):
        """What it becomes, with programs that print their own command line."""
        with tempfile.TemporaryDirectory() as folder:
            for name in (*mesh.HOSTS, "mpo", "mpo_health"):
                program = pathlib.Path(folder) / name
                program.write_text('#!/bin/sh\necho "$(basename "$0") $*"\n')
                program.chmod(0o755)
            return subprocess.run(["sh", mesh.ROOT / "deploy/docker/entrypoint.sh", *arguments], text=True, check=False,
                                  env={"PATH": f"{folder}:{os.environ['PATH']}", "HOSTNAME": "box"}, capture_output=True)

    def test_a_service_listens_on_its_port(self):
        self.assertEqual(mesh.listening(), PORTS)
        for role, port in PORTS.items():
            name = " --name box" if role == "rollout_actor" else ""
            self.assertEqual(self.run_it(role, "--config", "a b").stdout,
                             f"{role} --config a b --listen 0.0.0.0:{port} --metrics-listen 0.0.0.0:9464{name}\n")

    def test_flags_win(self):
        self.assertEqual(self.run_it("rollout_actor", "--listen=h:1", "--metrics-listen", "h:2", "--name", "n").stdout,
                         "rollout_actor --listen=h:1 --metrics-listen h:2 --name n\n")

    def test_commands_are_left_alone(self):
        self.assertEqual(self.run_it("mpo", "train", "x").stdout, "mpo train x\n")
        self.assertEqual(self.run_it("mpo_health", "h:1").stdout, "mpo_health h:1\n")

    def test_another_name_is_refused(self):
        for arguments in ((), ("sh",)):
            done = self.run_it(*arguments)
            self.assertEqual(done.returncode, 2)
            self.assertIn("expected one of orchestrator", done.stderr)


if __name__ == "__main__":
    unittest.main()
