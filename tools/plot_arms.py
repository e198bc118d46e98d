#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws proxy and gold of runs with the fixed and with the evolving rubric as one SVG.

Usage: plot_arms.py OUT.svg --fixed RUN... --evolving RUN...
A thin line is one run (one seed), a thick one the mean of its arm; every point is a mean over three steps.
"""
import argparse
import json
import pathlib

WIDTH, HEIGHT, LEFT, TOP, GAP = 340, 220, 40, 40, 60
COLOURS = {"fixed rubric": "#c0392b", "evolving rubric": "#1f6fb2"}


def read(run):
    with open(pathlib.Path(run) / "metrics.jsonl", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def mean(runs):
    return [sum(values) / len(values) for values in zip(*runs)]


def smooth(values):
    return [sum(values[max(0, i - 1):i + 2]) / len(values[max(0, i - 1):i + 2]) for i in range(len(values))]


def panel(left, title, series, steps):
    x = lambda step: left + WIDTH * (step - 1) / max(1, steps - 1)
    y = lambda value: TOP + HEIGHT * (1 - value / 10)
    out = [f'<text x="{left}" y="{TOP - 14}" font-weight="bold">{title}</text>']
    for tick in range(0, 11, 2):
        out.append(f'<line x1="{left}" x2="{left + WIDTH}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" stroke="#ddd"/>')
        out.append(f'<text x="{left - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick}</text>')
    for tick in range(8, steps + 1, 8):
        out.append(f'<text x="{x(tick):.1f}" y="{TOP + HEIGHT + 18}" text-anchor="middle">{tick}</text>')
    out.append(f'<text x="{left + WIDTH / 2}" y="{TOP + HEIGHT + 36}" text-anchor="middle">step</text>')
    for name, runs in series.items():
        for values, width, opacity in [(run, 1, 0.45) for run in runs] + [(mean(runs), 3, 1)]:
            points = " ".join(f"{x(i + 1):.1f},{y(v):.1f}" for i, v in enumerate(smooth(values)))
            out.append(f'<polyline points="{points}" fill="none" stroke="{COLOURS[name]}" stroke-width="{width}" '
                       f'stroke-opacity="{opacity}"/>')
    return out


def main():
    parser = argparse.ArgumentParser(description="Draws both arms of the quickstart")
    parser.add_argument("target", help="SVG that is written")
    parser.add_argument("--fixed", nargs="+", required=True, help="run directories")
    parser.add_argument("--evolving", nargs="+", required=True, help="run directories")
    arguments = parser.parse_args()
    arms = {"fixed rubric": [read(run) for run in arguments.fixed],
            "evolving rubric": [read(run) for run in arguments.evolving]}
    steps = max(len(run) for runs in arms.values() for run in runs)
    width = 2 * (LEFT + WIDTH) + GAP
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{TOP + HEIGHT + 75}" '
           'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>']
    for i, (key, title) in enumerate((("proxy", "proxy: share of the initial rubric, 0 to 10"),
                                      ("gold", "gold: held-out quality, 0 to 10"))):
        series = {name: [[line[key] for line in run] for run in runs] for name, runs in arms.items()}
        out += panel(LEFT + i * (WIDTH + GAP), title, series, steps)
    for i, (name, colour) in enumerate(COLOURS.items()):
        left = LEFT + 160 * i
        out.append(f'<rect x="{left}" y="{TOP + HEIGHT + 52}" width="18" height="4" fill="{colour}"/>')
        out.append(f'<text x="{left + 24}" y="{TOP + HEIGHT + 58}">{name}</text>')
    with open(arguments.target, "w", encoding="utf-8") as file:
        file.write("\n".join(out + ["</svg>\n"]))


if __name__ == "__main__":
    main()
