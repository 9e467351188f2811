"""What a job did, and the exit code that it deserves."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from enum import IntEnum
from typing import Any

from .check_report import CheckReport
from .errors import InputError
from .invariance import InvarianceReport
from .messages import counted, cut
from .outcome import Outcome
from .parts import REJECT_SHAPE, FailedPart, Part, PartRecord
from .processor import instructions
from .records import Reject
from .shape import fits, is_count, or_none


class ExitCode(IntEnum):
    """The command's exit codes, a contract."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    BAD_ROWS = 3
    DISAGREES = 4
    GATE = 5


INCOMPLETE = (LookupError, TypeError, ValueError, AttributeError)
NAMED_RUNS = 5  # of rows, that a report names for a kind of processor
NAMED_FAILURES = 10
COUNTS = ("rows", "bad_rows", "prompt_tokens", "completion_tokens", "repeated_rows")


@dataclass
class RunReport:
    """What a job did.

    Attributes
    ----------
    rows, bad_rows : int
        Rows written, and how many of them are error rows.
    prompt_tokens, completion_tokens : int
        Over all rows.
    repeated_rows : int
        Rows whose prompt and limit another one had: they share its answer.
    parts, resumed_parts : int
        Parts of the output, and how many of them an earlier run had done.
    rows_by_processor : dict of str to list
        The kinds of processor that computed them, and which runs of rows each did: the first, and
        the one behind the last.
    elapsed_s : dict of str to float
        Seconds by stage: `load`, `read`, `tokenize`, `prefill`, `decode`, `check`, `write`,
        `total`.
    engine : dict
        How the model ran: sequences that ran together, tokens per second, memory.
    check : CheckReport
        The comparison with the reference.
    invariance : InvarianceReport
        Rows that this run ran once more, alone.
    checks_invariance : bool
        Whether that was asked for.
    failed : list of FailedPart
        Parts that could not be done: the output is not there then.
    cluster : dict or None
        What a cluster did for it, where it was done on one.
    provenance : dict
        What was written into the footer and the manifest.
    """

    output: str
    rows: int = 0
    bad_rows: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    repeated_rows: int = 0
    parts: int = 0
    resumed_parts: int = 0
    rows_by_processor: dict[str, list[list[int]]] = field(default_factory=dict)
    elapsed_s: dict[str, float] = field(default_factory=dict)
    engine: dict[str, Any] = field(default_factory=dict)
    check: CheckReport = field(default_factory=CheckReport)
    checks_invariance: bool = False
    invariance: InvarianceReport = field(default_factory=InvarianceReport)
    provenance: dict[str, Any] = field(default_factory=dict)
    first_bad_row: Reject | None = None
    failed: list[FailedPart] = field(default_factory=list)
    cluster: dict[str, Any] | None = None

    def take_outcome(self, found: Outcome) -> None:
        """Take in what is said of the parts of this run."""
        self.repeated_rows = found.effort.repeated_rows
        self.engine = found.effort.figures() | {"peak_bytes": found.effort.peak_bytes}
        self.engine |= found.engine
        self.invariance = found.invariance
        self.failed = found.failed
        self.cluster = found.cluster

    def take(self, parts: Iterable[Part], records: Mapping[int, PartRecord]) -> None:
        """Take in what became of the parts that are done, in order."""
        for part in parts:
            if (record := records.get(part.number)) is None:
                continue
            rows = self.rows_by_processor.setdefault(record.processor, [])
            if rows and rows[-1][1] == part.rows.start:
                rows[-1][1] = part.rows.stop
            else:
                rows.append([part.rows.start, part.rows.stop])
            self.parts += 1
            self.rows += record.rows
            self.bad_rows += record.bad_rows
            self.prompt_tokens += record.prompt_tokens
            self.completion_tokens += record.completion_tokens
            self.first_bad_row = self.first_bad_row or record.first_bad_row
            self.check.merge(record.check)

    @property
    def exit_code(self) -> ExitCode:
        if not (self.check.agrees and self.invariance.agrees):
            return ExitCode.DISAGREES
        return ExitCode.BAD_ROWS if self.bad_rows or self.failed else ExitCode.DONE

    def summary(self) -> str:
        """The job in a few lines."""
        lines = [*self._time(), *self._origin(), *self._failures()]
        if self.bad_rows:
            some = "1 bad row is" if self.bad_rows == 1 else f"{self.bad_rows:,} bad rows are"
            lines.append(f"{some} kept with finish_reason = error; the first: {self.first_bad_row}")
        if not (self.check.agrees and self.invariance.agrees):
            kept = "What is done" if self.failed else "The output"
            lines.append(
                f"{kept} is kept and marked. Find out why before using it: `runner check` tests an "
                "export, `runner inspect` shows the versions."
            )
        lines.append(self.check.summary())
        if self.invariance.rows:
            lines.append(self.invariance.summary())
        if self.resumed_parts and self.checks_invariance:
            lines.append("invariance: rows of earlier runs were not run again")
        return "\n".join(lines)

    def _time(self) -> list[str]:
        said = f"{self.output}: {self.rows:,} rows, {self.completion_tokens:,} tokens"
        if not self.elapsed_s:
            return [said]
        if self.cluster is None:
            spent_s = self.elapsed_s["prefill"] + self.elapsed_s["decode"]
            when, where = " while generating", ""
        else:
            spent_s, when, where = self.elapsed_s["total"], "", " in a task"
        tokens_per_s = self.engine["generated_tokens"] / max(spent_s, 1e-9)
        lines = [f"{said} in {self.elapsed_s['total']:.1f} s ({tokens_per_s:,.0f} tokens/s{when})"]
        if self.engine["most_slots"]:
            lines.append(
                f"engine: up to {self.engine['most_slots']} rows together{where}, "
                f"{self.engine['occupancy']:.0%} of them running; prefill "
                f"{self.engine['prefill_tokens_per_s']:,.0f} tokens/s, decode "
                f"{self.engine['decode_tokens_per_s']:,.0f} tokens/s; "
                f"{self.engine['peak_bytes'] / 2**20:,.0f} MiB at most"
            )
        return lines

    def _origin(self) -> list[str]:
        lines = []
        if self.resumed_parts:
            lines.append(f"{self.resumed_parts:,} of {self.parts:,} parts are from earlier runs")
        if (found := self.cluster) is not None:
            n_parts = self.parts - self.resumed_parts + len(self.failed)
            lines.append(cluster_in_words(found, n_parts, "part"))
            lines += [f"left out: node {name}: {why}" for name, why in found["excluded"].items()]
        return [*lines, *self._other_bits()]

    def _other_bits(self) -> list[str]:
        """Where rows were computed by other instructions than most."""
        by_instructions: dict[str, list[tuple[str, list[list[int]]]]] = {}
        for kind, rows in self.rows_by_processor.items():
            by_instructions.setdefault(instructions(kind), []).append((kind, rows))
        if len(by_instructions) < 2:
            return []
        lines = ["computed by processors with other instructions, which may round in other places:"]
        for alike in by_instructions.values():
            runs = sorted(run for _, rows in alike for run in rows)
            named = ", ".join(f"{start} to {stop - 1}" for start, stop in runs[:NAMED_RUNS])
            more = f" and {len(runs) - NAMED_RUNS:,} runs more" if len(runs) > NAMED_RUNS else ""
            lines.append(f"  rows {named}{more}: {', '.join(sorted(kind for kind, _ in alike))}")
        return lines

    def _failures(self) -> list[str]:
        """Parts that could not be done."""
        if not self.failed:
            return []
        count = f"{len(self.failed):,} of {counted(self.parts + len(self.failed), 'part')} failed"
        if self.parts:
            count += "; the others are kept"
        named = [f"failed: {part}" for part in self.failed[:NAMED_FAILURES]]
        if len(self.failed) > NAMED_FAILURES:
            named.append(f"failed: and {len(self.failed) - NAMED_FAILURES:,} parts more")
        return [
            *named,
            f"{self.output}: not written, {count}. Mend that, and run the same command again: "
            "while inputs and model are the same it does only these.",
        ]

    @classmethod
    def from_provenance(cls, output: str, found: dict[str, Any]) -> "RunReport":
        """The report of an output that was finished before.

        Raises
        ------
        InputError
            Where its provenance is not complete.
        """
        try:
            bad = found["first_bad_row"]
            counts: dict[str, Any] = {name: found["counts"][name] for name in COUNTS}
            if not fits(counts, dict.fromkeys(COUNTS, is_count)) or not _fit(counts, found["rows"]):
                raise ValueError("its counts are none")
            if not fits(bad, or_none(REJECT_SHAPE)):
                raise ValueError("its first bad row is none")
            return cls(
                output,
                **counts,
                check=CheckReport.from_dict(_fields(CheckReport, found["check"])),
                invariance=InvarianceReport.from_dict(
                    _fields(InvarianceReport, found["invariance"])
                ),
                first_bad_row=bad and Reject(**bad),
                provenance=found,
            )
        except INCOMPLETE as e:
            raise incomplete(output, e) from None


def cluster_in_words(found: Mapping[str, Any], n: int, what: str) -> str:
    """What a cluster did for so many parts, or whatever its tasks were."""
    return (
        f"cluster: {places_in_words(found)}; "
        f"{counted(found['attempts'], 'start')} of {counted(n, what)}: "
        f"{found['losses']:,} lost with a node, {found['failures']:,} failed, "
        f"{found['spares']:,} to help out late ones"
    )


def places_in_words(cluster: Mapping[str, Any]) -> str:
    """How large a cluster was."""
    return (
        f"{counted(cluster['nodes'], 'node')}, {counted(cluster['tasks_at_a_time'], 'task')} of "
        f"{counted(cluster['cpus_per_task'], 'CPU')} at a time"
    )


def _fit(counts: dict[str, int], rows: Any) -> bool:
    """Whether counts are those of so many rows."""
    n_rows = counts["rows"]
    within = max(counts["bad_rows"], counts["repeated_rows"]) <= n_rows
    return within and fits(rows, (is_count, is_count)) and bool(rows[1] - rows[0] == n_rows)


def incomplete(output: str, error: Exception) -> InputError:
    """What is said of provenance that is not what a job writes."""
    return InputError(
        f"{output}: its provenance is not complete ({type(error).__name__}: {cut(str(error))}); "
        "expected what `runner batch` wrote. Make the file again."
    )


def _fields(kind: type[Any], found: dict[str, Any]) -> dict[str, Any]:
    """Of an object that was written with more, what makes it."""
    return {field.name: found[field.name] for field in fields(kind)}
