"""Text of any origin in GitHub's markdown, where it must stay text."""

import re
from collections.abc import Sequence

from runner.messages import printable

# What may be markup, or make a link. A reference to a character never is: so says CommonMark.
MARKUP = re.compile(r"[!#$&()*+:<>@\[\\\]^_`{|}~]|(?<![0-9])[.-]|[.-](?![0-9])")
REFERENCES = {"@": "&#64;<!-- -->"}  # it would make an address of what is around it even so
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
    one_line = printable(LINE_END.sub("⏎", text))
    return MARKUP.sub(lambda found: REFERENCES.get(found[0], f"&#{ord(found[0])};"), one_line)


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
