"""Commands in children that can be killed at any time."""

import json
import os
import select
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.faults.server import BUG

ROOT = Path(__file__).parents[2]
TOO_LONG_S = 120


@dataclass
class Outcome:
    """How a command ended.

    Attributes
    ----------
    code : int
        Its exit code; a negative one is the signal that ended it.
    said : str
        What it wrote to stderr and stdout.
    """

    code: int
    said: str


class Child:
    """A command that runs."""

    def __init__(self, pid, stderr, reap, *, dies=False):
        self.pid, self._stderr, self._reap, self._dies = pid, stderr, reap, dies
        self._handle = os.pidfd_open(pid)

    def runs_after(self, seconds):
        """Wait so long; whether it is still there then."""
        return not select.select([self._handle], [], [], max(seconds, 0))[0]

    def signal(self, number):
        signal.pidfd_send_signal(self._handle, number)

    def kill_after(self, seconds):
        """Kill it by SIGKILL, unless it ends before; returns how it ended."""
        if self.runs_after(seconds):
            self.signal(signal.SIGKILL)
        return self.outcome()

    def outcome(self):
        if self.runs_after(TOO_LONG_S):
            self.signal(signal.SIGKILL)
            raise TimeoutError(Path(self._stderr).read_text("utf-8"))
        os.close(self._handle)
        code = self._reap()
        said = Path(self._stderr).read_text("utf-8", "replace")
        assert code != BUG or self._dies, said
        return Outcome(code, said)


class Server:
    """The fork server of one test process."""

    def __init__(self, scratch, environment):
        self.scratch = scratch
        self._n = 0
        self._environment = os.environ | environment
        command = [sys.executable, "-W", "ignore", "-m", "tests.faults.server"]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env=self._environment,
            text=True,
        )

    def _ask(self, **asked):
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def start(self, args, cwd, *, dies=False, **plan):
        """Run `runner` with some arguments, in a fork; one that `dies` may end by a traceback."""
        self._n += 1
        plan = {"stderr": str(self.scratch / f"said-{self._n % 64}")} | plan
        pid = self._ask(args=list(map(str, args)), cwd=str(cwd), plan=plan)

        def reap():
            return os.waitstatus_to_exitcode(self._ask(wait=pid))

        return Child(pid, plan["stderr"], reap, dies=dies)

    def run(self, args, cwd, **plan):
        return self.start(args, cwd, **plan).outcome()

    def start_process(self, args, cwd):
        """Run `runner` as a user does."""
        self._n += 1
        said = self.scratch / f"said-{self._n % 64}"
        with said.open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "runner.cli", *map(str, args)],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                cwd=cwd,
                env=self._environment | {"PYTHONPATH": str(ROOT)},
            )
        return Child(process.pid, said, process.wait)

    def close(self):
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(timeout=10)
