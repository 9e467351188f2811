"""A run in short: as text for a terminal or a log, and as markdown for GitHub's step summary."""

from collections.abc import Sequence
from typing import Any

from runner.messages import printable
from runner.tables import table as columns

from . import markdown as md
from .finding import FAILING, figure
from .gate import FAILED, PASSED, by_metric
from .results import EvalResult

HEADER = ("task", "metric", "value", "before", "difference", "verdict")
NUMBERS = (2, 3, 4)
TEXT_ROWS, TEXT_FLIPS, TEXT_CHARACTERS, LINE_CHARACTERS = 40, 5, 60, 1000
# So that all of it stays far below the 1 MiB that GitHub takes, whatever the texts hold.
MARKDOWN_ROWS, MARKDOWN_REASONS, MARKDOWN_FLIPS = 100, 40, 20
NAME_CHARACTERS, REASON_CHARACTERS, PROMPT_CHARACTERS = 60, 240, 160
TOLD_LINES = 5  # of failures, bad rows and the like
BAD = "❌"
MARKS = {PASSED: "✅", FAILED: BAD}

Found = dict[str, Any]  # a finding or a flip, as `results.json` has it


def text(result: EvalResult) -> str:
    """A run in lines: the verdict, the figures, the reasons, rows that flipped."""
    figures = _figures(result)
    lines = [_headline(result), *_notes(result)]
    cells = [[_name(cell) for cell in row] for row in figures[:TEXT_ROWS]]
    if cells:
        lines += columns([HEADER, *cells], right=NUMBERS)
    lines += _more(len(figures) - TEXT_ROWS, "metrics")
    reasons = [
        f"{found['task']} {_name(found['metric'])}: {found['verdict']}: {found['reason']}"
        for found in _reasons(result)
    ]
    lines += reasons[:TEXT_ROWS] + _more(len(reasons) - TEXT_ROWS, "reasons")
    flipped = _gate(result).get("flipped", [])
    if flipped:
        lines.append(_told_flips(flipped))
        lines += [
            f"  {flip['task']}: {_end(flip['prompt'], TEXT_CHARACTERS)!r}: "
            f"{_start(flip['expected'], TEXT_CHARACTERS)!r} expected; "
            f"{_start(flip['before'], TEXT_CHARACTERS)!r} before, "
            f"{_start(flip['after'], TEXT_CHARACTERS)!r} now"
            for flip in flipped[:TEXT_FLIPS]
        ]
        lines += _more(len(flipped) - TEXT_FLIPS, "of them")
    lines += _troubles(result)
    return printable("\n".join(_start(line, LINE_CHARACTERS) for line in lines))


def markdown(result: EvalResult) -> str:
    """A run as a section of markdown; what the user's data hold stays text."""
    is_bad = result.failed or result.check.get("agrees") is False
    mark = BAD if is_bad else MARKS.get(_gate(result).get("verdict", ""), "")
    lines = [f"## {mark} {md.plain(_headline(result), REASON_CHARACTERS)}".replace("  ", " "), ""]
    lines += [f"{md.plain(note, REASON_CHARACTERS)}  " for note in _notes(result)]
    figures = _figures(result)
    if figures:
        cells = [
            [
                *(md.code(name, NAME_CHARACTERS) for name in row[:2]),
                *row[2:5],
                f"**{row[5]}**" if row[5].isupper() else md.plain(row[5]),
            ]
            for row in figures[:MARKDOWN_ROWS]
        ]
        lines += ["", *md.table([HEADER, *cells], right=NUMBERS)]
        lines += _more(len(figures) - MARKDOWN_ROWS, "metrics")
    reasons = _reasons(result)
    if reasons:
        lines.append("")
        lines += [
            f"- {md.code(found['task'], NAME_CHARACTERS)} "
            f"{md.code(found['metric'], NAME_CHARACTERS)}: {md.plain(found['verdict'])}: "
            f"{md.plain(found['reason'], REASON_CHARACTERS)}"
            for found in reasons[:MARKDOWN_REASONS]
        ]
        lines += _more(len(reasons) - MARKDOWN_REASONS, "reasons")
    lines += _markdown_flips(_gate(result).get("flipped", []))
    troubles = _troubles(result)
    if troubles:
        lines += ["", *(f"- {md.plain(line.strip(), REASON_CHARACTERS)}" for line in troubles)]
    return "\n".join([*lines, "", ""])


def _markdown_flips(flipped: Sequence[Found]) -> list[str]:
    if not flipped:
        return []
    header = ("task", "prompt", "expected", "before", "now", "correct now")
    rows = [
        [
            md.code(flip["task"], NAME_CHARACTERS),
            md.code(_end(flip["prompt"], PROMPT_CHARACTERS)),
            *(md.code(flip[name], PROMPT_CHARACTERS) for name in ("expected", "before", "after")),
            "yes" if flip["is_correct"] else "no",
        ]
        for flip in flipped[:MARKDOWN_FLIPS]
    ]
    told = ["", f"<details><summary>{md.plain(_told_flips(flipped))}</summary>", ""]
    more = _more(len(flipped) - MARKDOWN_FLIPS, "of them")
    return [*told, *md.table([header, *rows]), *more, "", "</details>"]


def _gate(result: EvalResult) -> Found:
    return result.gate or {}


def _headline(result: EvalResult) -> str:
    gate = _gate(result)
    verdict, baseline = gate.get("verdict", "not gated"), gate.get("baseline")
    held = {(f["task"], f["metric"]) for f in gate.get("findings", []) if f["verdict"] in FAILING}
    said = f"{result.job['name']}: {verdict.upper() if verdict == FAILED else verdict}"
    if held:
        said += f", {len(held):,} metric{'s' * (len(held) > 1)}"
    if result.failed:
        said += f"; {len(result.failed):,} task{'s' * (len(result.failed) > 1)} FAILED"
    if result.check.get("agrees") is False:
        said += "; DISAGREES with the NumPy reference"
    if baseline:
        said += f"; baseline {baseline['name']} of {baseline['started'][:10]}"
    model = f"{result.model['name']}, {result.model['dtype']}"
    return f"{said}; {model}; run {result.run}, {result.elapsed_s:.1f} s"


def _notes(result: EvalResult) -> list[str]:
    notes = _gate(result).get("notes", [])
    return [
        *(f"note: {note}" for note in notes[:TOLD_LINES]),
        *_more(len(notes) - TOLD_LINES, "notes"),
    ]


def _figures(result: EvalResult) -> list[tuple[str, ...]]:
    """A line of the table for each metric, missing ones included: what fails before all else."""
    found = by_metric(result.gate)
    rows = []
    for task, of_task in result.tasks.items():
        for metric in of_task.metrics:
            finding = found.pop((task, metric.name), {})
            value = _with_error(figure(metric.value), metric.stderr)
            rows.append((task, metric.name, value, *_compared(finding)))
    rows += [(task, metric, "none", *_compared(of)) for (task, metric), of in found.items()]
    return sorted(rows, key=lambda row: not row[-1].isupper())


def _compared(finding: Found) -> tuple[str, str, str]:
    """What stands in the columns of the comparison."""
    before, change = finding.get("before"), finding.get("difference")
    verdict = finding.get("verdict", "")
    return (
        "" if before is None else figure(before),
        "" if change is None else _difference(change, finding.get("stderr")),
        verdict.upper() if verdict in FAILING else verdict,
    )


def _reasons(result: EvalResult) -> list[Found]:
    """Findings that fail the run; the table says enough of the others."""
    return [found for found in _gate(result).get("findings", []) if found["verdict"] in FAILING]


def _told_flips(flipped: Sequence[Found]) -> str:
    wrong = sum(not flip["is_correct"] for flip in flipped)
    return (
        f"flipped rows: {wrong:,} right before and wrong now, {len(flipped) - wrong:,} wrong "
        "before and right now"
    )


def _troubles(result: EvalResult) -> list[str]:
    """What is to be known beside the figures."""
    failed = [f"{task}: failed: {reason}" for task, reason in result.failed.items()]
    bad = [
        f"{task}: bad row: {row.where}: {row.reason}"
        for task, of_task in result.tasks.items()
        for row in of_task.bad_rows
    ]
    generation = result.check.get("generation") or {}
    offending = [*result.check.get("offending", []), *generation.get("offending", [])]
    lines = [f"check: {where}" for where in offending]
    return [
        line
        for some in (lines, failed, bad)
        for line in [*some[:TOLD_LINES], *_more(len(some) - TOLD_LINES, "such lines")]
    ]


def _more(n: int, what: str) -> list[str]:
    return [f"and {n:,} more {what}: see results.json"] if n > 0 else []


def _difference(change: float, stderr: float | None) -> str:
    return _with_error(f"{change:+.4g}", stderr) if change else "0"


def _with_error(value: str, stderr: float | None) -> str:
    return value if stderr is None else f"{value} ± {stderr:.2g}"


def _name(text: str) -> str:
    """In one line: of a group's metric, the data have a part."""
    return _start(printable(text).replace("\n", "\\n"), NAME_CHARACTERS)


def _start(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}…"


def _end(text: str, most: int) -> str:
    """Of a prompt, which goes on in what is expected."""
    return text if len(text) <= most else f"…{text[-most:]}"
