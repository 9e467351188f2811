"""What messages show of other people's data: short, and harmless to a terminal."""

from typing import Any

SHOWN_CHARACTERS = 40
LONGEST_MESSAGE = 2000
ENDS_WITH = 400  # characters at its end, where it says what to do


def printable(text: str) -> str:
    """A text without characters that a terminal would obey, but for the end of a line."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def shown(value: Any) -> str:
    """A value in ASCII, cut where it is long."""
    if value is None:
        return "null"
    try:
        text = ascii(value[: SHOWN_CHARACTERS + 1] if isinstance(value, (str, bytes)) else value)
    except (RecursionError, ValueError):  # nesting and numbers that JSON takes, and `ascii` not
        return f"a {type(value).__name__}"
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."


def quoted(value: Any) -> str:
    """A value as text in quotes, cut where it is long."""
    try:
        return repr(str(value)[:SHOWN_CHARACTERS])
    except (RecursionError, ValueError):  # nesting and numbers that JSON takes, and `ascii` not
        return f"a {type(value).__name__}"


def message(text: str) -> str:
    """A message as it may be shown, without its middle where it is very long."""
    if len(text) > LONGEST_MESSAGE:
        text = f"{text[: LONGEST_MESSAGE - ENDS_WITH]} ... {text[-ENDS_WITH:]}"
    return printable(text)
