"""Text of any origin in GitHub's markdown, where it must stay text."""

import re
from collections.abc import Sequence

from runner.messages import printable

# Besides letters and digits; all else may be markup, or make a link. References to characters never
# are: so says CommonMark.
HARMLESS = " ,;%?=/'\""
LINE_END = re.compile(r"\r\n?|\n")


def plain(text: str, most: int | None = None) -> str:
    """A text that shows as it is, in one line, whatever it holds.

    Parameters
    ----------
    text : str
    most : int, optional
        Characters to keep; of a longer one the end is left out.
    """
    if most is not None and len(text) > most:
        text = f"{text[:most]}…"
    one_line = LINE_END.sub("⏎", text)
    return "".join(
        c if c.isalnum() or c in HARMLESS or ord(c) > 127 else f"&#{ord(c)};"
        for c in printable(one_line)
    )


def code(text: str, most: int | None = None) -> str:
    """The same in fixed width, where nobody is mentioned either."""
    return f"<code>{plain(text, most)}</code>"


def table(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Lines of a table, its header first; cells are markdown already.

    Parameters
    ----------
    rows : sequence of sequence of str
        Cells; all rows have as many.
    right : sequence of int
        Columns of numbers.
    """
    rule = ["---:" if n in right else "---" for n in range(len(rows[0]))]
    return [f"| {' | '.join(row)} |" for row in (rows[0], rule, *rows[1:])]
