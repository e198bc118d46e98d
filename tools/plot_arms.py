#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws proxy and gold of two runs, fixed and evolving rubric, as one SVG.

Usage: plot_arms.py FIXED/metrics.jsonl EVOLVING/metrics.jsonl OUT.svg
Lines are means over three steps.
"""
import json
import sys

WIDTH, HEIGHT, LEFT, TOP, GAP = 340, 220, 40, 40, 60
COLOURS = {"fixed rubric": "#c0392b", "evolving rubric": "#1f6fb2"}


def read(path):
    with open(path) as lines:
        return [json.loads(line) for line in lines]


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
    for name, values in series.items():
        points = " ".join(f"{x(i + 1):.1f},{y(v):.1f}" for i, v in enumerate(smooth(values)))
        out.append(f'<polyline points="{points}" fill="none" stroke="{COLOURS[name]}" stroke-width="2.5"/>')
    return out


def main(fixed, evolving, target):
    arms = {"fixed rubric": read(fixed), "evolving rubric": read(evolving)}
    steps = max(len(lines) for lines in arms.values())
    width = 2 * (LEFT + WIDTH) + GAP
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{TOP + HEIGHT + 75}" '
           'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>']
    for i, (key, title) in enumerate((("proxy", "proxy: share of the initial rubric, 0 to 10"),
                                      ("gold", "gold: held-out quality, 0 to 10"))):
        series = {name: [line[key] for line in lines] for name, lines in arms.items()}
        out += panel(LEFT + i * (WIDTH + GAP), title, series, steps)
    for i, (name, colour) in enumerate(COLOURS.items()):
        left = LEFT + 160 * i
        out.append(f'<rect x="{left}" y="{TOP + HEIGHT + 52}" width="18" height="4" fill="{colour}"/>')
        out.append(f'<text x="{left + 24}" y="{TOP + HEIGHT + 58}">{name}</text>')
    with open(target, "w") as file:
        file.write("\n".join(out + ["</svg>\n"]))


if __name__ == "__main__":
    main(*sys.argv[1:])
