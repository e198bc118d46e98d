# SPDX-License-Identifier: Apache-2.0
"""Runs transformers and generation_bench in alternation; see generation.sh."""
import argparse, json, os, pathlib, random, statistics, subprocess, sys, tempfile, time

os.environ["HF_HUB_OFFLINE"] = "1"
import torch, transformers
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

PROMPT, NEW = 64, 64
# name: (model, rows, replicas of a prompt, ratio asked for)
CASES = {"smollm2_32": ("smollm2", 32, 1, 2.0), "smollm2_64x4": ("smollm2", 64, 4, 2.8), "qwen2_4m": ("qwen2", 64, 1, 5.0)}


def make_qwen2(directory):
    torch.manual_seed(1)
    config = Qwen2Config(vocab_size=4096, hidden_size=256, intermediate_size=768, num_hidden_layers=4,
                         num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=1024,
                         tie_word_embeddings=True, bos_token_id=1, eos_token_id=2, pad_token_id=2)
    Qwen2ForCausalLM(config).save_pretrained(directory)


def run_transformers(model, prompts):
    ids = torch.tensor(prompts)
    start = time.perf_counter()
    with torch.inference_mode():
        out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW, min_new_tokens=None,
                             do_sample=True, temperature=1.0, top_k=0, top_p=1.0, eos_token_id=None, pad_token_id=2)
    seconds = time.perf_counter() - start
    assert out.shape[1] == PROMPT + NEW, "a response ended early"
    return out.shape[0] * NEW / seconds


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bench", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    report = {}
    with tempfile.TemporaryDirectory() as temporary:
        temporary = pathlib.Path(temporary)
        directories = {"smollm2": args.model, "qwen2": str(temporary / "qwen2")}
        make_qwen2(directories["qwen2"])
        for name in args.cases.split(","):
            model_name, rows, replicas, asked = CASES[name]
            model = AutoModelForCausalLM.from_pretrained(directories[model_name], torch_dtype=torch.float32).eval()
            model.generation_config.eos_token_id = None
            rng = random.Random(7)
            distinct = [[rng.randrange(3, model.config.vocab_size) for _ in range(PROMPT)] for _ in range(rows // replicas)]
            prompts = [p for p in distinct for _ in range(replicas)]
            path = temporary / f"{name}.json"
            path.write_text(json.dumps(prompts))
            ours = subprocess.Popen([args.bench, "--model", directories[model_name], "--prompts", str(path), "--threads",
                                     str(args.threads), "--rows", str(rows), "--new-tokens", str(NEW)],
                                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

            def run_ours():
                ours.stdin.write("run\n")
                ours.stdin.flush()
                answer = json.loads(ours.stdout.readline())
                assert answer["generated_tokens"] == rows * NEW
                return answer["tokens_per_second"]

            run_ours()
            run_transformers(model, prompts[:4])
            pairs = []
            for _ in range(args.repeats):
                pairs.append((run_transformers(model, prompts), run_ours()))
                print(f"{name}: transformers {pairs[-1][0]:.0f} tok/s, ours {pairs[-1][1]:.0f} tok/s, "
                      f"ratio {pairs[-1][1] / pairs[-1][0]:.2f}", flush=True)
            ours.stdin.close()
            ours.wait()
            report[name] = {"transformers": round(statistics.median(p[0] for p in pairs), 1),
                            "ours": round(statistics.median(p[1] for p in pairs), 1),
                            "ratio": round(statistics.median(p[1] / p[0] for p in pairs), 3), "asked": asked}
            del model
    print(json.dumps({"threads": args.threads, "torch": torch.__version__, "transformers": transformers.__version__,
                      "cases": report}))


if __name__ == "__main__":
    sys.exit(main())
