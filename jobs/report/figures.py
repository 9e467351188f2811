"""Numbers, times and texts as a page shows them."""

import datetime as dt
import math
import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

from runner.messages import for_terminal

MINUS = "\N{MINUS SIGN}"
NONE = "\N{EN DASH}"
MOST_CHARACTERS = 800  # of a text; of a longer one the end is kept, where the question is
START_CHARACTERS = 200
WORDS = re.compile(r"\w+|\s+|[^\w\s]")


def figure(value: float | None, stderr: float | None = None) -> str:
    """A number with the digits that its standard error leaves it: two of them doubtful."""
    if value is None or math.isnan(value):
        return NONE
    if math.isinf(value):
        return f"{MINUS if value < 0 else ''}infinite"
    return number(value, places(value, stderr))


def number(value: float, decimals: int) -> str:
    if value and (abs(value) >= 1e9 or decimals > 6):
        digits, exponent = f"{value:.2e}".split("e")
        return f"{digits}e{int(exponent)}".replace("-", MINUS)
    text = f"{value:,.{decimals}f}"
    return text.replace("-", MINUS if float(text.replace(",", "")) else "")


def places(value: float, stderr: float | None) -> int:
    """Decimals to show."""
    if stderr and math.isfinite(stderr):
        return max(0, 1 - math.floor(math.log10(stderr)))
    if value == int(value) and abs(value) < 1e9:
        return 0
    return max(0, 3 - math.floor(math.log10(abs(value))))


def error(value: float | None, stderr: float | None) -> str:
    """A standard error beside its value, with as many decimals; empty where there is none."""
    if not stderr or value is None or not math.isfinite(stderr):
        return ""
    return number(stderr, places(value, stderr))


def differing(difference: float | None, stderr: float | None, value: float | None) -> str:
    """A difference with its sign: with the decimals of its error, or else with the value's."""
    if difference is None or not math.isfinite(difference):
        return NONE
    decimals = places(difference, stderr)
    if not stderr and value and math.isfinite(value):
        decimals = places(value, None) or decimals
    shown = number(difference, decimals)
    return f"+{shown}" if difference > 0 and shown.strip("0.") else shown


def plural(n: int, name: str) -> str:
    return f"{n:,} {name}{'' if n == 1 else 's'}"


def day(moment: dt.datetime) -> str:
    return f"{moment.day} {moment:%B %Y}"


def minute(moment: dt.datetime) -> str:
    return f"{moment:%A}, {day(moment)}, {moment:%H:%M} UTC"


def duration(seconds: float) -> str:
    """Seconds below a hundred; minutes and hours above."""
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def size(n_bytes: float) -> str:
    """Bytes, in the unit that suits them."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if n_bytes < 1024 or unit == "GiB":
            break
        n_bytes /= 1024
    return f"{n_bytes:,.0f} {unit}" if unit == "bytes" else f"{n_bytes:,.1f} {unit}"


def clean(text: str, most: int = MOST_CHARACTERS) -> str:
    """A text of any origin: not long, and without characters that rule how others are shown."""
    if len(text) > most:
        start = min(START_CHARACTERS, most // 4)
        left_out = len(text) - most
        text = f"{text[:start]} [... {left_out:,} characters ...] {text[start + left_out :]}"
    return for_terminal(text)


class Piece(NamedTuple):
    """Text that is marked as a whole, or not."""

    text: str
    is_marked: bool


def unindented(*texts: str) -> list[str]:
    """Texts without the space that each of them begins with: a word of GPT-2's has its own."""
    some = [text for text in texts if text]
    if not all(text.startswith(" ") for text in some):
        return list(texts)
    return [text.removeprefix(" ") for text in texts]


def compared(before: str, after: str) -> tuple[list[Piece], list[Piece]]:
    """Two texts in pieces, the words marked that only one of them has."""
    old, new = WORDS.findall(clean(before)), WORDS.findall(clean(after))
    steps = SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    return (
        pieces([(old[step[1] : step[2]], step[0] != "equal") for step in steps]),
        pieces([(new[step[3] : step[4]], step[0] != "equal") for step in steps]),
    )


def pieces(runs: Sequence[tuple[Sequence[str], bool]]) -> list[Piece]:
    return [Piece("".join(words), is_marked) for words, is_marked in runs if words]
