# SPDX-License-Identifier: Apache-2.0
"""Measures the generation engine, most of it against transformers in alternation; see generation.sh."""
import argparse, json, os, pathlib, random, statistics, subprocess, sys, tempfile, time

os.environ["HF_HUB_OFFLINE"] = "1"
import torch, transformers
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

from bench_process import bench_process

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROMPT, NEW = 64, 64
# name: (model, rows, replicas of a prompt, ratio asked for)
SPEED = {"smollm2_32": ("smollm2", 32, 1, 2.0), "smollm2_64x4": ("smollm2", 64, 4, 2.8), "qwen2_4m": ("qwen2", 64, 1, 5.0)}
OTHERS = ["logprobs", "greedy", "tokenizer", "continuous", "memory"]


def make_qwen2(directory):
    torch.manual_seed(1)
    config = Qwen2Config(vocab_size=4096, hidden_size=256, intermediate_size=768, num_hidden_layers=4,
                         num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=1024,
                         tie_word_embeddings=True, bos_token_id=1, eos_token_id=2, pad_token_id=2)
    Qwen2ForCausalLM(config).save_pretrained(directory)


class Bench:
    """What all cases share: the model directories, the binaries and a place for files."""

    def __init__(self, args, directory):
        self.args, self.directory = args, directory
        self.models = {"smollm2": args.model, "qwen2": str(directory / "qwen2")}
        make_qwen2(self.models["qwen2"])

    def write(self, name, value):
        path = self.directory / f"{name}.json"
        path.write_text(json.dumps(value))
        return str(path)

    def engine(self, model, prompts, *options):
        """Context manager that yields ask(command), which runs one command of generation_bench."""
        return bench_process(f"{self.args.build}/bin/generation_bench", "--model", self.models[model], "--prompts",
                             self.write("prompts", prompts), "--threads", self.args.threads, *options)

    def reference(self, model):
        loaded = AutoModelForCausalLM.from_pretrained(self.models[model], torch_dtype=torch.float32).eval()
        loaded.generation_config.eos_token_id = None
        return loaded


def random_prompts(vocabulary, count, length=PROMPT):
    rng = random.Random(7)
    return [[rng.randrange(3, vocabulary) for _ in range(length)] for _ in range(count)]


def run_transformers(model, prompts):
    ids = torch.tensor(prompts)
    start = time.perf_counter()
    with torch.inference_mode():
        out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW, min_new_tokens=None,
                             do_sample=True, temperature=1.0, top_k=0, top_p=1.0, eos_token_id=None, pad_token_id=2)
    seconds = time.perf_counter() - start
    assert out.shape[1] == PROMPT + NEW, "a response ended early"
    return out.shape[0] * NEW / seconds


def speed(bench, name):
    """Tokens per second, prefill included on both sides, in alternation."""
    model_name, rows, replicas, asked = SPEED[name]
    model = bench.reference(model_name)
    prompts = [p for p in random_prompts(model.config.vocab_size, rows // replicas) for _ in range(replicas)]
    pairs = []
    with bench.engine(model_name, prompts, "--rows", str(rows), "--new-tokens", str(NEW)) as ask:
        ask("run")
        run_transformers(model, prompts[:4])
        for _ in range(bench.args.repeats):
            theirs, ours = run_transformers(model, prompts), ask("run")
            assert ours["generated_tokens"] == rows * NEW
            pairs.append((theirs, ours["tokens_per_second"]))
            print(f"{name}: transformers {theirs:.0f} tok/s, ours {pairs[-1][1]:.0f} tok/s, "
                  f"ratio {pairs[-1][1] / theirs:.2f}", flush=True)
    return {"transformers": round(statistics.median(p[0] for p in pairs), 1),
            "ours": round(statistics.median(p[1] for p in pairs), 1),
            "ratio": round(statistics.median(p[1] / p[0] for p in pairs), 3), "asked": asked}


def logprobs(bench, name):
    """Log-probs of given tokens, which are the logits up to a constant a position, in units of the largest logit.

    Both sides are held against transformers in float64, so that neither's rounding counts as the other's.
    """
    report = {}
    for model_name in bench.models:
        model = bench.reference(model_name)
        prompts = random_prompts(model.config.vocab_size, 16)
        ids = torch.tensor(prompts)

        def reference():
            with torch.inference_mode():
                logits = model(ids).logits[:, :-1].double()
            return torch.log_softmax(logits, -1).gather(2, ids[:, 1:, None])[..., 0], float(logits.abs().max())

        theirs, _ = reference()
        model.double()
        exact, largest = reference()
        with bench.engine(model_name, prompts) as ask:
            ours = torch.tensor(ask("logprobs")["logprobs"], dtype=torch.float64)
        report[model_name] = {who: float((found - exact).abs().max()) / largest
                              for who, found in (("ours", ours), ("transformers", theirs))}
        print(f"{name}: {model_name}: {ours.numel()} tokens, worst difference from float64 over the largest logit "
              f"({largest:.1f}): ours {report[model_name]['ours']:.1e}, transformers in float32 "
              f"{report[model_name]['transformers']:.1e}", flush=True)
    return {**report, "asked": 1e-4}


def greedy(bench, name):
    """Greedy tokens against those that transformers gave; a near tie may fall to either side."""
    fixture = json.loads((ROOT / "mpo/generation/testdata/greedy_smollm2.json").read_text())
    cases = fixture["cases"]
    with bench.engine("smollm2", [c["prompt"] for c in cases], "--temperature", "0", "--new-tokens",
                      str(fixture["max_new_tokens"]), "--stop") as ask:
        found = ask("tokens")["tokens"]
    identical = sum(ours == case["tokens"] for ours, case in zip(found, cases))
    print(f"{name}: {identical} of {len(cases)} responses identical to transformers {fixture['transformers']}", flush=True)
    return {"identical": identical, "of": len(cases), "asked": len(cases) - 2}


def tokenizer(bench, name):
    """Token ids against those of the tokenizers package, from the checked-in fixture."""
    binary = f"{bench.args.build}/bin/mpo"
    if not os.access(binary, os.X_OK):
        print(f"{name}: not run, {binary} is missing: ninja -C build/release mpo", flush=True)
        return None
    lines = (ROOT / "tests/fixtures/smollm2_tokenizer.jsonl").read_text().splitlines()
    items = [json.loads(line) for line in lines]
    asked = "".join(json.dumps({"text": item["text"]}) + "\n" for item in items)
    done = subprocess.run([binary, "tokenize", "--model", bench.models["smollm2"]], input=asked, capture_output=True,
                          text=True, check=True)
    found = [json.loads(line)["ids"] for line in done.stdout.splitlines()]
    identical = sum(ids == item["ids"] for ids, item in zip(found, items))
    print(f"{name}: {identical} of {len(items)} strings identical to the tokenizers package", flush=True)
    return {"identical": identical, "of": len(items), "asked": len(items)}


def continuous(bench, name):
    """Responses of 8 to 256 tokens: places are filled again at once, or a batch waits for its longest response."""
    count = 512
    rng = random.Random(11)
    lengths = [rng.randint(8, 256) for _ in range(count)]
    ways = {"continuous": [], "static": [], "shrinking": []}
    with bench.engine("qwen2", random_prompts(4096, count), "--rows", "64", "--lengths", bench.write("lengths", lengths)) as ask:
        ask("run")
        for _ in range(bench.args.repeats):
            answers = {way: ask(way) for way in ways}
            assert len({a["digest"] for a in answers.values()}) == 1, "the tokens differ"
            for way, answer in answers.items():
                ways[way].append(answer["seconds"])
            print(f"{name}: {sum(lengths)} tokens in " + ", ".join(f"{s[-1]:.2f} s {way}" for way, s in ways.items()) +
                  f", ratio {ways['static'][-1] / ways['continuous'][-1]:.2f}", flush=True)
    ratios = {way: round(statistics.median(s / c for s, c in zip(ways[way], ways["continuous"])), 3) for way in ways}
    return {**{way: round(statistics.median(s), 2) for way, s in ways.items()}, "ratio": ratios["static"],
            "ratio_shrinking": ratios["shrinking"], "asked": 1.6}


def memory(bench, name):
    """Resident memory of a cached token over the formula that `mpo generate --json` states."""
    report = {}
    for model in bench.models:
        with bench.engine(model, random_prompts(4096, 1, 4), "--new-tokens", "1") as ask:
            cache = ask("cache")
            formula = ask("run")["kv_bytes_per_token"]
        resident = cache["resident_bytes"] / cache["tokens"]
        print(f"{name}: {model}: {resident:.0f} bytes resident, {cache['allocated_bytes'] / cache['tokens']:.0f} allocated, "
              f"{formula} by formula, ratio {resident / formula:.4f}", flush=True)
        report[model] = {"resident": round(resident, 1), "formula": formula, "ratio": round(resident / formula, 4)}
    return {**report, "asked": 1.05}


def main():
    cases = {**{name: speed for name in SPEED}, **{name: globals()[name] for name in OTHERS}}
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--cases", default=",".join(cases))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    unknown = set(args.cases.split(",")) - set(cases)
    if unknown:
        parser.error(f"--cases: unknown {', '.join(sorted(unknown))}; expected some of {', '.join(cases)}")
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as temporary:
        bench = Bench(args, pathlib.Path(temporary))
        report = {name: cases[name](bench, name) for name in args.cases.split(",")}
    print(json.dumps({"threads": args.threads, "torch": torch.__version__, "transformers": transformers.__version__,
                      "cases": report}))


if __name__ == "__main__":
    sys.exit(main())
