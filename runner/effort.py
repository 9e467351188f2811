"""What was done and how long it took: of one part or of many, in one process or in several."""

from dataclasses import dataclass, field
from typing import Any

from .scheduler import Occupancy

Figures = dict[str, Any]


@dataclass
class Effort:
    """What parts took.

    Attributes
    ----------
    seconds : dict of str to float
        By stage, `prefill` and `decode` among them.
    prefill_tokens, decode_tokens, generated_tokens : int
        That went through the model; those of rows that are finished.
    repeated_rows : int
        As in `RunReport`.
    occupancy : Occupancy
        How well the steps were filled.
    batch_size, peak_bytes : int
        The largest that was found good, and the memory of the largest process.
    """

    seconds: dict[str, float] = field(default_factory=lambda: {"prefill": 0.0, "decode": 0.0})
    prefill_tokens: int = 0
    decode_tokens: int = 0
    generated_tokens: int = 0
    repeated_rows: int = 0
    occupancy: Occupancy = field(default_factory=Occupancy)
    batch_size: int = 0
    peak_bytes: int = 0

    def add(self, other: "Effort") -> None:
        """Take in what other parts took."""
        for stage, seconds in other.seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds
        self.prefill_tokens += other.prefill_tokens
        self.decode_tokens += other.decode_tokens
        self.generated_tokens += other.generated_tokens
        self.repeated_rows += other.repeated_rows
        self.occupancy.add(other.occupancy)
        self.batch_size = max(self.batch_size, other.batch_size)
        self.peak_bytes = max(self.peak_bytes, other.peak_bytes)

    def figures(self) -> Figures:
        """How the engine did."""
        found = self.occupancy
        return {
            "batch_size": self.batch_size,
            "most_slots": found.most_slots,
            "generated_tokens": self.generated_tokens,
            "occupancy": round(found.live_rows / max(found.rows, 1), 4),
            "prefill_tokens": self.prefill_tokens,
            "prefill_tokens_per_s": self._rate(self.prefill_tokens, "prefill"),
            "decode_steps": found.steps,
            "decode_tokens_per_s": self._rate(self.decode_tokens, "decode"),
            "shared_prefix_tokens": found.shared_tokens,
        }

    def _rate(self, tokens: int, stage: str) -> float:
        seconds = self.seconds.get(stage, 0.0)
        return round(tokens / seconds, 1) if seconds else 0.0
