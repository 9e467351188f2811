"""Tokens beside the vocabulary's: texts that are found before a text is cut into words."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import regex


@dataclass(frozen=True)
class AddedToken:
    """A text that is one token whatever the merges say.

    Attributes
    ----------
    content : str
        The text.
    token_id : int
        Its id.
    special : bool
        Whether it is read as a token only on request; others always are.
    normalized : bool
        Whether it is looked for only in what the others have left, as the `tokenizers` package
        does with tokens of that flag.
    """

    content: str
    token_id: int
    special: bool
    normalized: bool = False


def patterns(tokens: Iterable[AddedToken]) -> list[Any]:
    """What finds added tokens, in the order in which they are looked for."""
    contents: dict[bool, list[str]] = {False: [], True: []}
    for token in tokens:
        contents[token.normalized].append(token.content)
    return [regex.compile(_longest_first(texts, 2)) for texts in contents.values() if texts]


def _longest_first(texts: Sequence[str], depth: int) -> str:
    """A pattern for any of the texts, the longest where several begin.

    Grouped by their first letters: a plain list of thousands would be tried at every place.
    """
    if depth == 0:
        return "|".join(map(regex.escape, sorted(texts, key=len, reverse=True)))
    rests: dict[str, list[str]] = {}
    for text in texts:
        rests.setdefault(text[:1], []).append(text[1:])
    ended = rests.pop("", None)
    groups = [
        f"{regex.escape(first)}(?:{_longest_first(rest, depth - 1)})"
        for first, rest in rests.items()
    ]
    return "|".join([*groups, *([""] if ended else [])])
