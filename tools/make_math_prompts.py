#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes data/math/train.jsonl and heldout.jsonl: one-step word problems.

Every problem is an operation on two operands from 2 to 9. The prompt is a raw
completion with three worked examples, ends with "Answer:" and expects
" a + b = c". Operand pairs of the held-out file never occur in the training
file under the same operation, and those of the examples occur in neither.
The same seed gives the same bytes.
"""

import argparse
import json
import pathlib
import random

NAMES = ["Tom", "Anna", "Sam", "Lily", "Omar", "Grace", "Ben", "Nora"]
THINGS = ["apples", "pens", "coins", "books", "shells", "stamps", "cups", "balls"]
TEMPLATES = {
    "add": "{n} has {a} {o} and buys {b} more. How many {o} does {n} have now?",
    "subtract": "{n} has {a} {o} and gives away {b}. How many {o} does {n} have left?",
    "multiply": "{n} has {a} boxes with {b} {o} in each box. How many {o} does {n} have?",
}
SIGNS = {"add": "+", "subtract": "-", "multiply": "*"}
EXAMPLES = [("add", 4, 3, "Mia", "plums"), ("subtract", 5, 2, "Leo", "cards"),
            ("multiply", 2, 6, "Eva", "eggs")]
HELDOUT_PER_OPERATION = 8


def solve(operation, first, second):
    """Returns the operands as the story tells them, and the answer."""
    if operation == "add":
        return first, second, first + second
    if operation == "subtract":  # Start with the sum: the answer is positive.
        return first + second, second, first
    return first, second, first * second


def render(operation, first, second, name, thing):
    a, b, answer = solve(operation, first, second)
    question = TEMPLATES[operation].format(n=name, o=thing, a=a, b=b)
    return f"Question: {question}\nAnswer:", f" {a} {SIGNS[operation]} {b} = {answer}", answer


def problems(generator):
    shots = "".join("".join(render(*e)[:2]) + "\n\n" for e in EXAMPLES)
    shown = {e[:3] for e in EXAMPLES}
    train, heldout = [], []
    for operation in TEMPLATES:
        pairs = [(a, b) for a in range(2, 10) for b in range(2, 10)
                 if (operation, a, b) not in shown]
        generator.shuffle(pairs)
        for i, (first, second) in enumerate(pairs):
            name, thing = generator.choice(NAMES), generator.choice(THINGS)
            question, _, answer = render(operation, first, second, name, thing)
            line = {"id": f"math-{operation}-{first}-{second}", "prompt": shots + question,
                    "reference": str(answer), "cluster": operation}
            (heldout if i < HELDOUT_PER_OPERATION else train).append(line)
    generator.shuffle(train)
    generator.shuffle(heldout)
    return train, heldout


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=pathlib.Path,
                        default=pathlib.Path(__file__).resolve().parent.parent / "data" / "math")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name, lines in zip(("train", "heldout"), problems(random.Random(arguments.seed))):
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (arguments.output / f"{name}.jsonl").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
