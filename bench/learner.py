# SPDX-License-Identifier: Apache-2.0
"""Times updates of the policy learner against TRL and transformers + PEFT; see learner.sh."""
import argparse, contextlib, json, os, random, resource, statistics, sys, tempfile, time

os.environ.update(HF_HUB_OFFLINE="1", CUDA_VISIBLE_DEVICES="", TQDM_DISABLE="1", TOKENIZERS_PARALLELISM="false")
import torch, transformers
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen2ForSequenceClassification

from bench_process import bench_process

PPO_ROWS, PPO_PROMPT, PPO_RESPONSE, PPO_EPOCHS = 64, 64, 64, 4
LORA_ROWS, LORA_PROMPT, LORA_RESPONSE, LORA_RANK, TOP_LAYERS, REPLICAS = 16, 60, 48, 16, 8, 4
KL_COEF, LEARNING_RATE = 0.02, 3e-6
MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ASKED = {"ppo_ratio": 1.5, "matrix_fraction": 0.55, "lora_ratio": 1.8, "lora_group_ratio": 1.8, "lora_memory": 0.6,
         "trunk_ratio": 4.0, "trunk_group_ratio": 4.0, "growth": 1.1}


def learner(args, model, *options):
    """Context manager that yields ask(command), which runs one command of learner_bench."""
    return bench_process(f"{args.build}/bin/learner_bench", "--model", model, "--threads", args.threads, *options)


def qwen2_config(**more):
    return Qwen2Config(vocab_size=4096, hidden_size=256, intermediate_size=768, num_hidden_layers=4, num_attention_heads=4,
                       num_key_value_heads=2, max_position_embeddings=1024, tie_word_embeddings=True, bos_token_id=1,
                       eos_token_id=2, pad_token_id=0, **more)


def ppo_trainer(directory, steps, on_step_end):
    """TRL's PPOTrainer with the policy of `directory`; scores are drawn, so that no reward model costs it time."""
    import datasets, trl
    import trl.trainer.ppo_trainer as module
    from tokenizers import Tokenizer, models
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"[PAD]": 0, "[EOS]": 2, **{f"w{i}": i for i in range(3, 4096)}},
                                                    unk_token="w3")), pad_token="[PAD]", eos_token="[EOS]", padding_side="left")
    policy, reference = (Qwen2ForCausalLM.from_pretrained(directory) for _ in range(2))
    policy.generation_config.eos_token_id = None  # every response has its full length
    value = Qwen2ForSequenceClassification(qwen2_config(num_labels=1))
    reward = Qwen2ForSequenceClassification(qwen2_config(num_labels=1))
    real_reward = module.get_reward

    def get_reward(model, tokens, pad, context):
        return (None, torch.rand(tokens.shape[0]), None) if model is reward else real_reward(model, tokens, pad, context)

    module.get_reward = get_reward
    rng = random.Random(7)
    prompts = [[rng.randrange(3, 4096) for _ in range(PPO_PROMPT)] for _ in range(PPO_ROWS)]
    data = datasets.Dataset.from_dict({"input_ids": prompts})
    config = trl.PPOConfig(
        output_dir=tempfile.mkdtemp(dir=directory), report_to=[], use_cpu=True, total_episodes=PPO_ROWS * steps,
        num_ppo_epochs=PPO_EPOCHS, num_mini_batches=1, per_device_train_batch_size=PPO_ROWS, gradient_accumulation_steps=1,
        local_rollout_forward_batch_size=PPO_ROWS, response_length=PPO_RESPONSE, temperature=1.0, kl_coef=KL_COEF,
        learning_rate=LEARNING_RATE, num_sample_generations=0, save_strategy="no", logging_strategy="no")

    class StepEnd(transformers.TrainerCallback):
        def on_step_end(self, *_, **__):
            on_step_end()

    trainer = trl.PPOTrainer(args=config, processing_class=tokenizer, model=policy, ref_model=reference, reward_model=reward,
                             value_model=value, train_dataset=data, eval_dataset=data, callbacks=[StepEnd()])
    trainer.log = lambda metrics: None
    return trainer


def ppo(args, report):
    """Generation and update of a whole step. The first step of either side warms it up."""
    with tempfile.TemporaryDirectory() as directory:
        torch.manual_seed(1)
        Qwen2ForCausalLM(qwen2_config()).save_pretrained(directory)
        pairs, matrix, began = [], [], [0.0]
        with learner(args, directory, "--rows", PPO_ROWS, "--prompt", PPO_PROMPT, "--new-tokens", PPO_RESPONSE,
                     "--micro-batch-tokens", PPO_ROWS * (PPO_PROMPT + PPO_RESPONSE)) as ask:  # all rows at once, as there
            ask("step")

            def on_step_end():
                theirs = time.perf_counter() - began[0]
                ours = ask("step")
                pairs.append((theirs, ours))
                matrix.append(ask("matrix")["seconds"])
                print(f"ppo: TRL {theirs:.2f} s, ours {ours['seconds']:.2f} s (generation {ours['generation_seconds']:.2f}, "
                      f"update {ours['update_seconds']:.2f}; matrix products alone {matrix[-1]:.2f}), "
                      f"ratio {theirs / ours['seconds']:.2f}", flush=True)
                began[0] = time.perf_counter()

            trainer = ppo_trainer(directory, args.repeats + 1, on_step_end)
            began[0] = time.perf_counter()
            trainer.train()
    pairs, matrix = pairs[1:], matrix[1:]
    report["ppo_ratio"] = statistics.median(theirs / ours["seconds"] for theirs, ours in pairs)
    report["matrix_fraction"] = statistics.median(m / ours["update_seconds"] for m, (_, ours) in zip(matrix, pairs))
    report["ppo_seconds"] = {"trl": statistics.median(p[0] for p in pairs),
                             "ours": statistics.median(p[1]["seconds"] for p in pairs)}


def peft_update(model, optimizer, step):
    """One pass of the clipped loss with the KL in it: reference with the adapter off, policy, backward, AdamW."""
    generator = torch.Generator().manual_seed(step)
    vocabulary = model.config.vocab_size
    ids = torch.randint(3, vocabulary, (LORA_ROWS, LORA_PROMPT + LORA_RESPONSE), generator=generator)
    rewards = torch.rand(LORA_ROWS, generator=generator)
    targets = ids[:, LORA_PROMPT:]

    def logprobs():
        logits = model(ids, logits_to_keep=LORA_RESPONSE + 1, use_cache=False).logits[:, :-1]
        chosen = logits.gather(2, targets[..., None])[..., 0]
        return chosen - torch.stack([torch.logsumexp(row, dim=-1) for row in logits])  # as TRL, row by row

    start = time.perf_counter()
    with torch.no_grad(), model.disable_adapter():
        reference = logprobs()
    found = logprobs()
    old = found.detach()
    advantages = ((rewards - rewards.mean()) / (rewards.std() + 1e-8))[:, None]
    ratio = torch.exp(found - old)
    loss = torch.max(-advantages * ratio, -advantages * ratio.clamp(0.8, 1.2))
    distance = reference - found
    loss = (loss + KL_COEF * (distance.exp() - 1 - distance)).mean()
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 1.0)
    optimizer.step()
    return time.perf_counter() - start


def serve_peft(args):
    """The other side's process, so that its peak memory is its own: a number a line in, seconds a line out."""
    from peft import LoraConfig, get_peft_model
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(args.model, torch_dtype=torch.float32)
    model = get_peft_model(model, LoraConfig(r=LORA_RANK, lora_alpha=2 * LORA_RANK, target_modules=MODULES))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=LEARNING_RATE, weight_decay=0)
    model.train()
    for line in sys.stdin:
        seconds = peft_update(model, optimizer, int(line))
        print(json.dumps({"seconds": seconds, "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}), flush=True)


def adapters(args, report):
    """Adapters on all layers and on the top ones, ours, against adapters on all layers with transformers + PEFT. The cases
    named group have four samples a prompt, as group-relative algorithms do; the peer computes every row by itself."""
    options = ["--algorithm", "reinforce_pp", "--rows", LORA_ROWS, "--prompt", LORA_PROMPT, "--new-tokens", LORA_RESPONSE,
               "--lora-rank", LORA_RANK]
    # Below the top layers the activations come from generation, as learner.trunks_from_actors has it.
    top, group = ["--lora-layers", TOP_LAYERS, "--trunks"], ["--replicas", REPLICAS]
    cases = {"lora": [], "lora_group": group, "trunk": top, "trunk_group": [*top, *group]}
    peft = bench_process(sys.executable, __file__, "--serve-peft", "--build", args.build, "--model", args.model, "--threads",
                         args.threads)
    found = {name: [] for name in ("peft", *cases)}
    with contextlib.ExitStack() as stack:
        peer = stack.enter_context(peft)
        ours = {name: stack.enter_context(learner(args, args.model, *options, *more)) for name, more in cases.items()}
        for step in range(args.repeats + 1):
            theirs = peer(step)
            seconds = {"peft": theirs["seconds"], **{name: ask("update")["update_seconds"] for name, ask in ours.items()}}
            memory = {"peft": theirs["peak_bytes"], **{name: ask("memory")["peak_bytes"] for name, ask in ours.items()}}
            if step == 0:  # Warms up all of them.
                continue
            for name, value in seconds.items():
                found[name].append(value)
            print(f"lora: PEFT {seconds['peft']:.2f} s, {memory['peft'] / 2**30:.2f} GiB; "
                  + "; ".join(f"{name} {seconds[name]:.2f} s, {memory[name] / 2**30:.2f} GiB, ratio "
                              f"{seconds['peft'] / seconds[name]:.2f}" for name in cases), flush=True)
    for name in cases:
        report[f"{name}_ratio"] = statistics.median(p / o for p, o in zip(found["peft"], found[name]))
        report[f"{name}_memory"] = memory[name] / memory["peft"]
    report["lora_seconds"] = {name: statistics.median(values) for name, values in found.items()}


def growth(args, report):
    """Seconds of an update of 64 samples over 8 times that of 8 samples, adapters on the top layers of SmolLM2."""
    shared = ["--algorithm", "reinforce_pp", "--prompt", LORA_PROMPT, "--new-tokens", LORA_RESPONSE, "--lora-rank", LORA_RANK,
              "--lora-layers", TOP_LAYERS]
    ratios = []
    with learner(args, args.model, *shared, "--rows", 8) as few, learner(args, args.model, *shared, "--rows", 64) as many:
        for step in range(args.repeats + 1):
            small = statistics.median(few("update")["update_seconds"] for _ in range(3))
            large = many("update")["update_seconds"]
            if step == 0:
                continue
            ratios.append(large / (8 * small))
            print(f"growth: 8 samples {small:.2f} s, 64 samples {large:.2f} s, {ratios[-1]:.2f} of linear", flush=True)
    report["growth"] = statistics.median(ratios)


def main():
    cases = {"ppo": ppo, "lora": adapters, "trunk": adapters, "growth": growth}
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--cases", default=",".join(cases))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--serve-peft", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.serve_peft:
        return serve_peft(args)
    unknown = set(args.cases.split(",")) - set(cases)
    if unknown:
        parser.error(f"--cases: unknown {', '.join(sorted(unknown))}; expected some of {', '.join(cases)}")
    report = {}
    for case in dict.fromkeys(cases[name] for name in args.cases.split(",")):
        case(args, report)

    def rounded(value):
        return {k: rounded(v) for k, v in value.items()} if isinstance(value, dict) else round(value, 3)

    import peft, trl
    print(json.dumps({**rounded(report), "asked": {k: v for k, v in ASKED.items() if k in report}, "threads": args.threads,
                      "torch": torch.__version__, "transformers": transformers.__version__, "trl": trl.__version__,
                      "peft": peft.__version__}))


if __name__ == "__main__":
    sys.exit(main())
