"""What a job did, and the exit code that it deserves."""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from .checker import CheckReport
from .records import Reject, Result


class ExitCode(IntEnum):
    """The command's exit codes, a contract."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    BAD_ROWS = 3
    DISAGREES = 4
    GATE = 5


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
    elapsed_s : dict of str to float
        Seconds by stage: `load`, `read`, `tokenize`, `prefill`, `decode`, `check`, `write`,
        `total`.
    engine : dict
        How the model ran: sequences that ran together, tokens per second, memory.
    check : CheckReport
        The comparison with the reference.
    provenance : dict
        What was written into the footer and the manifest.
    """

    output: str
    rows: int = 0
    bad_rows: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    repeated_rows: int = 0
    elapsed_s: dict[str, float] = field(default_factory=dict)
    engine: dict[str, Any] = field(default_factory=dict)
    check: CheckReport = field(default_factory=CheckReport)
    provenance: dict[str, Any] = field(default_factory=dict)
    first_bad_row: Reject | None = None

    def count(self, result: Result) -> None:
        """Count a row's result."""
        self.rows += 1
        if isinstance(result, Reject):
            self.bad_rows += 1
            self.first_bad_row = min(self.first_bad_row or result, result, key=lambda r: r.row)
        else:
            self.prompt_tokens += result.prompt_tokens
            self.completion_tokens += len(result.ids)

    @property
    def exit_code(self) -> ExitCode:
        if not self.check.agrees:
            return ExitCode.DISAGREES
        return ExitCode.BAD_ROWS if self.bad_rows else ExitCode.DONE

    def summary(self) -> str:
        """The job in a few lines."""
        generate_s = self.elapsed_s["prefill"] + self.elapsed_s["decode"]
        tokens_per_s = self.completion_tokens / max(generate_s, 1e-9)
        lines = [
            f"{self.output}: {self.rows:,} rows, {self.completion_tokens:,} tokens "
            f"in {self.elapsed_s['total']:.1f} s ({tokens_per_s:,.0f} tokens/s while generating)"
        ]
        if self.engine["most_slots"]:
            lines.append(
                f"engine: up to {self.engine['most_slots']} rows together, "
                f"{self.engine['occupancy']:.0%} of them running; prefill "
                f"{self.engine['prefill_tokens_per_s']:,.0f} tokens/s, decode "
                f"{self.engine['decode_tokens_per_s']:,.0f} tokens/s; "
                f"{self.engine['peak_bytes'] / 2**20:,.0f} MiB at most"
            )
        if self.bad_rows:
            some = "1 bad row is" if self.bad_rows == 1 else f"{self.bad_rows:,} bad rows are"
            lines.append(f"{some} kept with finish_reason = error; the first: {self.first_bad_row}")
        if not self.check.agrees:
            lines.append(
                "The output is kept and marked. Find out why before using it: `runner check` "
                "tests an export, `runner inspect` shows the versions."
            )
        return "\n".join([*lines, self.check.summary()])
