"""Which task is started when, on a cluster: the longest first, again where one was lost.

Nothing here knows Ray, files or models: a `Cluster` starts tasks and says how they ended. Ray is
one (`ray_cluster.py`), the simulator of `benchmarks/` is another, and both are driven by this loop.
"""

import math
import statistics
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import ClusterError
from .tasks import Attempt, Cluster, Ended, Failure, Fault

POLL_S = 0.5  # how long to wait for the end of a task before looking around
SEEK_LATE_S = 10.0  # at most between two looks for tasks that are late
PACES = 1001  # of the last tasks, that tell how long one takes
WAIT_FOR_NODES_S = 900.0  # nodes may be on their way: clusters grow where tasks wait


@dataclass(frozen=True)
class Rules:
    """How a cluster is used.

    Attributes
    ----------
    window : int
        Tasks handed in for each that can run: those that wait fill a place at once, and tell a
        cluster that can grow to do so.
    least_window : int
        The same where nothing can run yet.
    most_failures : int
        Of one task by its own fault; then it has failed for good.
    most_losses : int
        Of one task whose node went away.
    doubted_after : int
        A node on which so many tasks failed since it did one gets no more, where others can take
        them: it may be the node.
    late_s : float
        What a task may take longer than others in any case: a process that begins has a model to
        load.
    spare_after : float
        A task that runs this much longer than others of its length took is started once more, where
        nothing else is left to start. 0 never does.
    wait_for_nodes_s : float
        How long to go on without a node that can run anything.
    """

    window: int = 2
    least_window: int = 4
    most_failures: int = 3
    most_losses: int = 20
    doubted_after: int = 3
    late_s: float = 5.0
    spare_after: float = 1.5
    wait_for_nodes_s: float = WAIT_FOR_NODES_S


@dataclass
class Counts:
    """What a cluster did beside what was asked.

    Attributes
    ----------
    attempts : int
        All starts.
    failures, losses : int
        Attempts that failed by themselves or by their node, and those whose node went away.
    spares : int
        Second starts of tasks that took long.
    """

    attempts: int = 0
    failures: int = 0
    losses: int = 0
    spares: int = 0

    def add(self, other: "Counts") -> None:
        """Take in what was done for others."""
        self.attempts += other.attempts
        self.failures += other.failures
        self.losses += other.losses
        self.spares += other.spares


@dataclass(slots=True)
class _Task:
    """A task that is not done; there may be a million, of which few run and fewer fail."""

    cost: float
    running: list[Attempt] = field(default_factory=list)
    n_attempts: int = 0
    failures: list[Failure] = field(default_factory=list)
    n_losses: int = 0
    avoided: frozenset[str] = frozenset()


class Dispatch:
    """Runs tasks on a cluster until each is done, or has failed for good.

    Parameters
    ----------
    cluster : Cluster
        Where.
    costs : mapping of int to float
        The tasks, and how long each is, in any unit.
    rules : Rules
        How.

    Attributes
    ----------
    failed : dict of int to list of Failure
        Tasks that failed for good, each with all its failures.
    excluded : dict of str to Failure
        Nodes that can do nothing.
    counts : Counts
        What was done for it.
    """

    def __init__(
        self, cluster: Cluster, costs: Mapping[int, float], rules: Rules | None = None
    ) -> None:
        self._cluster = cluster
        self._rules = rules or Rules()
        self._tasks = {number: _Task(max(cost, 1e-9)) for number, cost in costs.items()}
        longest_first = sorted(self._tasks, key=lambda number: (-self._tasks[number].cost, number))
        self._waiting = deque(longest_first)
        self._n_running = 0
        self._paces: deque[float] = deque(maxlen=PACES)  # seconds for a unit of cost
        self._doubts: dict[str, set[int]] = {}  # tasks that failed on a node since it did one
        self._choosy: dict[Attempt, set[str]] = {}  # attempts for some nodes only: which they avoid
        self._nodes: dict[str, int] = {}
        self._known: set[str] = set()  # nodes that ever had room
        self._usable: dict[str, int] = {}  # those that are not excluded and have room
        self._n_slots = 0  # of them
        self._seen_nodes_s = self._seek_late_s = cluster.now_s()
        self.failed: dict[int, list[Failure]] = {}
        self.excluded: dict[str, Failure] = {}
        self.counts = Counts()

    def run(self, between: Callable[[], None] = lambda: None) -> Iterator[tuple[int, Any]]:
        """Each task that is done, and what it returned, as they end.

        Parameters
        ----------
        between : callable
            Asked several times a second; what it raises ends the run.

        Raises
        ------
        ClusterError
            Where no node is left that can do any.
        PicobatchError
            What made it impossible to do any task.
        """
        try:
            while self._tasks:
                between()
                self._look_at_nodes()
                self._start_waiting()
                self._start_spares()
                for ended in self._cluster.wait(POLL_S):
                    if self._end(ended):
                        yield ended.attempt.task, ended.result
        finally:
            for task in self._tasks.values():
                for attempt in task.running:
                    self._cluster.cancel(attempt)

    def _look_at_nodes(self) -> None:
        """See which nodes there are, and that there are some."""
        now_s, nodes = self._cluster.now_s(), self._cluster.nodes()
        if nodes != self._nodes or not self._usable.keys().isdisjoint(self.excluded):
            self._nodes = dict(nodes)
            self._known.update(node for node, n in nodes.items() if n > 0)
            usable = {node: n for node, n in nodes.items() if n > 0 and node not in self.excluded}
            if not self._usable.keys() <= usable.keys():
                self._take_back_stranded(usable)
            self._usable, self._n_slots = usable, sum(usable.values())
        if self._usable:
            self._seen_nodes_s = now_s
            return
        # One that went away may come again, or another in its place.
        if any(nodes.values()) and self._known <= self.excluded.keys():
            raise ClusterError(_said("no node of the cluster can do it", self.excluded))
        if now_s - self._seen_nodes_s > self._rules.wait_for_nodes_s:
            more = _said("; of those that were there", self.excluded) if self.excluded else ""
            raise ClusterError(
                f"the cluster had no node with room for a task for "
                f"{self._rules.wait_for_nodes_s:.0f} s{more}. Add nodes, or ask for fewer CPUs or "
                "less memory for a task, and run the same command again."
            )

    def _take_back_stranded(self, usable: Collection[str]) -> None:
        """Let what waits for nodes that are no more wait for others."""
        begun = self._cluster.begun()
        for attempt, avoided in list(self._choosy.items()):
            if avoided.issuperset(usable) and attempt not in begun:
                self._cluster.cancel(attempt)
                self._forget(attempt)
                if not self._tasks[attempt.task].running:
                    self._waiting.appendleft(attempt.task)

    def _start_waiting(self) -> None:
        if not self._waiting:
            return
        window = max(self._rules.window * self._n_slots, self._rules.least_window)
        while self._waiting and self._n_running < window:
            self._start(self._waiting.popleft())

    def _start(self, number: int, *, elsewhere: tuple[str, ...] = ()) -> None:
        task = self._tasks[number]
        avoided = self._avoided(task.avoided.union(elsewhere))
        attempt = Attempt(number, task.n_attempts)
        task.n_attempts += 1
        task.running.append(attempt)
        self._n_running += 1
        self.counts.attempts += 1
        if len(avoided) > len(self.excluded):
            self._choosy[attempt] = avoided
        self._cluster.start(attempt, avoided)

    def _avoided(self, nodes: frozenset[str]) -> set[str]:
        """Some nodes that a task is to keep off, and those that no task is to run on."""
        excluded = {*self.excluded}
        for avoided in (excluded | nodes | self._doubted(), excluded | nodes):
            if not avoided.issuperset(self._usable):
                return avoided
        return excluded  # a second try on the same node is better than none

    def _doubted(self) -> set[str]:
        """Nodes that may be at fault; none where most of the cluster would be."""
        doubted = {node for node in self._doubts if self._is_doubted(node)}
        if not doubted:
            return doubted
        slots = sum(self._usable.get(node, 0) for node in doubted)
        return doubted if 2 * slots <= self._n_slots else set()

    def _start_spares(self) -> None:
        """At the end, when places are free: what runs too long is done twice, the first counts."""
        if self._waiting or not self._paces or not self._rules.spare_after:
            return
        now_s, free = self._cluster.now_s(), self._n_slots - self._n_running
        if free <= 0 or now_s < self._seek_late_s:
            return
        allowed = self._rules.spare_after * statistics.median(self._paces)  # for a unit of cost
        late: list[tuple[float, int, str]] = []
        soonest_s = math.inf  # until another is late
        for attempt, (node, since_s) in self._cluster.begun().items():
            task = self._tasks.get(attempt.task)
            if task is None or task.running != [attempt]:
                continue
            left_s = since_s + self._rules.late_s + allowed * task.cost - now_s
            if left_s < 0:
                late.append((left_s, attempt.task, node))
            soonest_s = min(soonest_s, left_s)
        self._seek_late_s = now_s + min(max(soonest_s, POLL_S), SEEK_LATE_S)
        for _, number, node in sorted(late)[:free]:
            self.counts.spares += 1
            self._start(number, elsewhere=(node,))

    def _end(self, ended: Ended) -> bool:
        """Take in the end of an attempt; returns whether a task is done by it."""
        attempt, failure = ended.attempt, ended.failure
        task = self._tasks.get(attempt.task)
        if task is None or attempt not in task.running:  # another attempt was first
            return False
        self._forget(attempt)
        if failure is None:
            if (begun := self._cluster.begun().get(attempt)) is not None:
                self._paces.append((self._cluster.now_s() - begun.since_s) / task.cost)
                self._doubts.pop(begun.node, None)
            self._settle(attempt.task)
            return True
        if failure.fault is Fault.JOB:
            raise failure.error
        self._count(attempt.task, failure)
        if (
            len(task.failures) >= self._rules.most_failures
            or task.n_losses > self._rules.most_losses
        ):
            self.failed[attempt.task] = task.failures
            self._settle(attempt.task)
        elif not task.running:
            self._waiting.appendleft(attempt.task)
        return False

    def _count(self, number: int, failure: Failure) -> None:
        task, node = self._tasks[number], failure.node
        if failure.fault is Fault.LOST:
            self.counts.losses += 1
            task.n_losses += 1
            if task.n_losses > self._rules.most_losses:
                task.failures.append(failure)
            return
        self.counts.failures += 1
        if failure.fault is Fault.NODE and node:
            self.excluded.setdefault(node, failure)
            return
        if node:
            self._doubt(number, node)
            task.avoided |= {node}
        task.failures.append(failure)

    def _doubt(self, number: int, node: str) -> None:
        """Take note of a task that failed on a node, where it may be the node's fault."""
        before = self._tasks[number].avoided
        if all(self._is_doubted(other) for other in before - {node}):
            self._doubts.setdefault(node, set()).add(number)
            return
        for other in before:  # it failed where others are done: the fault is its own
            self._doubts.get(other, set()).discard(number)

    def _is_doubted(self, node: str) -> bool:
        return len(self._doubts.get(node, ())) >= self._rules.doubted_after

    def _settle(self, number: int) -> None:
        """Be done with a task; other attempts of it are of no use any more."""
        for attempt in list(self._tasks[number].running):
            self._forget(attempt)
            self._cluster.cancel(attempt)
        del self._tasks[number]

    def _forget(self, attempt: Attempt) -> None:
        self._tasks[attempt.task].running.remove(attempt)
        self._choosy.pop(attempt, None)
        self._n_running -= 1


def reasons(failures: Sequence[Failure]) -> str:
    """Why a task failed for good, each reason once, with the nodes that said so."""
    nodes: dict[str, list[str]] = {}
    for failure in failures:
        nodes.setdefault(str(failure.error), []).append(failure.node)
    named = {reason: ", ".join(filter(None, dict.fromkeys(of))) for reason, of in nodes.items()}
    return "; ".join(f"{why} (node {where})" if where else why for why, where in named.items())


def _said(what: str, nodes: Mapping[str, Failure]) -> str:
    """A sentence about nodes, those with the same reason together."""
    by_reason = defaultdict(list)
    for node, failure in nodes.items():
        by_reason[str(failure.error)].append(node)
    reasons = [f"{', '.join(names)}: {reason}" for reason, names in by_reason.items()]
    return f"{what}: {'; '.join(reasons)}"
