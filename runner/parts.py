"""The unit that is finished, kept and counted: a range of rows, and what became of it."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from reference import HParams

from .check_report import CheckReport
from .records import Completion, Reject, Result
from .settings import Shard
from .shape import fits, is_count, is_sha256, is_text, or_none

# What is in flight when a job is killed is done again: a part should cost as much with any model.
# Its rows follow from sizes and settings alone, never from a clock.
PART_FLOPS = 10**13
TASK_FLOPS = 10**14  # the same on a cluster, where a part has a batch of its own: docs/scale.md
PROMPT_TOKENS = 64  # that a row is taken to have
PARTS_EACH = 16  # for each that is done at a time
LEAST_PART_ROWS, MOST_PART_ROWS = 64, 16384

REJECT_SHAPE = {"row": is_count, "where": is_text, "reason": is_text}
RECORD_SHAPE = {
    **dict.fromkeys(("rows", "bad_rows", "prompt_tokens", "completion_tokens"), is_count),
    "first_bad_row": or_none(REJECT_SHAPE),
    "processor": is_text,
    "n_bytes": is_count,
    "sha256": is_sha256,
}


@dataclass(frozen=True)
class Part:
    """Some rows of the input, one after another."""

    number: int
    rows: range


@dataclass(frozen=True)
class FailedPart:
    """A part that cannot be done, and why."""

    part: Part
    reason: str

    def __str__(self) -> str:
        rows = self.part.rows
        return f"part {self.part.number} (rows {rows.start} to {rows.stop - 1}): {self.reason}"


@dataclass
class PartRecord:
    """What became of a part.

    Attributes
    ----------
    rows, bad_rows, prompt_tokens, completion_tokens : int
        As in `RunReport`.
    first_bad_row : Reject or None
        The first of them.
    check : CheckReport
        Of the part's rows that were compared with the reference.
    processor : str
        What computed it.
    n_bytes, sha256 : int, str
        Of the part's file.
    """

    rows: int = 0
    bad_rows: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    first_bad_row: Reject | None = None
    check: CheckReport = field(default_factory=CheckReport)
    processor: str = ""
    n_bytes: int = 0
    sha256: str = ""

    def count(self, results: Iterable[Result]) -> None:
        """Take in the results of further rows, in order."""
        for result in results:
            self.rows += 1
            if isinstance(result, Reject):
                self.bad_rows += 1
                self.first_bad_row = self.first_bad_row or result
            else:
                self.prompt_tokens += result.prompt_tokens
                self.completion_tokens += len(result.ids)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, found: dict[str, Any]) -> "PartRecord":
        """The record that `as_dict` made this of.

        Raises
        ------
        LookupError, TypeError, ValueError
            Where it is none.
        """
        if not fits(found, RECORD_SHAPE) or found["bad_rows"] > found["rows"]:
            raise ValueError("no record of a part")
        bad = found["first_bad_row"]
        read = {
            "first_bad_row": bad and Reject(**bad),
            "check": CheckReport.from_dict(found["check"]),
        }
        return cls(**(found | read))


@dataclass
class Known:
    """What is known of parts that are not done.

    Attributes
    ----------
    answers : dict of int to Completion
        By row.
    checks : dict of int to CheckReport
        Of rows among them that were compared with the reference, by part.
    """

    answers: dict[int, Completion] = field(default_factory=dict)
    checks: dict[int, CheckReport] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """The parts of a job: all have `part_rows` rows, the last has what is left.

    Attributes
    ----------
    rows : range
        Of the input, that the job takes.
    part_rows : int
        Of a part.
    """

    rows: range
    part_rows: int

    @property
    def parts(self) -> list[Part]:
        """In order; one without rows where there are none."""
        starts = range(self.rows.start, self.rows.stop, self.part_rows) or [self.rows.start]
        return [
            Part(number, range(start, min(start + self.part_rows, self.rows.stop)))
            for number, start in enumerate(starts)
        ]

    def part_of(self, row: int) -> int:
        """The number of a row's part."""
        return (row - self.rows.start) // self.part_rows


def good_part_rows(
    hparams: HParams, max_new_tokens: int, n_rows: int, n_at_a_time: int | None = None
) -> int:
    """Rows of a part: about `PART_FLOPS` of work, a power of two of them.

    On a cluster it is `TASK_FLOPS`. The last of its parts to end is waited for, so there are at
    least `PARTS_EACH` for each place, and as many for each: parts that were left over would take a
    round of their own.

    Parameters
    ----------
    hparams : HParams
        Of the model.
    max_new_tokens : int
        Of a row.
    n_rows : int
        Of the job.
    n_at_a_time : int or None
        Places of the cluster, none where they are still to come; None is this process.
    """
    n_embd = hparams["n_embd"]
    n_params = n_embd * (12 * hparams["n_layer"] * n_embd + hparams["n_vocab"])
    row_flops = 2 * n_params * (PROMPT_TOKENS + min(max_new_tokens, hparams["n_ctx"]))
    flops = PART_FLOPS if n_at_a_time is None else TASK_FLOPS
    wanted = max(flops // row_flops, 1)
    found = min(max(1 << (wanted.bit_length() - 1), LEAST_PART_ROWS), MOST_PART_ROWS)
    if not n_at_a_time:
        return found
    rounds = max(-(-n_rows // (n_at_a_time * found)), PARTS_EACH)
    return min(found, max(-(-n_rows // (n_at_a_time * rounds)), LEAST_PART_ROWS))


def shard_rows(n_rows: int, shard: Shard | None) -> range:
    """The rows of a shard: shards are runs of rows, in order, as long as each other within one."""
    if shard is None:
        return range(n_rows)
    place, count = shard
    return range(n_rows * place // count, n_rows * (place + 1) // count)
