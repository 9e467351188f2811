"""Ray as a cluster: its tasks, its nodes, and what its exceptions mean.

What is done stands elsewhere: a task calls one function of ours, and `dispatch.py` says which task
is started when. Ray's own retries are off: it keeps no task from a node, and does not count what
failed by whose fault.
"""

import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

import ray
from ray import cloudpickle
from ray import exceptions as ray_errors
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from reference import HParams
from reference.progress import say

from ..batch_size import process_bytes
from ..errors import ClusterError, StopError, TaskError
from ..messages import cut, printable
from . import shipped
from .tasks import Attempt, Begun, Ended, Failure, Fault

CPUS_PER_TASK = 4  # where nothing is asked for, and no node is there to be looked at
TELL_S = 2.0  # how often a task says how far it is
TOLD_PER_S = 500  # by all tasks together, at most
LOOK_S = 1.0  # how often to look which nodes there are, and how far tasks are
LOOK_AGAIN_S = 2.0  # for a look at once, after a failure
CANCEL_S = 10.0  # for tasks to put away what they began
NODE_DIGITS = 8  # of an id, in names
NAMED_NODES = 5
GONE = (
    ray_errors.NodeDiedError,
    ray_errors.TaskUnschedulableError,
    ray_errors.ObjectLostError,
    ray_errors.LocalRayletDiedError,
)

TaskFunction = Callable[[Any, Any, shipped.Here], Any]

cloudpickle.register_pickle_by_value(shipped)


def good_cpus_per_task(hparams: HParams, dtype: str, memory_bytes: int | None) -> int:
    """CPUs of a task: one, or as many as leave each process the memory that it needs.

    As many processes as there are cores do more than fewer ones with more threads: docs/scale.md.
    """
    needed = memory_bytes or process_bytes(hparams, dtype)
    found = []
    for node in _live_nodes():
        if cpus := int(node["Resources"].get("CPU", 0)):
            n_fit = max(int(node["Resources"].get("memory", 0)) // needed, 1)
            found.append(-(-cpus // n_fit))
    return max(found, default=CPUS_PER_TASK)


def slots_now(cpus_per_task: int, memory_bytes: int | None) -> dict[str, int]:
    """The nodes that are there now, by id: how many tasks each can run at a time."""
    return {node["NodeID"]: _slots(node, cpus_per_task, memory_bytes) for node in _live_nodes()}


def _slots(node: Mapping[str, Any], cpus_per_task: int, memory_bytes: int | None) -> int:
    n_slots = int(node["Resources"].get("CPU", 0)) // cpus_per_task
    if memory_bytes is None:
        return n_slots
    return min(n_slots, int(node["Resources"].get("memory", 0)) // memory_bytes)


class RayCluster:
    """Runs one function on Ray's nodes, as `Cluster` wants it.

    Parameters
    ----------
    function : callable
        Called in a process of a node with the payload, a task's arguments, and what the task knows
        of where it runs, which it tells how far it is. What it raises says by its `fault` whose it
        is, as `TaskError` does.
    payload : object
        What all tasks need; sent once.
    arguments : callable
        Those of a task, by its number.
    cpus_per_task : int
        CPUs of a task.
    memory_bytes : int, optional
        That a task may take: no node is given more than it has memory for.

    Attributes
    ----------
    most_nodes, most_slots : int
        Nodes that were there at a time, and tasks that could run.
    """

    def __init__(
        self,
        function: TaskFunction,
        payload: Any,
        arguments: Callable[[int], Any],
        cpus_per_task: int,
        memory_bytes: int | None = None,
    ) -> None:
        self._arguments = arguments
        self._cpus, self._memory = cpus_per_task, memory_bytes
        self._shared = ray.put(cloudpickle.dumps((function, payload)))
        self._versions = shipped.installed()
        needed: dict[str, Any] = {"num_cpus": self._cpus, "max_retries": 0}
        if memory_bytes is not None:
            needed["memory"] = memory_bytes
        remote: Any = ray.remote  # with more kinds of use than its types can tell
        self._remote = remote(**needed)(shipped.run_task)
        self._tally = _tally()
        self._reading: Any = None  # what it was asked last
        self._refs: dict[Attempt, Any] = {}
        self._told_last: list[Attempt] = []  # those that ended
        self._cancelled: list[Any] = []
        self._ended: set[Attempt] = set()  # since the tally was read
        self._begun: dict[Attempt, Begun] = {}
        self._told: dict[Attempt, Any] = {}
        self._traces: set[str] = set()  # that were said
        self._looked_s = 0.0
        self._nodes: dict[str, int] = {}
        self._names: dict[str, str] = {}  # of all nodes that were ever seen, by id
        self._ids: dict[str, str] = {}
        self.most_nodes = self.most_slots = 0
        self._look()

    def now_s(self) -> float:
        return time.monotonic()

    def nodes(self) -> Mapping[str, int]:
        return self._nodes

    def begun(self) -> Mapping[Attempt, Begun]:
        return self._begun

    def told(self) -> Mapping[Attempt, Any]:
        """How far the attempts are that run."""
        return self._told

    def start(self, attempt: Attempt, avoided: Collection[str]) -> None:
        remote = self._remote
        if ids := [self._ids[name] for name in avoided if name in self._ids]:
            selector = {"ray.io/node-id": f"!in({','.join(sorted(ids))})"}
            remote = remote.options(label_selector=selector)
        self._refs[attempt] = remote.remote(
            self._cpus,
            self._versions,
            self._shared.hex(),
            self._shared,
            cloudpickle.dumps(self._arguments(attempt.task)),
            (attempt.task, attempt.number),
            self._tally,
            max(TELL_S, self.most_slots / TOLD_PER_S),
        )

    def wait(self, most_s: float) -> list[Ended]:
        for attempt in self._told_last:  # it is asked for no more
            self._begun.pop(attempt, None)
        self._told_last = []
        attempts = {ref: attempt for attempt, ref in self._refs.items()}
        ready: list[Any] = []
        if attempts:
            ready, _ = ray.wait(list(attempts), num_returns=1, timeout=most_s)
            if ready:  # and whatever else is
                ready, _ = ray.wait(list(attempts), num_returns=len(attempts), timeout=0)
        else:
            time.sleep(most_s)
        if time.monotonic() - self._looked_s >= LOOK_S:
            self._look()
        return [self._end(attempts[ref], ref) for ref in ready]

    def cancel(self, attempt: Attempt) -> None:
        if attempt not in self._refs:  # it has just ended
            return
        ref = self._drop(attempt)
        self._begun.pop(attempt, None)
        self._cancelled.append(ref)
        # Not by `ray.cancel`: a task that ends at that very moment makes Ray 2.60 abort the driver
        # ("Tried to complete task that was not pending").
        self._tally.drop.remote((attempt.task, attempt.number))

    def look_for_room(self, *, grows: bool) -> None:
        """See that there is a node for a task; where nodes may come, say what is waited for.

        Raises
        ------
        ClusterError
            Where there is none, and none will come.
        """
        if self._nodes:
            return
        of_task = f"{self._cpus} CPUs" + (f" and {_gib(self._memory)}" if self._memory else "")
        there = [
            f"{node['NodeManagerAddress']} with {node['Resources'].get('CPU', 0):.0f} CPUs and "
            f"{_gib(node['Resources'].get('memory', 0))}"
            for node in _live_nodes()[:NAMED_NODES]
        ]
        told = f"no node has room for a task of {of_task}; there are {', '.join(there) or 'none'}"
        if not grows:
            raise ClusterError(
                f"{told}. Ask for less with --cpus-per-task and --memory, or name a larger cluster "
                "with --ray-address."
            )
        say(printable(f"{told}; waiting for others"))

    def settle(self) -> None:
        """Wait until what was cancelled is over: nothing of it may be written any more."""
        left = self._cancelled
        self._cancelled = []
        if left:
            _, left = ray.wait(left, num_returns=len(left), timeout=CANCEL_S)
        for ref in left:
            ray.cancel(ref, force=True)
        if left:
            ray.wait(left, num_returns=len(left), timeout=CANCEL_S)

    def _drop(self, attempt: Attempt) -> Any:
        self._told.pop(attempt, None)
        self._ended.add(attempt)
        return self._refs.pop(attempt)

    def _end(self, attempt: Attempt, ref: Any) -> Ended:
        self._told_last.append(attempt)
        try:
            fault, found, node_id, took_s = ray.get(ref)
        except ray_errors.RayError as e:
            self._look(at_once=True)  # it may have begun a moment ago
            return Ended(attempt, failure=self._failure(attempt, e))
        finally:
            self._drop(attempt)
        if node_id not in self._names:  # it came a moment ago
            self._look()
        node = self._names.get(node_id, node_id)
        self._begun[attempt] = Begun(node, self.now_s() - took_s)
        if fault is None:
            return Ended(attempt, found)
        said, _, trace = str(found).partition("\n")
        if trace:
            said = cut(said)
            if trace not in self._traces:  # of thousands of tasks it may be the same
                self._traces.add(trace)
                say(printable(f"node {node}: a fault of the program:\n{trace}"))
        kind = StopError if fault == Fault.JOB.value else TaskError
        return Ended(attempt, failure=Failure(Fault(fault), node, kind(said)))

    def _failure(self, attempt: Attempt, error: Exception) -> Failure:
        """What Ray says of a task that did not end by itself."""
        node = self._begun[attempt].node if attempt in self._begun else ""
        if isinstance(error, GONE):
            return Failure(Fault.LOST, node, TaskError("the node went away"))
        if isinstance(error, ray_errors.OutOfMemoryError):
            told = "the node had no memory left; pass --memory, or more --cpus-per-task"
        elif isinstance(error, ray_errors.WorkerCrashedError):
            told = "the process ended without a word: it was killed, or had no memory left"
        else:
            told = _in_one_line(error)
        return Failure(Fault.TASK, node, TaskError(told))

    def _look(self, *, at_once: bool = False) -> None:
        """See which nodes there are, and what tasks said, as soon as the tally tells it."""
        self._looked_s = time.monotonic()
        self._nodes = {}
        for node in _live_nodes():
            name = f"{node['NodeManagerAddress']} ({node['NodeID'][:NODE_DIGITS]})"
            self._names[node["NodeID"]] = name
            self._ids[name] = node["NodeID"]
            if n_slots := _slots(node, self._cpus, self._memory):
                self._nodes[name] = n_slots
        self.most_nodes = max(self.most_nodes, len(self._nodes))
        self.most_slots = max(self.most_slots, sum(self._nodes.values()))
        if self._reading is None or at_once:
            ended, self._ended = self._ended, set()
            self._reading = self._tally.read.remote([tuple(attempt) for attempt in ended])
        ready, _ = ray.wait([self._reading], timeout=LOOK_AGAIN_S if at_once else 0)
        if not ready:
            return
        try:
            told = ray.get(ready[0])
        except ray_errors.RayError:  # its node went away: it begins anew elsewhere
            told = {}
        self._reading = None
        for key, (node_id, found) in told.items():
            if (attempt := Attempt(*key)) in self._refs:
                name = self._names.get(node_id, node_id)
                self._begun.setdefault(attempt, Begun(name, self.now_s()))
                if found is not None:
                    self._told[attempt] = found


def _tally() -> Any:
    """An actor on this node, or on another one where this has gone."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    options = {"num_cpus": 0, "max_restarts": -1, "scheduling_strategy": here}
    return ray.remote(shipped.Tally).options(**options).remote()


def _live_nodes() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _gib(n_bytes: float) -> str:
    return f"{n_bytes / 2**30:.1f} GiB"


def _in_one_line(error: BaseException) -> str:
    return cut(" ".join(str(error).split()) or repr(error))
