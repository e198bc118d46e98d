#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Loads with transformers and PEFT what mpo/model saved, and compares the logits.

Run by hand, after `build/release/tests/model_test "[.save]"`, in a virtual environment with exactly these versions:
  python3 -m venv venv && venv/bin/pip install torch==2.11.0 transformers==4.51.3 peft==0.15.2
  venv/bin/python tools/check_saved_models.py build/release/saved
Exit code 1 when a difference is larger than 1e-4 of the largest logit.
"""
import json
import os
import pathlib
import sys
import warnings

os.environ["HF_HUB_OFFLINE"] = "1"
import peft
import torch
import transformers
from transformers import AutoModelForCausalLM

assert transformers.__version__ == "4.51.3" and peft.__version__ == "0.15.2", "pinned versions"


def load(directory):
    return AutoModelForCausalLM.from_pretrained(directory, torch_dtype=torch.float32).eval()


def main(root):
    warnings.simplefilter("ignore")
    worst = 0.0
    for case in sorted(p for p in pathlib.Path(root).iterdir() if p.is_dir()):
        expected = json.loads((case / "expected.json").read_text())
        for kind in ("base", "adapter", "merged"):
            model = load(case / ("merged" if kind == "merged" else "base"))
            if kind == "adapter":
                model = peft.PeftModel.from_pretrained(model, case / "adapter").eval()
            with torch.no_grad():
                found = model(torch.tensor([expected["tokens"]])).logits[0, -1]
            ours = torch.tensor(expected[kind])
            difference = ((found - ours).abs().max() / ours.abs().max()).item()
            worst = max(worst, difference)
            print(f"{case.name} {kind}: {difference:.1e} of the largest logit")
    print(f"worst: {worst:.1e}")
    return 1 if worst > 1e-4 else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
