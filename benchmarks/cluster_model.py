"""What a simulated job is made of: slots, nodes, a store, rows; and what became of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from runner.cluster.dispatch import Counts


@dataclass(frozen=True)
class Slot:
    """A process that does parts one after another.

    Attributes
    ----------
    rows_per_s : float
        In the middle of a part.
    drain_s : float
        That a part takes beside that: its end, when the batch is not full any more, and whatever
        else does not go with its rows.
    load_s, first_load_s : float
        Until a new process has the model; the second on a node where nothing is cached yet.
    """

    rows_per_s: float
    drain_s: float = 0.0
    load_s: float = 0.0
    first_load_s: float = 0.0


@dataclass(frozen=True)
class Nodes:
    """The machines.

    Attributes
    ----------
    n, slots : int
        Nodes, and slots of each.
    joining_s : float
        Until all are there; they come evenly.
    deaths_per_hour : float
        Of each node, at random.
    replaced_s : float or None
        Until another comes for one that went away; None where none does.
    noticed_s : float
        Until the driver hears that a node went away.
    kinds : sequence of (float, float)
        Shares of the nodes, and how fast these are.
    """

    n: int
    slots: int
    joining_s: float = 0.0
    deaths_per_hour: float = 0.0
    replaced_s: float | None = 120.0
    noticed_s: float = 10.0
    kinds: Sequence[tuple[float, float]] = ((1.0, 1.0),)


@dataclass(frozen=True)
class Store:
    """Where inputs and outputs lie.

    Attributes
    ----------
    latency_s : float
        Of a request.
    requests : int
        Of a part, one after another.
    node_bytes_per_s : float
        That a node reads or writes; its slots share it.
    row_bytes : float
        Of a row, read and written.
    """

    latency_s: float = 0.0
    requests: int = 0
    node_bytes_per_s: float = float("inf")
    row_bytes: float = 0.0


@dataclass(frozen=True)
class Rows:
    """How unequal they are, and what is known of that.

    Attributes
    ----------
    spread, part_spread : float
        Of the work of a row, and of parts beyond what their rows make: standard deviations by
        means.
    are_known : bool
        Whether the driver knows how much work a part is, or only how many rows.
    """

    spread: float = 0.0
    part_spread: float = 0.0
    are_known: bool = False


@dataclass
class Found:
    """What became of a job.

    Attributes
    ----------
    wall_s : float
        From the first task that was handed in to the last that was done.
    rows, parts : int
        Done.
    done_s, lost_s, spare_s, idle_s : float
        Seconds of slots, for parts that were done, attempts that were lost, attempts that another
        one of the same part overtook, and nothing.
    counts : Counts
        The loop's.
    failed : int
        Parts that failed for good.
    """

    wall_s: float = 0.0
    rows: int = 0
    parts: int = 0
    done_s: float = 0.0
    lost_s: float = 0.0
    spare_s: float = 0.0
    idle_s: float = 0.0
    counts: Counts = field(default_factory=Counts)
    failed: int = 0
