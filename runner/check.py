"""An exported folder against the NumPy reference, in each program that runs it."""

import math
from collections.abc import Sequence
from pathlib import Path

from exporter import ExportError, Package, open_package
from exporter.package import MANIFEST

from .messages import shown
from .report import ExitCode
from .runtimes import RUNTIMES, Runtime, RuntimeMissingError
from .settings import available_threads
from .tables import table
from .trial import CheckRow, Trial

COLUMNS = ("max difference", "tolerance", "same choice", "tokens", "completions")


def check_directory(
    directory: str | Path,
    threads: int | None = None,
    *,
    runtimes: Sequence[str] = (),
    n_prompts: int = 8,
    n_new: int = 16,
) -> list[CheckRow]:
    """Compare every graph of an exported directory with the reference.

    Parameters
    ----------
    directory : Path
        From `runner export`.
    threads : int, optional
        Threads of one model call; by default all.
    runtimes : sequence of str
        Names from `RUNTIMES`; by default all that are here but the slow ones.
    n_prompts : int
        Prompts to complete.
    n_new : int
        Tokens to generate for each; fewer where the context has no room for them.

    Returns
    -------
    list of CheckRow
        A row for each graph in each runtime.

    Raises
    ------
    ExportError
        Where the directory does not hold together.
    RuntimeMissingError
        Where a runtime that was named is not here.
    """
    package = open_package(directory)
    missing: list[CheckRow] = []
    here: list[tuple[Runtime, str]] = []
    for name in runtimes or RUNTIMES:
        try:
            version = RUNTIMES[name].version()
            if RUNTIMES[name].slow and not runtimes:
                missing.append(CheckRow(name, version, skipped="slow: name it with --runtime"))
            else:
                here.append((RUNTIMES[name], version))
        except RuntimeMissingError as e:
            if runtimes:
                raise RuntimeMissingError(f"--runtime {name}: {e}") from None
            missing.append(CheckRow(name, skipped=str(e)))
    rows: list[CheckRow] = []
    for dtype in package.dtypes:
        trial = Trial.prepare(
            package,
            dtype,
            threads or available_threads(),
            _tolerance(package, dtype),
            n_prompts,
            n_new,
        )
        found = [row for runtime, version in here for row in trial.rows(runtime, version)]
        trial.judge(found)
        rows += found
    return rows + missing


def summary(rows: Sequence[CheckRow]) -> str:
    """A table for people, and below it what was wrong."""
    lines = [["runtime", "version", "dtype", "graph", *COLUMNS, ""]]
    for row in rows:
        logits, tokens = row.logits, row.tokens
        cells = ["-"] * len(COLUMNS)
        if logits is not None:
            cells[:3] = [
                f"{logits.max_abs_diff:.2g}",
                f"{logits.tolerance:.2g}",
                f"{logits.top1_agreement}/{logits.positions}",
            ]
        if tokens is not None:
            cells[3] = f"{tokens.top1_agreement}/{tokens.positions}"
            cells[4] = f"{tokens.rows - tokens.other_rows}/{tokens.rows}"
        lines.append([row.runtime, row.version, row.dtype, row.graph, *cells, row.status])
    told = [
        " ".join(filter(None, [row.runtime, row.dtype, row.graph])) + f": {said}"
        for row in rows
        for said in [
            *[text for text in (row.failed, row.skipped) if text],
            *(bad for report in (row.logits, row.tokens) if report for bad in report.offending),
        ]
    ]
    if not any(row.is_compared for row in rows):
        told.append("nothing was compared with the reference")
    return "\n".join([*table(lines, right=range(4, 4 + len(COLUMNS))), *told])


def exit_code(rows: Sequence[CheckRow]) -> ExitCode:
    """What a check deserves.

    A graph that does not run is not what was exported either; and nothing is proved where nothing
    was compared.
    """
    if not all(row.agrees for row in rows):
        return ExitCode.DISAGREES
    return ExitCode.DONE if any(row.is_compared for row in rows) else ExitCode.FAILED


def _tolerance(package: Package, dtype: str) -> float | None:
    """What a runtime's logits may differ by, from the record of the format."""
    if dtype == "float32":
        return None  # by their spread
    parity = package.variant(dtype).get("parity")
    found = parity.get("tolerance") if isinstance(parity, dict) else None
    if type(found) is not float or not 0 <= found < math.inf:
        raise ExportError(
            f"{package.directory / MANIFEST}: the tolerance of {dtype} is {shown(found)}; expected "
            "the record that `runner export` makes of a format. Export it again."
        )
    return found
