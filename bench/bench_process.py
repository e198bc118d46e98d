# SPDX-License-Identifier: Apache-2.0
"""Talks to our side of a benchmark: one command a line, one JSON line as the answer."""
import contextlib, json, pathlib, subprocess, sys


@contextlib.contextmanager
def bench_process(binary, *arguments):
    """Starts the program and yields ask(command)."""
    process = subprocess.Popen([str(binary), *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(command):
        process.stdin.write(f"{command}\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        if not answer:
            sys.exit(f"{pathlib.Path(binary).name} ended at '{command}'; its message is above")
        return json.loads(answer)

    yield ask
    process.stdin.close()
    process.wait()
