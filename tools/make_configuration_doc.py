#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes docs/configuration.md from the comments and rules of config.proto; --check only compares."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto/mpo/config/v1/config.proto"
PAGE = ROOT / "docs/configuration.md"
HEAD = """# Configuration

One YAML file describes a run. Unknown keys are errors; all problems are reported at once, with their lines.
`mpo doctor --config FILE` checks a file. This page is made by `tools/make_configuration_doc.py` from
`proto/mpo/config/v1/config.proto`.
"""
FIELD = re.compile(r"^  (?:repeated )?([\w.]+) (\w+) = \d+(?: \[\(rule\) = \{(.*)\}\])?;$")


def limits(rule):
    """The default and the bounds of a field, as two cells of its row."""
    default = re.search(r'default: "([^"]*)"', rule)
    low, high = re.search(r"\bmin: ([^,}]+)", rule), re.search(r"\bmax: ([^,}]+)", rule)
    allowed = re.search(r"one_of: \[([^\]]*)\]", rule)
    bounds = []
    if allowed:
        bounds.append(allowed.group(1).replace('"', ""))
    if low and high:
        bounds.append(f"{low.group(1)} to {high.group(1)}")
    elif low:
        bounds.append(f"at least {low.group(1)}")
    paper = re.search(r'paper: "([^"]*)"', rule)
    first = "**required**" if "required: true" in rule else f"`{default.group(1)}`" if default else ""
    if paper:
        first += f"; preset `paper`: `{paper.group(1)}`"
    return first, "; ".join(bounds)


def sections(text):
    """Yields (message, [(field, type, comment, rule)])."""
    message, rows, comment = None, [], []
    for line in text.splitlines():
        if opened := re.match(r"^message (\w+) \{", line):
            message, rows, comment = opened.group(1), [], []
        elif line == "}" and message:
            yield message, rows
            message = None
        elif message and line.strip().startswith("//"):
            comment.append(line.strip()[2:].strip())
        elif message and (field := FIELD.match(line)):
            rows.append((field.group(2), field.group(1), " ".join(comment), field.group(3) or ""))
            comment = []


def page(text):
    found = dict(sections(text))
    lines = [HEAD]

    def walk(message, prefix, about=""):
        plain = [row for row in found[message] if row[1] not in found]
        if plain:
            lines.append(f"## `{prefix or 'top level'}`\n")
            if about:
                lines.append(about + "\n")
            lines.append("| key | type | default | allowed | meaning |\n|---|---|---|---|---|")
            for name, kind, comment, rule in plain:
                default, bounds = limits(rule)
                assert comment, f"{PROTO.name}: {prefix}.{name} has no comment"
                lines.append(f"| `{name}` | {kind} | {default} | {bounds} | {comment} |")
            lines.append("")
        for name, kind, comment, _ in found[message]:
            if kind in found:
                walk(kind, f"{prefix}.{name}" if prefix else name, comment)

    walk("RunConfig", "")
    return "\n".join(lines).rstrip() + "\n"


def main():
    made = page(PROTO.read_text())
    if "--check" in sys.argv:
        if not PAGE.exists() or PAGE.read_text() != made:
            print("docs/configuration.md is not what config.proto says; run tools/make_configuration_doc.py")
            return 1
        return 0
    PAGE.write_text(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
