"""What runs on a node before it is known that our packages are there, as they are here.

It is sent by value, so it takes nothing from them: a node without them, or with others, says so.
"""

import pickle
import time
import traceback
from collections.abc import Callable, Collection, Mapping
from importlib import metadata
from typing import Any

TELL_S = 2.0  # how often a task says how far it is
VERSIONED = ("picobatch", "onnxruntime", "numpy", "pyarrow")  # that a node must have as we have
TASK, NODE, JOB = "task", "node", "job"  # whose fault, as in `Fault`

Attempt = tuple[int, int]
Told = tuple[str, Any]  # where a task runs, and how far it is
_loaded: dict[str, Any] = {}  # what was sent to this process, by its hash


def installed() -> dict[str, str]:
    """The versions that a job's bits and files follow from."""
    found = {}
    for name in VERSIONED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def run_task(
    wanted: Mapping[str, str],
    sent: tuple[str, bytes],
    argument: Any,
    attempt: Attempt,
    tally: Any,
) -> tuple[str | None, Any, str, float]:
    """Run a task: whose fault it is that it has no result, that or the result, where, how long.

    Errors are values, since not every exception can be sent.

    Parameters
    ----------
    wanted : mapping of str to str
        The driver's `installed()`.
    sent : tuple of str and bytes
        A function and what all its tasks need, pickled, and the hash of that.
    argument : object
        This task's.
    attempt : tuple of int
        Which start of which task.
    tally : actor
        A `Tally`.
    """
    import ray  # noqa: PLC0415 - here only its types would be known

    start_s = told_s = time.monotonic()
    node_id = ray.get_runtime_context().get_node_id()
    tally.tell.remote(attempt, (node_id, None))

    def said(found: Callable[[], Any]) -> None:
        nonlocal told_s
        if (now_s := time.monotonic()) - told_s >= TELL_S:
            told_s = now_s
            tally.tell.remote(attempt, (node_id, found()))

    def ended(fault: str | None, found: Any) -> tuple[str | None, Any, str, float]:
        return fault, found, node_id, time.monotonic() - start_s

    here = installed()
    if other := [
        f"{name} is {here[name]}, here {wanted[name]}"
        for name in wanted
        if here[name] != wanted[name]
    ]:
        told = "; ".join(other)
        return ended(NODE, f"{told}; expected the same versions on all nodes. Install those.")
    try:
        if sent[0] not in _loaded:
            _loaded.clear()
            _loaded[sent[0]] = pickle.loads(sent[1])  # noqa: S301 - from the driver
        function, payload = _loaded[sent[0]]
    except Exception as e:  # noqa: BLE001 - whatever its packages lack
        return ended(NODE, f"cannot load picobatch: {e!r}; expected it as it is on the driver.")
    try:
        return ended(None, function(payload, argument, said))
    except Exception as e:  # noqa: BLE001 - told with all that is known
        fault = getattr(e, "fault", None)
        if fault is None:
            return ended(TASK, f"{e!r}\n{traceback.format_exc()}")
        return ended(fault, str(e))


class Tally:
    """An actor: what the tasks that run said last."""

    def __init__(self) -> None:
        self._told: dict[Attempt, Told] = {}

    def tell(self, attempt: Attempt, told: Told) -> None:
        self._told[attempt] = told

    def read(self, ended: Collection[Attempt]) -> dict[Attempt, Told]:
        """All of it, but for attempts that ended."""
        for attempt in ended:
            self._told.pop(attempt, None)
        return self._told
