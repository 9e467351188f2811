"""A process that has imported everything and forks a child for each command: starts cost nothing.

One JSON object a line: `{"args": [...], "cwd": ..., "plan": {...}}` starts a command and is
answered by its process id, `{"wait": pid}` by how it ended.
"""

import ctypes
import json
import os
import resource
import sys
import traceback
from pathlib import Path

import onnxruntime  # noqa: F401 - so that no child has to
import pyarrow.parquet  # noqa: F401

from runner.cli import cli
from tests.faults.instants import Instants, log_work

# Exit codes of ours: what is no message for the user, and two ways to end in the middle.
BUG, INTERRUPTED, OUT_OF_MEMORY = 70, 71, 72


def main():
    for line in sys.stdin:
        asked = json.loads(line)
        if "wait" in asked:
            answer = os.waitpid(asked["wait"], 0)[1]
        elif pid := os.fork():
            answer = pid
        else:
            try:
                child(**asked)
            finally:  # a second signal may come at any time
                os._exit(INTERRUPTED)
        sys.stdout.write(f"{json.dumps(answer)}\n")
        sys.stdout.flush()


def child(args, cwd, plan):
    code = BUG
    try:
        try:
            prepare(cwd, plan)
            cli(args, prog_name="runner")
        except SystemExit as e:
            code = e.code or 0
    except (SystemExit, KeyboardInterrupt):
        code = INTERRUPTED  # by a signal that came between the command's end and here
    except MemoryError:
        code = OUT_OF_MEMORY
    except BaseException:  # noqa: BLE001 - all of them are bugs
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def prepare(cwd, plan):
    os.chdir(cwd)
    os.environ.update(plan.get("env", {}))
    said = os.open(plan["stderr"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    nothing = os.open(os.devnull, os.O_RDWR)
    for old, new in ((0, nothing), (1, said), (2, said)):
        os.dup2(new, old)
    if "work" in plan:
        log_work(plan["work"])
    if "instants" in plan:
        Instants(Path(cwd).resolve(), **plan["instants"]).install()
    if plan.get("bound"):
        give_up_privileges()
    for name, most in plan.get("limits", {}).items():
        resource.setrlimit(getattr(resource, name), (most, most))


def give_up_privileges():
    """Be bound by permissions, whoever this is: Linux binds a root without capabilities too."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # the version of the call, this process
    if ctypes.CDLL(None, use_errno=True).capset(header, (ctypes.c_uint32 * 6)()):
        raise OSError(ctypes.get_errno(), "capset")


if __name__ == "__main__":
    main()
