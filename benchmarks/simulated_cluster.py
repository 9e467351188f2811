"""A cluster in virtual time, under the very loop that drives Ray: how long would a job take?

Discrete events: nodes come and go, a slot of a node does one part at a time. What a part takes is
the load of the model, where its process is new, its requests to the store, the end of its batch and
its rows; that times the slowness of its node. Planning before and joining after are the driver's,
and not part of it.
"""

import heapq
import random
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, NamedTuple

import numpy as np

from benchmarks.cluster_model import Found, Nodes, Rows, Slot, Store
from reference import PicobatchError
from runner.cluster.dispatch import Dispatch, Rules
from runner.cluster.tasks import Attempt, Begun, Ended, Failure, Fault

HOUR_S = 3600.0
LOST = PicobatchError("its node went away")
KILLED = PicobatchError("its process was killed")


@dataclass
class _Node:
    """A node that is or was there."""

    name: str
    speed: float
    since_s: float
    cold: int  # slots that never had a process
    warm: int = 0  # idle processes that have the model
    is_alive: bool = True
    running: set[Attempt] = field(default_factory=set)


class _Event(NamedTuple):
    at_s: float
    order: int
    kind: str
    what: Any = None


class SimulatedCluster:
    """Nodes as `Nodes` has them, as a `Cluster` for `Dispatch`."""

    def __init__(
        self,
        nodes: Nodes,
        slot: Slot,
        store: Store,
        rows: Sequence[int],
        works: Sequence[float],
        *,
        task_s: float = 0.0,
        seed: int = 0,
    ) -> None:
        self._of, self._slot, self._store = nodes, slot, store
        self._rows, self._works, self._task_s = rows, works, task_s
        self._random = random.Random(seed)
        self._clock_s, self._order, self._n_joined = 0.0, count(), 0
        self._events: list[_Event] = []
        self._nodes: dict[str, _Node] = {}
        self._slots: dict[str, int] = {}
        self._free: list[_Node] = []  # one for each place; of nodes that went away too
        self._n_free = 0  # of those that are there
        self._queue: deque[Attempt] = deque()
        self._choosy: dict[Attempt, Collection[str]] = {}
        self._queued: set[Attempt] = set()
        self._begun: dict[Attempt, Begun] = {}
        self._told: list[Attempt] = []
        self._lived_s = 0.0  # of slots of nodes that went away
        self.found = Found()
        for n in range(nodes.n):
            self.at(nodes.joining_s * n / nodes.n, "join")
        while self._events and self._events[0].at_s <= 0:
            self._happen(heapq.heappop(self._events))

    def at(self, at_s: float, kind: str, what: Any = None) -> None:
        """Let something happen: `join`, `die`, `die_one` or `kill_one`."""
        heapq.heappush(self._events, _Event(at_s, next(self._order), kind, what))

    def now_s(self) -> float:
        return self._clock_s

    def nodes(self) -> Mapping[str, int]:
        return self._slots

    def begun(self) -> Mapping[Attempt, Begun]:
        return self._begun

    def start(self, attempt: Attempt, avoided: Collection[str]) -> None:
        self._clock_s += self._task_s
        self._queued.add(attempt)
        if avoided:
            self._choosy[attempt] = avoided
        else:
            self._queue.append(attempt)
        self._place()

    def cancel(self, attempt: Attempt) -> None:
        self._queued.discard(attempt)
        self._choosy.pop(attempt, None)
        if self._runs(attempt):
            self.found.spare_s += self._leave(attempt)
            self._place()
        if attempt not in self._told:
            self._begun.pop(attempt, None)

    def wait(self, most_s: float) -> list[Ended]:
        for attempt in self._told:
            self._begun.pop(attempt, None)
        self._told = []
        until_s, found = self._clock_s + most_s, list[Ended]()
        while self._events and not found:
            # Where all places are taken, nobody could do anything sooner.
            if self._events[0].at_s > until_s and self._n_free:
                break
            found += self._happen(heapq.heappop(self._events))
        if not found:
            self._clock_s = max(self._clock_s, until_s)
        self._told = [ended.attempt for ended in found]
        return found

    def close(self) -> Found:
        """Count what the slots had to do, when all is done."""
        found = self.found
        here_s = sum((self._clock_s - n.since_s) * self._of.slots for n in self._nodes.values())
        found.idle_s = self._lived_s + here_s - found.done_s - found.lost_s - found.spare_s
        found.wall_s = self._clock_s
        return found

    def _place(self) -> None:
        for attempt, avoided in list(self._choosy.items()) if self._n_free else ():
            place = next((n for n in self._free if n.is_alive and n.name not in avoided), None)
            if place is not None:
                self._free.remove(place)
                del self._choosy[attempt]
                self._begin(attempt, place)
        while self._n_free and self._queue:
            attempt = self._queue.popleft()
            if attempt not in self._queued:
                continue
            while not (node := self._take_any()).is_alive:
                pass
            self._begin(attempt, node)

    def _take_any(self) -> _Node:
        free, n = self._free, int(self._random.random() * len(self._free))
        free[n], free[-1] = free[-1], free[n]
        return free.pop()

    def _begin(self, attempt: Attempt, node: _Node) -> None:
        self._queued.remove(attempt)
        self._n_free -= 1
        node.running.add(attempt)
        self._begun[attempt] = Begun(node.name, self._clock_s)
        slot, store, rows = self._slot, self._store, self._rows[attempt.task]
        seconds = slot.drain_s + rows * self._works[attempt.task] / slot.rows_per_s
        if node.warm:
            node.warm -= 1
        elif node.cold:
            node.cold -= 1
            seconds += max(slot.first_load_s, slot.load_s)
        else:
            seconds += slot.load_s
        seconds /= node.speed
        seconds += store.requests * store.latency_s
        seconds += rows * store.row_bytes * self._of.slots / store.node_bytes_per_s
        self.at(self._clock_s + seconds, "end", attempt)

    def _leave(self, attempt: Attempt, *, is_warm: bool = True) -> float:
        """Free the place of an attempt; returns how long it ran."""
        node = self._nodes[self._begun[attempt].node]
        node.running.remove(attempt)
        node.warm += is_warm
        self._free.append(node)
        self._n_free += 1
        return self._clock_s - self._begun[attempt].since_s

    def _happen(self, event: _Event) -> list[Ended]:
        self._clock_s = max(self._clock_s, event.at_s)
        found: list[Ended] = []
        if event.kind == "end":
            if self._runs(event.what):
                self.found.done_s += self._leave(event.what)
                found.append(Ended(event.what))
        elif event.kind == "join":
            self._join()
        elif event.kind == "die":
            self._die(event.what)
        elif event.kind == "die_one":
            self._die(next(iter(self._nodes)) if self._nodes else "")
        elif event.kind == "kill_one":
            found += self._kill_one()
        elif event.kind == "noticed":
            name, attempts = event.what
            self._slots.pop(name)
            for attempt in attempts:
                if attempt in self._begun:
                    found.append(Ended(attempt, failure=Failure(Fault.LOST, name, LOST)))
        self._place()
        return found

    def _runs(self, attempt: Attempt) -> bool:
        begun = self._begun.get(attempt)
        node = self._nodes.get(begun.node) if begun else None
        return node is not None and attempt in node.running

    def _join(self) -> None:
        name = f"node-{self._n_joined}"
        share = (self._n_joined * 0.6180339887) % 1  # evenly, in no order
        self._n_joined += 1
        speed = 1.0
        for part, of_these in self._of.kinds:
            speed = of_these
            share -= part
            if share < 0:
                break
        node = _Node(name, speed, self._clock_s, self._of.slots)
        self._nodes[name] = node
        self._slots[name] = self._of.slots
        self._free += [node] * self._of.slots
        self._n_free += self._of.slots
        if self._of.deaths_per_hour:
            life_s = self._random.expovariate(self._of.deaths_per_hour / HOUR_S)
            self.at(self._clock_s + life_s, "die", name)

    def _die(self, name: str) -> None:
        if (node := self._nodes.pop(name, None)) is None:
            return
        node.is_alive = False
        self._n_free -= self._of.slots - len(node.running)
        self._lived_s += (self._clock_s - node.since_s) * self._of.slots
        for attempt in node.running:
            self.found.lost_s += self._clock_s - self._begun[attempt].since_s
        self.at(self._clock_s + self._of.noticed_s, "noticed", (name, sorted(node.running)))
        if self._of.replaced_s is not None:
            self.at(self._clock_s + self._of.replaced_s, "join")

    def _kill_one(self) -> list[Ended]:
        """The process of the attempt that has run longest."""
        running = [attempt for node in self._nodes.values() for attempt in node.running]
        if not running:
            return []
        attempt = min(running, key=lambda a: (self._begun[a].since_s, a))
        node = self._begun[attempt].node
        self.found.lost_s += self._leave(attempt, is_warm=False)
        return [Ended(attempt, failure=Failure(Fault.TASK, node, KILLED))]


def simulate(
    n_rows: int,
    part_rows: int,
    slot: Slot,
    nodes: Nodes,
    store: Store | None = None,
    rows: Rows | None = None,
    rules: Rules | None = None,
    *,
    task_s: float = 0.0,
    node_kills_s: Sequence[float] = (),
    process_kills_s: Sequence[float] = (),
    seed: int = 0,
) -> Found:
    """Run a job on a cluster that is not there.

    Parameters
    ----------
    n_rows, part_rows : int
        Of the job, and of a part; the last one has what is left.
    slot, nodes, store, rows
        What it runs on, and what it is.
    rules : Rules, optional
        Of the loop.
    task_s : float
        That the driver takes to hand in a task; it does one thing at a time.
    node_kills_s, process_kills_s : sequence of float
        When the oldest node goes away; when the process is killed whose part has run longest.
    seed : int
        Of all that is random.
    """
    rows = rows or Rows()
    sizes = [min(part_rows, n_rows - start) for start in range(0, n_rows, part_rows)]
    rng = np.random.default_rng(seed)
    works = 1 + rows.spread / np.sqrt(sizes) * rng.standard_normal(len(sizes))
    if rows.part_spread:
        sigma = np.sqrt(np.log1p(rows.part_spread**2))
        works *= rng.lognormal(-(sigma**2) / 2, sigma, len(sizes))
    works_list = np.maximum(works, 0.01).tolist()
    cluster = SimulatedCluster(
        nodes, slot, store or Store(), sizes, works_list, task_s=task_s, seed=seed
    )
    for at_s in node_kills_s:
        cluster.at(at_s, "die_one")
    for at_s in process_kills_s:
        cluster.at(at_s, "kill_one")
    known = works_list if rows.are_known else [1.0] * len(sizes)
    costs = {n: size * work for n, (size, work) in enumerate(zip(sizes, known, strict=True))}
    dispatch = Dispatch(cluster, costs, rules)
    for task, _ in dispatch.run():
        cluster.found.rows += sizes[task]
        cluster.found.parts += 1
    found = cluster.close()
    found.counts = dispatch.counts
    found.failed = len(dispatch.failed)
    return found


def predict(
    n_rows: int,
    part_rows: int,
    *,
    n_nodes: int,
    slots: int,
    rows_per_s: float,
    drain_s: float = 0.0,
    load_s: float = 0.0,
    task_s: float = 0.0,
    start_s: float = 0.0,
    end_s: float = 0.0,
    noticed_s: float = 1.0,
    node_kills_s: Sequence[float] = (),
    process_kills_s: Sequence[float] = (),
) -> Found:
    """What a real run should take, from rates that were measured in it or beside it.

    Parameters
    ----------
    n_rows, part_rows : int
        Of the job and of a part.
    n_nodes, slots : int
        Nodes, and tasks that run at a time on each.
    rows_per_s, drain_s, load_s : float
        Of a slot, as in `Slot`, while all others run too.
    task_s : float
        Seconds of the driver for a task.
    start_s, end_s : float
        Seconds of the driver before the first task is handed in, and after the last one is done.
    noticed_s : float
        Until the driver hears of a node that went away; none comes for it.
    node_kills_s, process_kills_s : sequence of float
        When the oldest node, or the process of the part that runs longest, is killed; counted from
        the start of the command.

    Returns
    -------
    Found
        Whose `wall_s` holds `start_s` and `end_s`.
    """
    found = simulate(
        n_rows,
        part_rows,
        Slot(rows_per_s, drain_s, load_s, load_s),
        Nodes(n_nodes, slots, replaced_s=None, noticed_s=noticed_s),
        task_s=task_s,
        node_kills_s=[max(at_s - start_s, 0.0) for at_s in node_kills_s],
        process_kills_s=[max(at_s - start_s, 0.0) for at_s in process_kills_s],
    )
    found.wall_s += start_s + end_s
    return found
