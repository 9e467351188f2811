"""What is said of parts beside their records, to be put together over processes."""

from dataclasses import dataclass, field
from typing import Any

from .effort import Effort
from .invariance import InvarianceReport
from .parts import FailedPart


@dataclass
class Outcome:
    """What is said of parts beside their records.

    Attributes
    ----------
    effort : Effort
        What they took.
    invariance : InvarianceReport
        Rows that were run once more.
    engine : dict
        What ran, with the hash of each graph.
    failed : list of FailedPart
        Those that cannot be done.
    cluster : dict or None
        What a cluster did for it.
    """

    effort: Effort = field(default_factory=Effort)
    invariance: InvarianceReport = field(default_factory=InvarianceReport)
    engine: dict[str, Any] = field(default_factory=dict)
    failed: list[FailedPart] = field(default_factory=list)
    cluster: dict[str, Any] | None = None

    def add(self, other: "Outcome") -> None:
        """Take in what is said of other parts."""
        self.effort.add(other.effort)
        self.invariance.merge(other.invariance)
        self.engine = self.engine or other.engine
        self.failed += other.failed
