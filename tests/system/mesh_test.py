#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Starts the real binaries through `mpo train` on a tiny model and checks what a
user is promised: results, exactly-once, determinism, survival, clear errors."""

import argparse
import collections
import http.server
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

ARGS = None
STEPS = 48
RUN_SECONDS = 150  # Longest one run may take, on a busy machine.

CONFIG = """\
run: {{name: system, dir: {dir}, seed: {seed}, steps: {steps}}}
task: essay
data: {{train: {source}/data/essay/train.jsonl, heldout: {source}/data/essay/heldout.jsonl}}
policy: {{model: {model}, lora: {{rank: 4, alpha: 8, layers: 1}}}}
generation: {{prompts_per_step: 4, group_size: 2, unit_size: 4, temperature: 1.0, max_new_tokens: 24, threads: 1}}
reward: {{rubric: {rubric}, judge: embedded}}
meta: {{every: 12, judge: embedded, evidence: 16, publish: barrier}}
learner: {{algorithm: rloo, learning_rate: 1.0e-2, epochs: 1, kl_coef: 0.01, threads: 1, record_rollouts: true}}
evaluation: {{every: 24, prompts: 2}}
mesh: {{work_lease: 2, heartbeat: 0.3{mesh}}}
"""


# Random bytes differ in what this asks for, so that there is something to learn.
RUBRIC = """\
id: noise
aggregation: weighted
scale: by_maximum
criteria:
  - {id: long, text: Many words, maximum: 10, check: {name: words, zero_at: 0, saturate_at: 10}}
  - {id: loud, text: Exclamation marks, maximum: 5, check: {name: exclamations, zero_at: 0, saturate_at: 2}}
"""


class FaultyJudge(http.server.ThreadingHTTPServer):
    """Speaks the chat completions protocol; of its calls 10 % get a 500, 10 % garbage, 5 % no answer in time. A good
    answer's rationale carries the number of its call, so that a verdict tells which call it came from."""

    GARBAGE = ("no json at all", '{"scores": []}', '{"scores": [{"id": "long", "score": 99}, {"id": "loud", "score": 1}]}',
               '{"scores": [{"id": "long", "score": "many"}, {"id": "loud", "score": 1}]}', "")

    def __init__(self, patience, dies_after=None):
        super().__init__(("127.0.0.1", 0), FaultyJudge.Handler)
        self.patience = patience  # Seconds after which the client gives up.
        self.dies_after = dies_after  # Calls after which each one fails.
        self.lock = threading.Lock()
        self.random = random.Random(7)
        self.good = {}  # Call number -> the score it gave.
        self.failed = collections.Counter()
        self.calls = 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return "http://127.0.0.1:%d/v1" % self.server_address[1]

    def draw(self):
        with self.lock:
            self.calls += 1
            dice = self.random.random()
            if self.dies_after is not None and self.calls > self.dies_after:
                dice = 0
            kind = "500" if dice < 0.10 else "garbage" if dice < 0.20 else "silence" if dice < 0.25 else "good"
            if kind == "good":
                self.good[self.calls] = self.random.randint(1, 10)
            else:
                self.failed[kind] += 1
            return self.calls, kind

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):  # /v1/models, which mpo train asks for first.
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            call, kind = self.server.draw()
            if kind == "silence":
                time.sleep(2 * self.server.patience)
            if kind == "good":
                content = json.dumps({"scores": [
                    {"id": "long", "score": self.server.good[call], "rationale": f"call {call}"},
                    {"id": "loud", "score": 1, "rationale": f"call {call}"}]})
            else:
                content = FaultyJudge.GARBAGE[call % len(FaultyJudge.GARBAGE)]
            body = json.dumps({"choices": [{"message": {"role": "assistant", "content": content},
                                            "finish_reason": "stop"}]}).encode()
            try:
                self.send_response(500 if kind == "500" else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            except OSError:
                pass  # The client gave up.

        def log_message(self, *_):
            pass


class Mesh(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.root = pathlib.Path(tempfile.mkdtemp(prefix="mpo_system_"))
        cls.model = cls.root / "model"
        subprocess.run([ARGS.tools / "make_tiny_model", cls.model], check=True)
        cls.rubric = cls.root / "rubric.yaml"
        cls.rubric.write_text(RUBRIC)
        cls.clean = None

    @classmethod
    def tearDownClass(cls):
        if ARGS.keep:
            print("kept", cls.root)
        else:
            shutil.rmtree(cls.root)

    def config(self, name, **changes):
        values = dict(dir=self.root / name, seed=1, steps=STEPS, source=ARGS.source, model=self.model,
                      rubric=self.rubric, mesh="")
        values.update(changes)
        path = self.root / (name + ".yaml")
        path.write_text(CONFIG.format(**values))
        return path

    def start(self, config, *arguments):
        log = open(self.root / (config.stem + ".out"), "a", encoding="utf-8")
        process = subprocess.Popen([ARGS.bin / "mpo", "train", config, *arguments], stdout=log, stderr=log)
        self.addCleanup(lambda: process.poll() is None and process.kill())
        log.close()
        return process

    def output(self, config):
        text = (self.root / (config.stem + ".out")).read_text(encoding="utf-8")
        for path in sorted((self.root / config.stem / "logs").glob("*.log")):
            text += f"\n--- {path.name}\n" + path.read_text(encoding="utf-8", errors="replace")[-1500:]
        return text

    def finish(self, process, config, code=0):
        try:
            process.wait(RUN_SECONDS)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            self.fail("the run did not end in time\n" + self.output(config))
        self.assertEqual(process.returncode, code, self.output(config))

    def mpo(self, *arguments, code=0):
        done = subprocess.run([ARGS.bin / "mpo", *map(str, arguments)], capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done

    def summary(self, name):
        return json.loads((self.root / name / "summary.json").read_text())

    def clean_run(self):
        """The run every other one is compared with; made once."""
        if Mesh.clean is None:
            config = self.config("clean")
            self.finish(self.start(config), config)
            Mesh.clean = self.summary("clean")
        return Mesh.clean

    def processes(self, name):
        path = self.root / name / "processes.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def await_step(self, process, config, step):
        """Waits until `step` is committed, as `mpo status` sees it."""
        deadline = time.monotonic() + RUN_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            done = subprocess.run([ARGS.bin / "mpo", "status", "--json", "--run", self.root / config.stem],
                                  capture_output=True, text=True, timeout=60)
            if done.returncode == 0:
                state = json.loads(done.stdout)
                if state["running"] and state["step"] >= step:
                    return
            time.sleep(0.05)
        self.fail(f"step {step} was not reached\n" + self.output(config))

    def check_exactly_once(self, name, steps=STEPS):
        report = json.loads(self.mpo("doctor", "--json", "--run", self.root / name).stdout)
        self.assertTrue(report["ok"], report)
        self.assertIn("exactly once", [check["name"] for check in report["checks"]])
        samples = self.summary(name)["samples"]
        self.assertEqual(samples["committed"], steps * 8)
        self.assertEqual(samples["planned"], steps * 8)

    # The cases, in the order of their names.

    def test_1_a_run_leaves_its_files(self):
        summary = self.clean_run()
        directory = self.root / "clean"
        self.assertEqual(summary["run"], "system")
        self.assertEqual(summary["seed"], 1)
        self.assertEqual(summary["steps"], STEPS)
        self.assertEqual(summary["restarts"], 0)
        self.assertEqual(summary["samples"]["unscorable"], 0)
        self.assertRegex(summary["weights_sha256"], "^[0-9a-f]{64}$")
        self.assertRegex(summary["config_sha256"], "^[0-9a-f]{64}$")
        for key in ("proxy", "gold"):
            self.assertIsNotNone(summary[key]["first"], key)
            self.assertIsNotNone(summary[key]["last"], key)
        self.assertGreater(summary["tokens_per_second"], 0)
        for name in ("config.yaml", "config.resolved.yaml", "ledger.sqlite", "report.html", "rubrics/global/0.yaml",
                     "logs/policy_learner.log", "logs/actor-0.log"):
            self.assertTrue((directory / name).exists(), name)
        metrics = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
        self.assertEqual([line["step"] for line in metrics], list(range(1, STEPS + 1)))
        self.assertGreater(len({line["weights_sha256"] for line in metrics}), STEPS // 2, "nothing was learnt")
        for key in ("policy_loss", "kl", "grad_norm", "proxy", "gold", "rubric", "unscorable", "seconds"):
            self.assertIn(key, metrics[0])
        samples = [json.loads(line) for line in (directory / "samples.jsonl").read_text().splitlines()]
        self.assertEqual(sum(sample["kind"] == "train" for sample in samples), STEPS * 8)
        page = (directory / "report.html").read_text()
        self.assertNotRegex(page, "https?://|<script")
        out = self.output(self.root / "clean.yaml")
        self.assertRegex(out, rf"step +{STEPS}/{STEPS}")

    def test_2_other_commands_read_a_finished_run(self):
        self.clean_run()
        directory = self.root / "clean"
        status = json.loads(self.mpo("status", "--json", "--run", directory).stdout)
        self.assertFalse(status["running"])
        self.assertEqual(status["phase"], "finished")
        self.assertEqual(json.loads(self.mpo("report", "--json", directory).stdout), self.summary("clean"))
        self.check_exactly_once("clean")
        rubrics = json.loads(self.mpo("rubric", "list", "--json", "--run", directory).stdout)
        self.assertEqual(rubrics[0]["version"], 0)
        self.assertIn("criteria:", self.mpo("rubric", "show", "0", "--run", directory).stdout)
        exported, half = self.root / "exported", self.root / "exported-half"
        self.mpo("export", "--run", directory, "--output", exported)
        self.mpo("export", "--run", directory, "--output", half, "--dtype", "bfloat16")
        sizes = [(model / "model.safetensors").stat().st_size for model in (self.model, exported, half)]
        self.assertEqual(sizes[1], sizes[0])
        self.assertLess(sizes[2], sizes[1])
        self.mpo("export", "--run", directory, "--output", exported, code=2)

    def test_3_the_same_seed_gives_the_same_weights_and_another_does_not(self):
        self.clean_run()
        config = self.config("again")
        self.finish(self.start(config, "--no-report"), config)
        self.assertEqual(self.summary("again")["weights_sha256"], Mesh.clean["weights_sha256"])
        self.assertFalse((self.root / "again" / "report.html").exists())
        config = self.config("other", steps=2)
        self.finish(self.start(config, "--seed", "2", "--no-report"), config)
        self.assertEqual(self.summary("other")["seed"], 2)
        self.assertNotEqual(self.summary("other")["weights_sha256"], Mesh.clean["weights_sha256"])

    def test_4_kill_9_of_each_process_loses_nothing(self):
        self.clean_run()
        config = self.config("killed")
        process = self.start(config)
        victims = ("meta_reward_server", "actor-0", "policy_learner", "reward_server", "orchestrator")
        for number, name in enumerate(victims):
            self.await_step(process, config, ARGS.first_kill + 6 * number)
            os.kill(self.processes("killed")[name]["pid"], signal.SIGKILL)
            # Steps do not need the meta-reward server: without the learner
            # held, a fast machine ends the run before it is back.
            learner = self.processes("killed")["policy_learner"]["pid"] if name == "meta_reward_server" else None
            if learner:
                os.kill(learner, signal.SIGSTOP)
            deadline = time.monotonic() + 30
            while f"{name} was started again" not in self.output(config) and time.monotonic() < deadline:
                time.sleep(0.01)
            if learner:
                os.kill(learner, signal.SIGCONT)
        self.finish(process, config)
        summary = self.summary("killed")
        self.assertEqual(summary["restarts"], len(victims), self.output(config))
        self.check_exactly_once("killed")
        self.assertEqual(summary["weights_sha256"], Mesh.clean["weights_sha256"])

    def test_4_a_rank_of_the_learner_that_dies_or_stops_loses_nothing(self):
        steps = 12
        ranks = ("--no-report", "--set", "learner.ranks=2")
        config = self.config("two-ranks", steps=steps)
        self.finish(self.start(config, *ranks), config)
        self.check_exactly_once("two-ranks", steps)
        # The sums are in another order than one rank's, the rollouts soon others.
        self.assertRegex(self.summary("two-ranks")["weights_sha256"], "^[0-9a-f]{64}$")
        config = self.config("lost-rank", steps=steps)
        process = self.start(config, *ranks)
        # The one that stops comes first: all ranks are connected, so that rank 0
        # can only find out in a step. One that dies takes rank 0 with it at once.
        for number, blow in enumerate((signal.SIGSTOP, signal.SIGKILL)):
            self.await_step(process, config, 2 + 2 * number)
            os.kill(self.processes("lost-rank")["learner-rank-1"]["pid"], blow)
            began = time.monotonic()
            again = "learner-rank-1 was started again"
            while self.output(config).count(again) <= number and time.monotonic() < began + 60:
                time.sleep(0.05)
            seconds = time.monotonic() - began
            print(f"{blow.name} of rank 1: started again after {seconds:.1f} s", file=sys.stderr)
            self.assertLess(seconds, 30, self.output(config))
        self.finish(process, config)
        log = (self.root / "lost-rank" / "logs" / "policy_learner.log").read_text(encoding="utf-8")
        self.assertRegex(log, "training stopped.* on rank 0: rank 1 ")
        self.check_exactly_once("lost-rank", steps)
        self.assertEqual(self.summary("lost-rank")["restarts"], 4)
        self.assertEqual(self.summary("lost-rank")["weights_sha256"], self.summary("two-ranks")["weights_sha256"])
        # A run may go on with another number of ranks.
        config = self.config("fewer-ranks", steps=steps)
        process = self.start(config, *ranks)
        self.await_step(process, config, 3)
        process.send_signal(signal.SIGINT)
        self.finish(process, config)
        self.finish(self.start(config, "--no-report"), config)
        self.check_exactly_once("fewer-ranks", steps)

    def test_4_kill_9_of_the_learner_at_random_moments(self):
        if ARGS.random_kills == 0:
            self.skipTest("a measurement: --random-kills N")
        config = self.config("steady", steps=12)
        process = self.start(config, "--no-report")
        self.await_pid(process, config)
        began = time.monotonic()
        while process.poll() is None and "step 12/12" not in self.output(config):
            time.sleep(0.01)
        length = time.monotonic() - began
        self.finish(process, config)
        dice = random.Random(11)
        equal = runs = struck = 0
        while struck < ARGS.random_kills:
            runs += 1
            config = self.config(f"struck-{runs}", steps=12)
            process = self.start(config, "--no-report")
            pid = self.await_pid(process, config)
            time.sleep(dice.uniform(0, length))
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # It had ended by itself; the run does not count.
            self.finish(process, config)
            if self.summary(config.stem)["restarts"] == 0:
                continue
            struck += 1
            equal += self.summary(config.stem)["weights_sha256"] == self.summary("steady")["weights_sha256"]
        print(f"learner killed at a random moment in {struck} runs of 12 steps (within {length:.1f} s), {equal} of them "
              "end with the weights of the undisturbed run", file=sys.stderr)
        self.assertEqual(equal, struck)

    def await_pid(self, process, config):
        """Waits until the learner runs; its process."""
        while process.poll() is None:
            pid = self.processes(config.stem).get("policy_learner", {}).get("pid")
            if pid:
                return pid
            time.sleep(0.01)
        self.fail("the run ended at once\n" + self.output(config))

    def test_5_ctrl_c_stops_in_order_and_the_same_command_goes_on(self):
        self.clean_run()
        config = self.config("resumed")
        process = self.start(config)
        self.await_step(process, config, 10)
        pids = [entry["pid"] for entry in self.processes("resumed").values()]
        process.send_signal(signal.SIGINT)
        self.finish(process, config)
        self.assertIn("To go on: mpo train", self.output(config))
        for pid in pids:
            with self.assertRaises(ProcessLookupError):
                os.kill(pid, 0)
        self.assertLess(self.summary("resumed")["steps"], STEPS)
        self.finish(self.start(config), config)
        self.check_exactly_once("resumed")
        self.assertEqual(self.summary("resumed")["weights_sha256"], Mesh.clean["weights_sha256"])
        self.assertEqual(self.summary("resumed")["restarts"], 0)

    def test_6_kill_9_of_mpo_takes_its_processes_along(self):
        config = self.config("orphans")
        process = self.start(config)
        self.await_step(process, config, 1)
        pids = [entry["pid"] for entry in self.processes("orphans").values()]
        second = self.mpo("train", config, code=2)
        self.assertIn("another mpo train", second.stderr)
        process.kill()
        process.wait()
        deadline = time.monotonic() + 10
        while any(pathlib.Path(f"/proc/{pid}/cmdline").exists() and
                  pathlib.Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids):
            self.assertLess(time.monotonic(), deadline, "a service outlived mpo train")
            time.sleep(0.05)

    def expect_refusal(self, config, *patterns, arguments=()):
        done = self.mpo("train", config, *arguments, code=2)
        self.assertEqual(len(done.stderr.strip().splitlines()), 1, done.stderr)
        for pattern in patterns:
            self.assertRegex(done.stderr, pattern)

    def test_7_bad_input_is_one_clear_line_and_exit_code_2(self):
        config = self.config("bad")
        config.write_text(config.read_text() + "surprise: 1\n")
        self.expect_refusal(config, "surprise", r"bad\.yaml:\d+")
        self.expect_refusal(self.config("bad", model=self.root / "nowhere"), "policy.model", "nowhere")
        rubric = self.root / "empty.yaml"
        rubric.write_text("id: essay\nscope: global\naggregation: raw_sum\nscale: by_maximum\ncriteria: []\n")
        self.expect_refusal(self.config("bad", rubric=rubric), "reward.rubric", "criteri")
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            address = "127.0.0.1:%d" % taken.getsockname()[1]
            self.expect_refusal(self.config("bad", mesh=f", orchestrator: '{address}'"), "mesh.orchestrator",
                                re.escape(address))
        self.expect_refusal(self.root / "missing.yaml", "missing.yaml")
        self.expect_refusal(self.config("bad"), "learner.epochs", arguments=("--set", "learner.epochs=0"))
        self.clean_run()
        self.expect_refusal(self.root / "clean.yaml", "configuration", "--dir", arguments=("--set", "learner.epochs=2"))

    def test_8_an_unreachable_judge_is_refused_before_the_run(self):
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            url = "http://127.0.0.1:%d/v1" % closed.getsockname()[1]
        self.expect_refusal(self.config("judgeless"), "reward.judge", re.escape(url), "is the judge running",
                            arguments=("--set", f"reward.judge={url}"))

    def test_8_a_judge_that_goes_away_ends_in_a_drained_stop(self):
        judge = FaultyJudge(patience=0.5, dies_after=10)
        self.addCleanup(judge.shutdown)
        config = self.config("widowed")
        process = self.start(config, "--set", f"reward.judge={judge.url}", "--set", "reward.http.attempts=1",
                             "--set", "reward.http.timeout=1", "--no-report")
        self.finish(process, config, code=1)
        self.assertIn("paused itself", self.output(config))

    def test_8_no_score_comes_from_a_failed_call_of_the_judge(self):
        judge = FaultyJudge(patience=0.5)
        self.addCleanup(judge.shutdown)
        config = self.config("faulty")
        self.finish(self.start(config, "--no-report", "--set", f"reward.judge={judge.url}",
                               "--set", "reward.http.attempts=2", "--set", "reward.http.timeout=0.5",
                               "--set", "reward.http.backoff=0.01", "--set", "reward.max_unscorable=1",
                               "--set", "reward.monitor_initial=false", "--set", "meta.every=0",
                               "--set", "evaluation.every=0"), config)
        samples = [json.loads(line) for line in (self.root / "faulty" / "samples.jsonl").read_text().splitlines()]
        used = []
        for sample in samples:
            verdict = sample["verdict"]
            if not verdict["scored"]:
                self.assertIn(verdict["reason"], ("judge_unavailable", "judge_timeout", "parse_error",
                                                  "missing_criterion", "out_of_range"))
                continue
            criteria = {one["id"]: one for one in verdict["criteria"]}
            call = int(re.fullmatch(r"call (\d+)", criteria["long"]["rationale"])[1])
            self.assertEqual(criteria["long"]["score"], judge.good[call])
            used.append(call)
        self.assertEqual(len(samples), STEPS * 8)
        self.assertEqual(len(used), len(set(used)))
        self.assertGreater(min(judge.failed[kind] for kind in ("500", "garbage", "silence")), 0, judge.failed)
        summary = self.summary("faulty")
        self.assertEqual(summary["samples"]["unscorable"], len(samples) - len(used))
        self.assertGreater(summary["samples"]["unscorable"], 0)
        self.check_exactly_once("faulty")
        print(f"faulty judge: {judge.calls} calls, failed {dict(judge.failed)}, {len(used)} samples scored, "
              f"{len(samples) - len(used)} unscorable, 0 scores from failed calls", file=sys.stderr)

    def test_9_a_replay_of_the_rollouts_gives_the_weights_of_the_run(self):
        self.clean_run()
        clean = self.root / "clean"
        committed = [json.loads(line) for line in (clean / "metrics.jsonl").read_text().splitlines()]
        expected = {line["step"]: line["weights_sha256"] for line in committed}

        def replay(output, *arguments):
            done = self.mpo("replay", self.root / "clean.yaml", "--rollouts", clean / "rollouts", "--output", output,
                            "--json", *arguments)
            steps = [json.loads(line) for line in done.stdout.splitlines()]
            return {step["step"]: step["weights_sha256"] for step in steps}

        self.assertEqual(replay(self.root / "replay", "--last-step", 5), {s: expected[s] for s in range(1, 6)})
        self.assertTrue((self.root / "replay" / "step_5" / "adapter_model.safetensors").exists())
        last = replay(self.root / "replay-last", "--checkpoint", clean / "checkpoints" / f"step_{STEPS - 1}")
        self.assertEqual(last, {STEPS: expected[STEPS]})
        done = self.mpo("replay", self.root / "clean.yaml", "--rollouts", clean / "rollouts", "--output",
                        self.root / "replay", code=2)
        self.assertIn("expected an empty folder", done.stderr)
        (self.root / "bad.jsonl").write_text('{"step": 1}\n')
        done = self.mpo("replay", self.root / "clean.yaml", "--rollouts", self.root / "bad.jsonl", "--output",
                        self.root / "replay-bad", code=2)
        self.assertIn("bad.jsonl:1: sample_key: is missing", done.stderr)

    def test_9_trunks_from_actors_give_the_same_weights_each_time(self):
        digests = set()
        for name in ("trunks", "trunks-again"):
            config = self.config(name, steps=3)
            self.finish(self.start(config, "--no-report", "--set", "learner.trunks_from_actors=true"), config)
            summary = self.summary(name)
            self.assertEqual(summary["samples"]["committed"], 3 * 8)
            digests.add(summary["weights_sha256"])
        self.assertEqual(len(digests), 1)

    def test_9_generate_and_tokenize(self):
        prompts = self.root / "prompts.jsonl"
        prompts.write_text('{"id": "a", "prompt": "Hello"}\n'
                           '{"id": "b", "messages": [{"role": "user", "content": "Hi"}]}\n'
                           '{"id": "c", "tokens": [72, 105]}\n')
        output = self.root / "generated.jsonl"
        common = ("generate", "--model", self.model, "--prompts", prompts, "--output", output)
        done = self.mpo(*common, "--max-new-tokens", 8, "--ignore-eos", "--logprobs", "--seed", 3, "--json")
        report = json.loads(done.stdout)
        self.assertEqual(report["generated_tokens"], 24)
        self.assertGreater(report["peak_rss_bytes"], 1 << 20)
        lines = [json.loads(line) for line in output.read_text().splitlines()]
        self.assertEqual([line["id"] for line in lines], ["a", "b", "c"])
        for line in lines:
            self.assertEqual(len(line["tokens"]), 8)
            self.assertEqual(len(line["logprobs"]), 8)
            self.assertEqual(len(line["untempered_logprobs"]), 8)
            self.assertEqual(line["finish_reason"], "length")
        prompts.write_text(json.dumps({"id": "long", "prompt": "x" * 600}) + "\n"
                           + json.dumps({"id": "short", "prompt": "x"}) + "\n")
        failed = self.mpo(*common, "--max-new-tokens", 4, "--ignore-eos", "--kv-cache-mib", 64, code=2)
        self.assertRegex(failed.stderr, "1 of 2 samples failed.*'long'.*600.*512")
        lines = [json.loads(line) for line in output.read_text().splitlines()]
        self.assertRegex(lines[0]["error"], "600")
        self.assertEqual(lines[0]["finish_reason"], "failed")
        self.assertNotIn("error", lines[1])
        self.assertEqual(len(lines[1]["tokens"]), 4)
        self.assertRegex(self.mpo(*common, "--temperature", "1e-40", code=2).stderr, "temperature")
        done = subprocess.run([ARGS.bin / "mpo", "tokenize", "--model", self.model], capture_output=True, text=True,
                              input='{"text": "Hi"}\n{"ids": [72, 105]}\n', timeout=60)
        self.assertEqual(done.stdout, '{"ids":[72,105]}\n{"text":"Hi"}\n', done.stderr)
        self.mpo("generate", code=2)
        self.mpo("nonsense", code=2)
        self.mpo("--help")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", type=pathlib.Path, required=True)
    parser.add_argument("--tools", type=pathlib.Path, required=True)
    parser.add_argument("--source", type=pathlib.Path, required=True)
    parser.add_argument("--keep", action="store_true", help="keep the run directories")
    parser.add_argument("--first-kill", type=int, default=2, help="step after which the first process is killed")
    parser.add_argument("--random-kills", type=int, default=0, help="runs whose learner is killed at a random moment")
    ARGS, rest = parser.parse_known_args()
    unittest.main(argv=[sys.argv[0], "-v", *rest])
