"""Tasks on a cluster: how they are started, how they end, and whose fault it is that one failed."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple, Protocol

from reference import PicobatchError


class Attempt(NamedTuple):
    """One start of a task."""

    task: int
    number: int  # from 0


class Fault(Enum):
    """Whose fault it is that a task failed."""

    TASK = "task"  # its own, as far as one can see; another node may do it nevertheless
    LOST = "lost"  # nobody's: its node went away under it
    NODE = "node"  # its node's, which can do none
    JOB = "job"  # the job's: none can be done


@dataclass(frozen=True)
class Failure:
    """Why an attempt failed, and on which node; that is empty where nobody knows."""

    fault: Fault
    node: str
    error: PicobatchError


@dataclass(frozen=True)
class Ended:
    """An attempt that ended: what it returned, or why it failed."""

    attempt: Attempt
    result: Any = None
    failure: Failure | None = None


class Begun(NamedTuple):
    """Where an attempt runs, and since when."""

    node: str
    since_s: float


class Cluster(Protocol):
    """Runs tasks on nodes, each in a process of its own.

    All times are seconds of its own clock. `nodes` and `begun` are asked with every task that ends:
    they hand out what is kept, and make nothing anew.
    """

    def now_s(self) -> float: ...

    def nodes(self) -> Mapping[str, int]:
        """The nodes that are there now: how many tasks each can run at a time."""

    def start(self, attempt: Attempt, avoided: Collection[str]) -> None:
        """Hand a task in, to be run on any node but some, as soon as one has room."""

    def begun(self) -> Mapping[Attempt, Begun]:
        """The attempts that are known to run, and still those that `wait` told last."""

    def wait(self, most_s: float) -> list[Ended]:
        """Those that ended, each told once; waits for the first of them, but not longer."""

    def cancel(self, attempt: Attempt) -> None:
        """Stop an attempt that is of no use any more; it may have ended, unseen or just told.

        How it ends need not be told; where it is, nobody listens.
        """
