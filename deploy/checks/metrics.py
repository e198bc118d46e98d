#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks dashboards and alerts against the metrics that the sources export.

Usage: metrics.py   (exit code 1 and one line a problem)
"""
import json
import pathlib
import re
import sys

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
DASHBOARDS = ROOT / "deploy/grafana/dashboards"
ALERTS = ROOT / "deploy/prometheus/alerts.yml"

# Names of PromQL that are neither metrics nor functions.
KEYWORDS = {"by", "without", "on", "ignoring", "group_left", "group_right", "and", "or", "unless", "bool", "offset"}
NAME = re.compile(r"\b(?:mpo|process)_[a-z0-9_]+\b")


def exported():
    """{metric name: is a histogram}, as the C++ sources register them."""
    found = {}
    for top in ("mpo", "services"):
        for path in (ROOT / top).rglob("*.cc"):
            if path.name.endswith("_test.cc"):
                continue
            text = path.read_text(encoding="utf-8")
            if "prometheus" not in text:
                continue
            for match in re.finditer(r'"((?:mpo|process)_[a-z0-9_]+)"', text):
                before = text[max(0, match.start() - 80):match.start()]
                # Only the nearest registering call decides.
                kinds = re.findall(r"(Histogram|Counter|Gauge)\w*\(", before)
                found[match[1]] = bool(kinds) and kinds[-1] == "Histogram"
            if path.name == "orchestrator_metrics.cc":
                for name in re.findall(r'(?:CounterOf|GaugeOf)\(\s*registry,\s*"([a-z_]+)"', text):
                    found["mpo_orchestrator_" + name] = False
    found.pop("mpo_orchestrator_", None)
    return found


def used(expression):
    """Metric names in a PromQL expression."""
    text = re.sub(r'"[^"]*"', "", expression)
    text = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", text)
    text = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", "", text)
    names = re.findall(r"(?<![\w.])([a-zA-Z_:][\w:]*)(?!\s*\()(?![\w:])", text)
    return sorted(set(names) - KEYWORDS)


def expression_problems(expression, metrics):
    for name in used(expression):
        if name == "up":
            continue
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        if metrics.get(base) and base != name:
            pass
        elif name not in metrics:
            yield f"{name} is exported by no process"
            continue
        elif metrics[name]:
            yield f"{name} is a histogram; expected {name}_bucket, _sum or _count"
            continue
        if name.endswith("_total") or base != name:
            for match in re.finditer(rf"\b{name}\b", expression):
                if not re.search(r"\b(rate|increase)\($", expression[:match.start()].rstrip()):
                    yield f"{name} only ever rises; expected rate() or increase() around it"


def panels_of(dashboard):
    for panel in dashboard.get("panels", []):
        yield panel
        yield from panel.get("panels", [])


def dashboard_problems(dashboard, metrics):
    if not re.fullmatch(r"[a-z0-9-]{1,40}", dashboard.get("uid") or ""):
        yield "uid: expected lower-case letters, digits and '-'"
    variables = {one.get("name"): one for one in dashboard.get("templating", {}).get("list", [])}
    if variables.get("datasource", {}).get("type") != "datasource":
        yield "templating: expected a variable 'datasource' of type datasource"
    ids, boxes = set(), []
    for panel in panels_of(dashboard):
        title = panel.get("title") or f"panel {panel.get('id')}"
        if panel.get("id") in ids:
            yield f"{title}: id {panel.get('id')} is taken"
        ids.add(panel.get("id"))
        box = panel.get("gridPos", {})
        if not {"x", "y", "w", "h"} <= box.keys() or box["x"] + box["w"] > 24:
            yield f"{title}: gridPos does not lie within 24 columns"
        elif any(box["x"] < o["x"] + o["w"] and o["x"] < box["x"] + box["w"] and
                 box["y"] < o["y"] + o["h"] and o["y"] < box["y"] + box["h"] for o in boxes):
            yield f"{title}: lies over another panel"
        else:
            boxes.append(box)
        if panel.get("type") == "row":
            continue
        if panel.get("datasource", {}).get("uid") != "${datasource}":
            yield f"{title}: expected the data source ${{datasource}}"
        if not panel.get("fieldConfig", {}).get("defaults", {}).get("unit"):
            yield f"{title}: no unit"
        if not panel.get("targets"):
            yield f"{title}: no query"
        for target in panel.get("targets", []):
            for problem in expression_problems(target["expr"], metrics):
                yield f"{title}: {problem}"


def alert_problems(rules, metrics):
    for group in rules["groups"]:
        for rule in group["rules"]:
            for problem in expression_problems(rule["expr"], metrics):
                yield f"{rule['alert']}: {problem}"
            for name in NAME.findall(json.dumps(rule["annotations"])):
                if name not in metrics:
                    yield f"{rule['alert']}: the text names {name}, which no process exports"


def main():
    metrics = exported()
    problems, uids, queries = [], set(), 0
    for path in sorted(DASHBOARDS.glob("*.json")):
        dashboard = json.loads(path.read_text(encoding="utf-8"))
        problems += [f"{path.name}: {one}" for one in dashboard_problems(dashboard, metrics)]
        if dashboard.get("uid") in uids:
            problems.append(f"{path.name}: uid {dashboard['uid']} is taken")
        uids.add(dashboard.get("uid"))
        queries += sum(len(panel.get("targets", [])) for panel in panels_of(dashboard))
    problems += [f"alerts.yml: {one}" for one in alert_problems(yaml.safe_load(ALERTS.read_text()), metrics)]
    print("\n".join(problems) if problems else
          f"{len(uids)} dashboard, {queries} queries, all of {len(metrics)} exported metrics")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
