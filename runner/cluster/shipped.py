"""What runs on a node before it is known that our packages are there, as they are here.

It is sent by value, so it takes nothing from them: a node without them, or with others, says so.

No task waits by `ray.get` or `ray.wait`: Ray gives the CPUs of one that does to another, and the
node then runs more than it has room for.
"""

import time
import traceback
from collections.abc import Callable, Collection, Mapping
from importlib import metadata
from typing import Any

VERSIONED = ("picobatch", "onnxruntime", "numpy", "pyarrow")  # that a node must have as we have
TOLD_S = 5.0  # for the tally to hear that a task began
TASK, LOST, NODE, JOB = "task", "lost", "node", "job"  # whose fault, as in `Fault`

Attempt = tuple[int, int]
Told = tuple[str, Any]  # where a task runs, and how far it is
_loaded: dict[str, Any] = {}  # of this process: what was sent to it, by its id, and its CPUs


def installed() -> dict[str, str]:
    """The versions that a job's bits and files follow from."""
    found = {}
    for name in VERSIONED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


class UnwantedError(Exception):
    """The driver has no use for a task any more."""

    fault = LOST


class Here:
    """What a task knows of where it runs.

    Attributes
    ----------
    share : float
        Of the node's CPUs, and so of its memory, that is the task's.
    """

    def __init__(
        self, attempt: Attempt, node_id: str, share: float, tally: Any, tell_s: float
    ) -> None:
        self.share = share
        self._answer = tally.tell.remote(attempt, (node_id, None)).future()
        self._tell_s = tell_s
        self._attempt = attempt
        self._node_id = node_id
        self._tally = tally
        self._told_s = time.monotonic()

    def tell(self, found: Callable[[], Any]) -> None:
        """Say how far the task is; asked for only now and then.

        Raises
        ------
        UnwantedError
            Where the driver has no use for it any more.
        """
        if (now_s := time.monotonic()) - self._told_s >= self._tell_s:
            self._told_s = now_s
            self.see_that_it_is_wanted()
            told = (self._node_id, found())
            self._answer = self._tally.tell.remote(self._attempt, told).future()

    def see_that_it_is_wanted(self, wait_s: float = 0) -> None:
        """Hear what was answered to the last word."""
        import ray  # noqa: PLC0415 - here only its types would be known

        try:
            is_wanted = self._answer.result(wait_s)
        except (TimeoutError, ray.exceptions.RayError):  # not yet, or nobody is there to tell
            return
        if not is_wanted:
            raise UnwantedError("it is of no use any more")


def run_task(
    cpus: int,
    wanted: Mapping[str, str],
    name: str,
    shared: bytes,
    own: bytes,
    attempt: Attempt,
    tally: Any,
    tell_s: float,
) -> tuple[str | None, Any, str, float]:
    """Run a task: whose fault it is that it has no result, that or the result, where, how long.

    Errors are values, since not every exception can be sent.

    Parameters
    ----------
    cpus : int
        That are the task's.
    wanted : mapping of str to str
        The driver's `installed()`.
    name : str
        Of what is shared.
    shared, own : bytes
        A function with what all its tasks need, and this task's arguments, as Ray would write
        them: it leaves bytes for us to read, and to say what hinders that.
    attempt : tuple of int
        Which start of which task.
    tally : actor
        A `Tally`.
    tell_s : float
        How often it is told how far the task is.
    """
    import ray  # noqa: PLC0415 - here only its types would be known

    start_s = time.monotonic()
    node_id = ray.get_runtime_context().get_node_id()
    if "cpus" not in _loaded:
        of_node = [n["Resources"] for n in ray.nodes() if n["NodeID"] == node_id and n["Alive"]]
        _loaded["cpus"] = max([cpus, *(found.get("CPU", 0) for found in of_node)])
    here = Here(attempt, node_id, cpus / _loaded["cpus"], tally, tell_s)

    def ended(fault: str | None, found: Any) -> tuple[str | None, Any, str, float]:
        return fault, found, node_id, time.monotonic() - start_s

    if (found := installed()) != wanted:
        other = [name for name in wanted if found[name] != wanted[name]]
        differ = "; ".join(f"{n} is {found[n]}, with the driver {wanted[n]}" for n in other)
        return ended(NODE, f"{differ}; expected the same on all nodes. Install the driver's there.")
    try:
        if name not in _loaded:
            _loaded[name] = ray.cloudpickle.loads(shared)
        function, payload = _loaded[name]
        argument = ray.cloudpickle.loads(own)
    except Exception as e:  # noqa: BLE001 - whatever its packages lack
        return ended(NODE, f"cannot load picobatch: {e!r}; expected it as it is on the driver.")
    try:
        here.see_that_it_is_wanted(TOLD_S)  # and known where it is, should this process die of it
        return ended(None, function(payload, argument, here))
    except Exception as e:  # noqa: BLE001 - told with all that is known
        if (fault := getattr(e, "fault", None)) is None:
            return ended(TASK, f"{e!r}\n{traceback.format_exc()}")
        return ended(fault, str(e))


class Tally:
    """An actor: what the tasks that run said last, and which are of no use any more."""

    def __init__(self) -> None:
        self._told: dict[Attempt, Told] = {}
        self._unwanted: set[Attempt] = set()

    def tell(self, attempt: Attempt, told: Told) -> bool:
        """Hear of a task; returns whether it is wanted."""
        if attempt in self._unwanted:
            return False
        self._told[attempt] = told
        return True

    def drop(self, attempt: Attempt) -> None:
        """Let a task end when it is heard of next."""
        self._unwanted.add(attempt)
        self._told.pop(attempt, None)

    def read(self, ended: Collection[Attempt]) -> dict[Attempt, Told]:
        """All of it, but for attempts that ended."""
        for attempt in ended:
            self._told.pop(attempt, None)
        return self._told
