"""One row, whatever it came from; and ranges of rows over several files."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, TypeAlias, TypeVar

from .errors import NoColumnError
from .messages import shown, shown_names
from .records import Reject, Request

MAX_NEW_TOKENS = "max_new_tokens"  # the column that overrides the setting per row
CHUNK_ROWS = 1024  # rows in memory at a time
CHUNK_BYTES = 1 << 24  # of them in memory at a time, however few rows they are

Row: TypeAlias = Request | Reject
T = TypeVar("T")


def make_row(row: int, where: str, column: str, prompt: Any, limit: Any) -> Row:
    """A request, or a reject that says what is wrong with the prompt or its limit."""
    reason = _prompt_fault(column, prompt) or _limit_fault(limit)
    return Reject(row, where, reason) if reason else Request(row, where, prompt, limit)


def _prompt_fault(column: str, prompt: Any) -> str | None:
    if isinstance(prompt, str):
        return None
    if isinstance(prompt, list):
        bad = next((i for i, token in enumerate(prompt) if type(token) is not int), None)
        if bad is None:
            return None
        return f"{column!r} holds {shown(prompt[bad])} at {bad}; expected token ids, integers only"
    if isinstance(prompt, bytes):
        return f"{column!r} is not valid UTF-8; expected text"
    return f"{column!r} is {shown(prompt)}; expected a string or a list of token ids"


def _limit_fault(limit: Any) -> str | None:
    if limit is None or (type(limit) is int and 0 <= limit < 2**63):
        return None
    return f"{MAX_NEW_TOKENS!r} is {shown(limit)}; expected a whole number, 0 to 2**63 - 1"


def no_column(name: str, column: str, columns: list[str]) -> NoColumnError:
    """What is said where no file has the prompts."""
    return NoColumnError(
        f"{name}: no column {column!r}; its columns are {shown_names(columns) or 'none'}.",
        "Pass --prompt-column with one of them.",
    )


def overlaps(ranges: Sequence[range], first: int, n_rows: int) -> list[tuple[int, range]]:
    """What ranges have in common with some rows, each part with the place of its range.

    Parameters
    ----------
    ranges : sequence of range
        Ascending and disjoint, none of them empty.
    first, n_rows : int
        The rows.
    """
    found = []
    for place in range(bisect_right(ranges, first, key=lambda r: r.stop), len(ranges)):
        start, stop = ranges[place].start, ranges[place].stop
        if n_rows == 0 or start >= first + n_rows:
            break
        found.append((place, range(max(start, first), min(stop, first + n_rows))))
    return found


def spanned(firsts: Sequence[int], ranges: Sequence[range]) -> range:
    """The stretches from the one where some rows begin to the one where they end.

    Parameters
    ----------
    firsts : sequence of int
        Where each of several stretches of rows begins, and where the last one ends.
    ranges : sequence of range
        Ascending, none of them empty; rows before and behind all stretches are left out.
    """
    if not ranges:
        return range(0)
    start = bisect_right(firsts, ranges[0].start) - 1
    stop = bisect_left(firsts, ranges[-1].stop)
    return range(max(start, 0), min(stop, len(firsts) - 1))


def within(ranges: Sequence[range], n_rows: int) -> list[range]:
    """Ranges as far as there are rows, without empty ones."""
    kept = [range(max(r.start, 0), min(r.stop, n_rows)) for r in ranges]
    kept = [r for r in kept if r]
    assert all(a.stop <= b.start for a, b in pairwise(kept)), "ranges overlap"
    return kept


def chunked(
    items: Iterable[T],
    most_rows: int,
    n_bytes: Callable[[T], int],
    n_rows: Callable[[T], int] = lambda _: 1,
) -> Iterator[list[T]]:
    """Items in lists that end as soon as they hold `most_rows` or `CHUNK_BYTES`."""
    chunk: list[T] = []
    rows = size = 0
    for item in items:
        chunk.append(item)
        rows, size = rows + n_rows(item), size + n_bytes(item)
        if rows >= most_rows or size >= CHUNK_BYTES:
            yield chunk
            chunk, rows, size = [], 0, 0
    if chunk:
        yield chunk
