#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the fixtures that mpo/rl is compared against: what TRL computes, taken from TRL while it runs.

Run by hand, each part in a virtual environment of its own:
  python3 -m venv venv-ppo && venv-ppo/bin/pip install torch==2.11.0 transformers==4.51.3 trl==0.17.0 datasets==3.6.0
  venv-ppo/bin/python tools/make_trl_fixtures.py ppo
  python3 -m venv venv-group && venv-group/bin/pip install torch==2.11.0 transformers==5.24.0 trl==1.16.0
  venv-group/bin/python tools/make_trl_fixtures.py group

ppo    trl 0.17.0's PPOTrainer.train runs one batch with two tiny models on given responses; every quantity is read from
       the frame of train() when it calls backward. -> mpo/rl/testdata/trl_ppo_{1,2,3}.safetensors
       A run of its own writes models, log and models afterwards. -> services/policy_learner/testdata/trl_ppo
group  trl 1.16.0's GRPOTrainer and RLOOTrainer score given responses and compute their losses; only generation and the
       log-probs of the model are replaced, by given tensors. -> mpo/rl/testdata/trl_{grpo,rloo}_{1,2,3}.safetensors
"""
import os, pathlib, sys, tempfile
os.environ.update(HF_HUB_OFFLINE="1", CUDA_VISIBLE_DEVICES="", TQDM_DISABLE="1")
import numpy as np
import torch
from safetensors.torch import save_file

ROOT = pathlib.Path(__file__).resolve().parent.parent
TESTDATA, RUN = ROOT / "mpo/rl/testdata", ROOT / "services/policy_learner/testdata/trl_ppo"
PAD, EOS, VOCAB = 0, 1, 11


def save(name, tensors, settings):
    tensors = {k: v.detach().clone().contiguous() for k, v in tensors.items()}
    tensors = {k: v if v.dtype in (torch.float32, torch.int64) else v.to(torch.int64) for k, v in tensors.items()}
    for key, value in settings.items():  # scalars, so that a test needs no second file
        tensors[f"settings.{key}"] = torch.tensor([float(value)], dtype=torch.float32)
    save_file(tensors, TESTDATA / f"{name}.safetensors")
    print(name, "written")


def tokenizer():
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast
    words = {"[PAD]": PAD, "[EOS]": EOS, **{f"w{i}": i for i in range(2, VOCAB)}}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="w2")),
                                   pad_token="[PAD]", eos_token="[EOS]", padding_side="left")


def words(n, generator):
    return torch.randint(2, VOCAB, (n,), generator=generator).tolist()


# ---------------------------------------------------------------------------------------------------------------- PPO

PPO = {  # seed: what differs from the settings of the paper
    1: dict(kl_estimator="k1", kl_coef=0.02, gamma=1.0, lam=0.95, cliprange=0.2, cliprange_value=0.2),
    2: dict(kl_estimator="k3", kl_coef=0.05, gamma=0.97, lam=0.9, cliprange=0.1, cliprange_value=0.3),
    3: dict(kl_estimator="k1", kl_coef=0.2, gamma=1.0, lam=1.0, cliprange=0.05, cliprange_value=0.05),
}
ROWS, CONTEXT, LENGTH, MICRO = 8, 3, 6, 4


def ppo_responses(seed):
    """No EOS at all; EOS and padding; EOS alone; EOS last; tokens behind the EOS (to be cut); padding without EOS."""
    g = torch.Generator().manual_seed(seed)
    rows = [words(6, g), words(3, g) + [EOS], [EOS], words(5, g) + [EOS], words(2, g) + [EOS] + words(3, g),
            words(4, g), words(4, g) + [EOS], words(1, g) + [EOS]]
    return torch.tensor([r + [PAD] * (LENGTH - len(r)) for r in rows])


def ppo_trainer(seed, micro, tied):
    """PPOTrainer on tiny models, and the responses and scores it is to be given."""
    import datasets, transformers, trl
    assert (trl.__version__, transformers.__version__) == ("0.17.0", "4.51.3"), "pinned versions"
    from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification
    torch.manual_seed(seed)
    np.random.seed(seed)  # the trainer shuffles with it and does not seed it
    shape = dict(vocab_size=VOCAB, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
                 max_position_embeddings=32, initializer_range=0.4, pad_token_id=PAD, eos_token_id=EOS,
                 bos_token_id=EOS, tie_word_embeddings=tied)
    policy, reference = LlamaForCausalLM(LlamaConfig(**shape)), LlamaForCausalLM(LlamaConfig(**shape))
    with torch.no_grad():  # apart from the policy, but not far
        for p, q in zip(policy.parameters(), reference.parameters()):
            q.copy_(p + 0.05 * torch.randn_like(p))
    value = LlamaForSequenceClassification(LlamaConfig(**shape, num_labels=1))
    reward = LlamaForSequenceClassification(LlamaConfig(**shape, num_labels=1))
    responses = ppo_responses(seed)
    scores = 2 * torch.randn(ROWS)
    g = torch.Generator().manual_seed(100 + seed)
    prompts = [words(CONTEXT - i % 2, g) for i in range(ROWS)]  # every second one is padded on the left
    config = trl.PPOConfig(
        output_dir=tempfile.mkdtemp(), report_to=[], use_cpu=True, seed=seed, total_episodes=ROWS, num_ppo_epochs=3,
        num_mini_batches=1, per_device_train_batch_size=micro, gradient_accumulation_steps=ROWS // micro,
        local_rollout_forward_batch_size=ROWS, response_length=LENGTH, stop_token="eos", temperature=0.7,
        missing_eos_penalty=1.0, vf_coef=0.1, learning_rate=0.004, num_sample_generations=0, save_strategy="no",
        **PPO[seed])
    trainer = trl.PPOTrainer(args=config, processing_class=tokenizer(), model=policy, ref_model=reference,
                             reward_model=reward, value_model=value,
                             train_dataset=datasets.Dataset.from_dict({"input_ids": prompts}),
                             eval_dataset=datasets.Dataset.from_dict({"input_ids": prompts}))
    return trainer, responses, scores


def make_ppo(seed):
    import trl.trainer.ppo_trainer as module
    trainer, responses, scores = ppo_trainer(seed, MICRO, tied=False)
    settings, config, reward = PPO[seed], trainer.args, trainer.reward_model
    real_forward, real_reward, real_log_softmax = module.forward, module.get_reward, module.selective_log_softmax
    out, logits = {}, []

    def given_responses(model, queries, batch, pad, generation):
        full = torch.cat([queries, responses], 1)
        with torch.no_grad():
            found = real_forward(model, full, pad).logits[:, CONTEXT - 1 : -1]
        return full, found / (config.temperature + 1e-7)

    def given_scores(model, full, pad, context):
        if model is not reward:
            return real_reward(model, full, pad, context)
        return None, scores.clone(), None

    def log_softmax(x, index):  # policy, then reference, then the policy of every backward pass
        logits.append(x)
        return real_log_softmax(x, index)

    calls = [0]
    real_backward = trainer.accelerator.backward

    def backward(loss):
        f = sys._getframe(1).f_locals
        if calls[0] == 0:
            for name in ("logprobs", "ref_logprobs", "values", "scores", "kl", "rewards", "advantages", "returns",
                         "sequence_lengths", "contain_eos_token", "responses"):
                out[name] = f[name].clone()
            out["given_scores"] = scores
            out["logits"], out["ref_logits"] = logits[0].clone(), logits[1].clone()
        live, values = f["logits"], f["vpred_temp"]
        for leaf in (live, values, f["new_logprobs"]):
            leaf.retain_grad()
        key = f"pass{calls[0]}."
        real_backward(loss)
        mask, mask_p1 = ~f["padding_mask"][f["micro_batch_inds"]], ~f["padding_mask_p1"][f["micro_batch_inds"]]
        out.update({
            key + "rows": torch.tensor(f["micro_batch_inds"]), key + "logits": live.clone(), key + "values": f["vpred"],
            key + "loss": loss, key + "policy_loss": f["pg_loss"], key + "value_loss": f["vf_loss"],
            key + "clip_fraction": module.masked_mean((f["pg_losses2"] > f["pg_losses"]).float(), mask),
            key + "value_clip_fraction": module.masked_mean((f["vf_losses2"] > f["vf_losses1"]).float(), mask_p1),
            key + "logits_grad": live.grad, key + "logprobs_grad": f["new_logprobs"].grad,
            key + "values_grad": values.grad[:, CONTEXT - 1 : -1].squeeze(-1)})
        calls[0] += 1

    module.batch_generation, module.get_reward, module.selective_log_softmax = given_responses, given_scores, log_softmax
    trainer.accelerator.backward = backward
    try:
        trainer.train()
    finally:
        module.batch_generation, module.get_reward, module.selective_log_softmax = (
            given_responses, real_reward, real_log_softmax)
    # The trainer shuffles the prompts; responses and scores stay in the order given here.
    assert calls[0] == 6 and torch.equal(out["responses"], responses)
    assert any(out[f"pass{i}.clip_fraction"] > 0 for i in range(6)), "no ratio was clipped"
    assert any(out[f"pass{i}.value_clip_fraction"] > 0 for i in range(6)), "no value was clipped"
    save(f"trl_ppo_{seed}", out, dict(
        passes=6, accumulation=ROWS // MICRO, missing_eos_penalty=1.0, value_coef=0.1,
        k3=settings["kl_estimator"] == "k3", **{k: v for k, v in settings.items() if k != "kl_estimator"}))


def make_run():
    """One whole update: the models before it, what the trainer logs, the models after it."""
    import trl.trainer.ppo_trainer as module
    trainer, responses, scores = ppo_trainer(1, ROWS, tied=True)
    policy, value, reward = trainer.policy_model, trainer.value_model, trainer.reward_model
    for name, model in (("policy", policy), ("reference", trainer.ref_model)):
        model.save_pretrained(RUN / name)
        (RUN / name / "generation_config.json").unlink(missing_ok=True)
    out = {f"value.{k}": v.clone() for k, v in value.state_dict().items()}
    real_forward, real_reward, seen = module.forward, module.get_reward, {}

    def given_responses(model, queries, batch, pad, generation):
        seen["queries"] = queries
        full = torch.cat([queries, responses], 1)
        with torch.no_grad():
            found = real_forward(model, full, pad).logits[:, CONTEXT - 1 : -1]
        return full, found / (trainer.args.temperature + 1e-7)

    module.batch_generation = given_responses
    module.get_reward = lambda model, *rest: (
        (None, scores.clone(), None) if model is reward else real_reward(model, *rest))
    trainer.log = lambda metrics: seen.update(metrics)
    real_backward = trainer.accelerator.backward

    def backward(loss):
        seen.setdefault("first_value_loss", sys._getframe(1).f_locals["vf_loss"].item())
        real_backward(loss)

    trainer.accelerator.backward = backward
    trainer.train()
    logged = {"policy_loss": "loss/policy_avg", "clip_fraction": "policy/clipfrac_avg",
              "first_value_loss": "first_value_loss"}
    out.update({"queries": seen["queries"], "responses": responses, "scores": scores})
    out.update({f"logged.{k}": torch.tensor([seen[v]]) for k, v in logged.items()})
    out.update({f"after.{k}": v for k, v in policy.state_dict().items() if k != "lm_head.weight"})
    save_file({k: v.detach().clone().contiguous() for k, v in out.items()}, RUN / "run.safetensors")


# ------------------------------------------------------------------------------------------------------ GRPO and RLOO

GROUPS, GROUP = 2, 4
GRPO = {  # name: settings of GRPOTrainer; the loss types are its words
    "grpo": dict(loss_type="grpo", beta=0.04, epsilon=0.2, epsilon_high=0.28),
    "bnpo": dict(loss_type="bnpo", beta=0.0, epsilon=0.2, epsilon_high=0.2, delta=1.5),
    "dr_grpo": dict(loss_type="dr_grpo", beta=0.1, epsilon=0.1, epsilon_high=0.3, scale_rewards="none",
                    use_bias_correction_kl=False),
    "sequence": dict(loss_type="grpo", beta=0.0, epsilon=0.05, epsilon_high=0.05, importance_sampling_level="sequence"),
    "batch_std": dict(loss_type="bnpo", beta=0.0, scale_rewards="batch"),
    "entropy": dict(loss_type="bnpo", beta=0.02, entropy_coef=0.03),
    "token_truncate": dict(loss_type="bnpo", beta=0.0),
    "sequence_truncate": dict(loss_type="bnpo", beta=0.0),
}
RLOO = {
    "plain": dict(beta=0.05, epsilon=0.2, epsilon_high=0.2),
    "normalised": dict(beta=0.0, epsilon=0.1, epsilon_high=0.3, normalize_advantages=True),
    "reward_clip": dict(beta=0.0, epsilon=0.2, epsilon_high=0.2, reward_clip_range=(-1.0, 1.0)),
}


def group_batch(seed):
    """Responses with and without EOS, of one token, of full length; rewards; log-probs of four policies."""
    g = torch.Generator().manual_seed(seed)
    ids = [words(6, g), words(3, g) + [EOS], [EOS], words(5, g) + [EOS], words(2, g), words(4, g) + [EOS],
           words(1, g) + [EOS], words(6, g)]
    old = -2 * torch.rand(len(ids), LENGTH, generator=g) - 0.2
    return dict(ids=ids, rewards=(2 * torch.randn(len(ids), generator=g)).tolist(), old=old,
                new=old + 0.25 * torch.randn(old.shape, generator=g),
                reference=old + 0.5 * torch.randn(old.shape, generator=g),
                behaviour=old + 0.4 * torch.randn(old.shape, generator=g),
                entropy=2 * torch.rand(old.shape, generator=g))


def group_trainer(cls, config_cls, batch, rewards, settings):
    from datasets import Dataset
    from transformers import LlamaConfig, LlamaForCausalLM
    directory = tempfile.mkdtemp()  # the trainer loads its reference by name
    LlamaForCausalLM(LlamaConfig(vocab_size=VOCAB, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
                                 num_attention_heads=1, pad_token_id=PAD, eos_token_id=EOS,
                                 bos_token_id=EOS)).save_pretrained(directory)
    model = LlamaForCausalLM.from_pretrained(directory)

    class Given(cls):
        source = "old"

        def _generate(self, prompts):
            prompt_ids, ids = [[2, 3]] * len(prompts), batch["ids"]
            text = [f"response {i}" for i in range(len(ids))]
            if cls.__name__ == "RLOOTrainer":
                return prompt_ids, ids, text
            drawn = [batch["behaviour"][i, : len(r)].tolist() for i, r in enumerate(ids)] if self.use_vllm else None
            return prompt_ids, ids, None, text, drawn, {}, None, []

        def _get_per_token_logps_and_entropies(self, model, *args, **kwargs):
            name = self.source if model is self.model else "reference"
            return batch[name].clone() if name != "new" else self.leaf, self.entropy, None

    trainer = Given(model=model, reward_funcs=lambda completions, **_: list(rewards), processing_class=tokenizer(),
                    train_dataset=Dataset.from_dict({"prompt": ["w2 w3"] * GROUPS}),
                    args=config_cls(output_dir=tempfile.mkdtemp(), report_to=[], use_cpu=True, bf16=False,
                                    per_device_train_batch_size=GROUPS * GROUP, num_generations=GROUP,
                                    max_completion_length=LENGTH, num_iterations=2, **settings))
    trainer.current_gradient_accumulation_steps = 1
    trainer.leaf = batch["new"].clone().requires_grad_(True)
    trainer.entropy = batch["entropy"].clone().requires_grad_(True)
    trainer.model.train()
    return trainer


def run_group(cls, config_cls, batch, rewards, settings, truncate=None):
    trainer = group_trainer(cls, config_cls, batch, rewards, settings)
    if truncate is not None:  # as if a vLLM server had drawn the responses
        trainer.use_vllm, trainer.vllm_importance_sampling_correction = True, True
        trainer.vllm_importance_sampling_mode = truncate
        trainer.vllm_importance_sampling_clip_min, trainer.vllm_importance_sampling_clip_max = None, 1.2
    prompts = [{"prompt": f"w{2 + i // GROUP}"} for i in range(GROUPS * GROUP)]
    inputs = trainer._generate_and_score_completions(prompts)
    trainer.source = "new"
    loss = trainer._compute_loss(trainer.model, inputs)
    loss.backward()
    entropy_grad = trainer.entropy.grad
    metrics = trainer._metrics["train"]
    return {"advantages": inputs["advantages"], "loss": loss.reshape(1), "grad": trainer.leaf.grad,
            "entropy_grad": torch.zeros_like(trainer.leaf) if entropy_grad is None else entropy_grad,
            "clip_fraction": torch.tensor([metrics["clip_ratio/region_mean"][-1]])}


def make_group(seed):
    import transformers, trl
    assert (trl.__version__, transformers.__version__) == ("1.16.0", "5.24.0"), "pinned versions"
    batch = group_batch(seed)
    shared = {k: batch[k] for k in ("old", "new", "reference", "behaviour", "entropy")}
    shared["lengths"] = torch.tensor([len(r) for r in batch["ids"]])
    shared["rewards"] = torch.tensor(batch["rewards"])
    # The second response of the first group and three of the second cannot be scored: nobody is left to compare with.
    holes = [None if i in (1, 4, 5, 6) else r for i, r in enumerate(batch["rewards"])]
    shared["scored"] = torch.tensor([r is not None for r in holes])
    for name, cls, config_cls, cases in (("grpo", trl.GRPOTrainer, trl.GRPOConfig, GRPO),
                                         ("rloo", trl.RLOOTrainer, trl.RLOOConfig, RLOO)):
        out = dict(shared)
        for case, settings in cases.items():
            truncate = case if case.endswith("_truncate") else None
            found = run_group(cls, config_cls, batch, batch["rewards"], settings, truncate)
            out.update({f"{case}.{k}": v for k, v in found.items()})
        for case, settings in (list(cases.items())[:3]):
            found = run_group(cls, config_cls, batch, holes, {**settings, "beta": 0.0})
            out[f"{case}.holes.advantages"] = found["advantages"]
        save(f"trl_{name}_{seed}", out, {})


if __name__ == "__main__":
    TESTDATA.mkdir(exist_ok=True)
    for number in (1, 2, 3):
        {"ppo": make_ppo, "group": make_group}[sys.argv[1]](number)
    if sys.argv[1] == "ppo":
        make_run()
