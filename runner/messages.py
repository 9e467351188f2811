"""Values of the user's data as messages show them: short, and harmless to a terminal."""

from collections.abc import Iterable
from itertools import islice

from reference.messages import SHOWN_CHARACTERS, printable, shown

__all__ = ["counted", "cut", "for_terminal", "is_unicode", "printable", "shown", "shown_names"]

SHOWN_NAMES = 20
SHOWN_AS_THEY_ARE = "\t\u200c\u200d"  # the last two join letters of scripts, and emoji
SAID_CHARACTERS = 240


def shown_names(names: Iterable[str]) -> str:
    """Names of columns, some of them where they are many."""
    some = [
        name if name.isprintable() and len(name) <= SHOWN_CHARACTERS else shown(name)
        for name in islice(names, SHOWN_NAMES + 1)
    ]
    return ", ".join([*some[:SHOWN_NAMES], *(["..."] if len(some) > SHOWN_NAMES else [])])


def counted(n: int, what: str) -> str:
    """A number of things: 1 node, 1,000 nodes."""
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def cut(text: str) -> str:
    """What another library says, which may hold a value in full."""
    return text if len(text) <= SAID_CHARACTERS else f"{text[:SAID_CHARACTERS]}..."


def first_line(error: Exception) -> str:
    """The start of what another library raised."""
    return cut(str(error).split("\n", maxsplit=1)[0].rstrip("."))


def for_terminal(text: str) -> str:
    """Any text as a terminal may show it: with its lines, tabs and joined signs, without escapes.

    A piece of a text is shown as it is in the whole: characters are looked at one by one.
    """
    return "".join(c if c in SHOWN_AS_THEY_ARE else printable(c) for c in text)


def is_unicode(text: str) -> bool:
    """Whether a text has no lone surrogate, and so can be written as UTF-8."""
    return not any(0xD800 <= ord(letter) <= 0xDFFF for letter in text)
