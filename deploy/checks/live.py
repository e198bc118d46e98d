#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Asks a running Prometheus whether dashboard and alerts hold on a real mesh.

Usage: live.py http://127.0.0.1:9090   (exit code 1 and one line a problem)
Every target must be up, every query of every dashboard must answer with data,
every alert must evaluate, and no metric may be there that the sources do not
name.
"""
import json
import pathlib
import sys
import urllib.parse
import urllib.request

import metrics

# What Grafana fills in.
VARIABLES = {"$__rate_interval": "1m", "$__range": "1h"}
SERVICES = {"orchestrator", "policy-learner", "reward-server", "meta-reward-server", "rollout-actor"}


class Prometheus:
    def __init__(self, url):
        self.url = url.rstrip("/")

    def get(self, path, **parameters):
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=30) as response:
            return json.load(response)["data"]


def target_problems(prometheus):
    targets = prometheus.get("targets", state="active")["activeTargets"]
    for target in targets:
        if target["health"] != "up":
            yield f"target {target['scrapeUrl']}: {target['health']}: {target['lastError']}"
    missing = SERVICES - {target["labels"].get("service") for target in targets}
    if missing:
        yield f"no target of {', '.join(sorted(missing))}"


def query_problems(prometheus, expression):
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    try:
        result = prometheus.get("query", query=expression)["result"]
    except OSError as error:
        yield f"{expression}: {error}"
        return
    if not result:
        yield f"{expression}: no data"
    elif all(series["value"][1] == "NaN" for series in result):
        yield f"{expression}: nothing but NaN"


def name_problems(prometheus):
    known = metrics.exported()
    for name in prometheus.get("label/__name__/values"):
        base = name
        for suffix in ("_bucket", "_sum", "_count"):
            base = base.removesuffix(suffix)
        if metrics.NAME.fullmatch(name) and name not in known and not known.get(base):
            yield f"{name} is scraped, but metrics.py does not find it in the sources"


def problems(prometheus, dashboards):
    yield from target_problems(prometheus)
    for dashboard in dashboards:
        for panel in metrics.panels_of(dashboard):
            for target in panel.get("targets", []):
                for problem in query_problems(prometheus, target["expr"]):
                    yield f"{panel['title']}: {problem}"
    for group in prometheus.get("rules")["groups"]:
        for rule in group["rules"]:
            if rule["health"] != "ok":
                yield f"alert {rule['name']}: {rule['health']}: {rule.get('lastError')}"
    yield from name_problems(prometheus)


def main():
    if len(sys.argv) != 2:
        print("usage: live.py URL-of-Prometheus", file=sys.stderr)
        return 2
    dashboards = [json.loads(pathlib.Path(path).read_text()) for path in sorted(metrics.DASHBOARDS.glob("*.json"))]
    found = list(problems(Prometheus(sys.argv[1]), dashboards))
    print("\n".join(found) if found else "all targets up, all queries answered, all alerts evaluated")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
