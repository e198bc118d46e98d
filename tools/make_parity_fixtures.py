#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the parity fixtures that the tests of mpo/model and mpo/generation compare against.

Run by hand, in a virtual environment with exactly these versions:
  python3 -m venv venv && venv/bin/pip install torch==2.11.0 transformers==4.51.3 peft==0.15.2
  venv/bin/python tools/make_parity_fixtures.py --model .deps/models/smollm2-135m-instruct

mpo/model/testdata/<name>/      config.json, model.safetensors, expected.json: logits of tiny random models
mpo/model/testdata/peft/        an adapter directory written by PEFT and its logits on tiny_llama
mpo/model/testdata/peft_head/   another, of a tied lm_head, and its logits on tiny_qwen3
mpo/generation/testdata/greedy_smollm2.json   token ids in and out of greedy decoding
"""
import argparse, json, os, pathlib
os.environ["HF_HUB_OFFLINE"] = "1"
import torch, transformers
from transformers import (AutoTokenizer, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config,
                          Qwen3ForCausalLM)

assert transformers.__version__ == "4.51.3" and torch.__version__.startswith("2.11.0"), "pinned versions"
ROOT = pathlib.Path(__file__).resolve().parent.parent
SHAPE = dict(vocab_size=61, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=128, initializer_range=0.2, rms_norm_eps=1e-5,
             bos_token_id=1, eos_token_id=2, pad_token_id=2)
LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=32)
MODELS = {
    "tiny_llama": (LlamaForCausalLM, LlamaConfig(**SHAPE, tie_word_embeddings=True, rope_theta=100000.0)),
    "tiny_llama3": (LlamaForCausalLM, LlamaConfig(**SHAPE, tie_word_embeddings=False, rope_theta=500000.0,
                                                  rope_scaling=LLAMA3)),
    "tiny_linear": (LlamaForCausalLM, LlamaConfig(**{**SHAPE, "num_key_value_heads": 4}, tie_word_embeddings=False,
                                                  head_dim=16, rope_scaling=dict(rope_type="linear", factor=2.0))),
    "tiny_qwen2": (Qwen2ForCausalLM, Qwen2Config(**{**SHAPE, "num_key_value_heads": 1}, tie_word_embeddings=True,
                                                 rope_theta=1000000.0)),
    # Two of LENGTHS go beyond the original context of 32.
    "tiny_dynamic": (LlamaForCausalLM, LlamaConfig(**{**SHAPE, "max_position_embeddings": 32, "num_hidden_layers": 1},
                                                   tie_word_embeddings=True,
                                                   rope_scaling=dict(rope_type="dynamic", factor=4.0))),
    "tiny_qwen3": (Qwen3ForCausalLM, Qwen3Config(**SHAPE, head_dim=12, tie_word_embeddings=True, rope_theta=1000000.0)),
    # Saved as bfloat16 in shards.
    "tiny_qwen3_bf16": (Qwen3ForCausalLM, Qwen3Config(**{**SHAPE, "num_key_value_heads": 1}, head_dim=10,
                                                      tie_word_embeddings=False, rope_theta=10000.0)),
}
LENGTHS = [1, 7, 33, 51]
PROMPTS = [
    "Write a short essay about the sea.", "What is the capital of France?", "List three uses of a paper clip.",
    "Explain photosynthesis to a child.", "Tom has 3 apples and buys 4 more. How many has he?",
    "Write a haiku about winter.", "Why is the sky blue?", "Summarise the story of Cinderella in two sentences.",
    "Translate 'good morning' into Spanish.", "Name five mammals.", "Is it right to tell a white lie?",
    "Write a Python function that adds two numbers.", "Give me a recipe for pancakes.",
    "Describe the taste of lemon.", "What happened in 1969?", "Compose a polite email asking for a day off.",
]
PLAIN = [
    "Once upon a time", "The quick brown fox", "In the beginning", "def fibonacci(n):", "1 2 3 4 5 6",
    "The meaning of life is", "Dear Sir or Madam,\n", "Water boils at", "To be, or not to be", "# Introduction\n",
]
MORE = [
    "Who wrote Hamlet?", "Give three tips for sleeping well.", "What is 12 times 11?", "Write a limerick about a cat.",
    "Explain what a prime number is.", "Name the planets of the solar system.", "How do bees make honey?",
    "Write one sentence about rain.", "What is the difference between a frog and a toad?", "Define 'irony'.",
    "Suggest a name for a bakery.", "Why do leaves change colour in autumn?", "Translate 'thank you' into French.",
    "Write a SQL query that counts rows.", "What should I pack for the beach?", "Tell me a short story about a dragon.",
    "Is water wet?", "List the primary colours.", "How does a bicycle stay upright?", "What is a haiku?",
    "Write a thank-you note to a teacher.", "What causes thunder?", "Describe a quiet morning.",
    "What is the square root of 144?",
]


def tokens_of(n, seed):
    return torch.randint(0, SHAPE["vocab_size"], (n,), generator=torch.Generator().manual_seed(seed)).tolist()


def write_tiny(directory, cls, config):
    torch.manual_seed(sum(map(ord, directory.name)))
    model = cls(config).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():  # norms and biases too, or their place would go untested
            p.copy_(torch.randn_like(p) * 0.2 + (1.0 if "norm" in name else 0.0))
    if directory.name.endswith("_bf16"):
        model.to(torch.bfloat16).save_pretrained(directory, max_shard_size="20KB")
        # Read back: the conversion also rounded the rotary frequencies, which no file holds.
        model = cls.from_pretrained(directory, torch_dtype=torch.float32).eval()
    else:
        model.save_pretrained(directory)
    cases = []
    for n in LENGTHS:
        ids = tokens_of(n, n)
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0]
        cases.append({"tokens": ids, "last_logits": logits[-1].tolist(), "sums": logits.sum(-1).tolist()})
    (directory / "expected.json").write_text(json.dumps({"cases": cases}))
    return model


PEFT = {  # By the model they are for.
    "tiny_llama": ("peft", dict(r=3, lora_alpha=5, target_modules=["q_proj", "v_proj", "o_proj", "down_proj"],
                                layers_to_transform=[1], layers_pattern="layers")),
    # A tied head, layers that are not the top ones, a dropout that inference does not apply.
    "tiny_qwen3": ("peft_head", dict(r=4, lora_alpha=6, use_rslora=True, lora_dropout=0.1,
                                     target_modules=["lm_head", "k_proj", "up_proj"], layers_to_transform=[0])),
}


def write_peft(directory, model, config):
    from peft import LoraConfig, get_peft_model
    torch.manual_seed(7)
    peft = get_peft_model(model, LoraConfig(**config, task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, p in peft.named_parameters():
            if "lora_" in name:
                p.copy_(torch.randn_like(p) * 0.2)
        ids = tokens_of(19, 5)
        logits = peft.eval()(torch.tensor([ids])).logits[0]
    peft.save_pretrained(directory)
    (directory / "README.md").unlink(missing_ok=True)
    (directory / "expected.json").write_text(
        json.dumps({"cases": [{"tokens": ids, "last_logits": logits[-1].tolist(), "sums": logits.sum(-1).tolist()}]}))


def write_greedy(path, model_dir, new_tokens):
    tok = AutoTokenizer.from_pretrained(model_dir)
    model = LlamaForCausalLM.from_pretrained(model_dir, torch_dtype=torch.float32).eval()
    texts = [tok.apply_chat_template([{"role": "user", "content": p}], tokenize=False, add_generation_prompt=True)
             for p in PROMPTS] + PLAIN
    texts += [tok.apply_chat_template([{"role": "user", "content": p}], tokenize=False, add_generation_prompt=True)
              for p in MORE]
    cases = []
    for text in texts:
        ids = tok(text, add_special_tokens=False).input_ids
        with torch.no_grad():
            out = model.generate(torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long),
                                 max_new_tokens=new_tokens, do_sample=False, eos_token_id=2, pad_token_id=2)[0].tolist()
            new = out[len(ids):]
            logits = model(torch.tensor([out])).logits[0, len(ids) - 1:-1]
        top = logits.topk(2, -1).values
        gaps = (top[:, 0] - top[:, 1]).tolist()
        cases.append({"prompt": ids, "tokens": new, "gaps": [round(g, 6) for g in gaps]})
    path.write_text(json.dumps({"transformers": transformers.__version__, "torch": torch.__version__,
                                "max_new_tokens": new_tokens, "cases": cases}))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default=str(ROOT / ".deps/models/smollm2-135m-instruct"))
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--tiny", action="store_true", help="leave the greedy tokens as they are")
    args = parser.parse_args()
    torch.set_num_threads(2)
    for name, (cls, config) in MODELS.items():
        directory = ROOT / "mpo/model/testdata" / name
        directory.mkdir(parents=True, exist_ok=True)
        model = write_tiny(directory, cls, config)
        if name in PEFT:
            target, lora = PEFT[name]
            write_peft(ROOT / "mpo/model/testdata" / target, model, lora)
    if args.tiny:
        return
    write_greedy(ROOT / "mpo/generation/testdata/greedy_smollm2.json", args.model, args.new_tokens)


if __name__ == "__main__":
    main()
