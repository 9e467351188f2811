"""Public formats of data sets: a row of a file -> what a task asks.

References
----------
Paperno et al. 2016 (LAMBADA); Zellers et al. 2019 (HellaSwag); Warstadt et al. 2020 (BLiMP);
Hill et al. 2016 (Children's Book Test); Merity et al. 2017 (WikiText).
EleutherAI, lm-evaluation-harness 0.4.13: how HellaSwag is cleaned and WikiText put together again.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from runner.messages import is_unicode, shown, shown_names

GAP = "XXXXX"  # stands for the missing word in CBT

# What is left of WikiHow's mark-up in HellaSwag.
TITLE = " [title]"
BRACKETED = re.compile(r"\[.*?\]")

# How WikiText's tokens are put together again, one step after the other. (The harness has one step
# more, for a digit between slashes, which is there by mistake.)
SPACED_MARKS = [
    ("s '", "s'"),
    (" @-@ ", "-"),
    (" @,@ ", ","),
    (" @.@ ", "."),
    *((f" {mark} ", f"{mark} ") for mark in ":;.!?,"),
]
# White space at both ends of what is enclosed is stripped apart: a pattern that skips it takes the
# third power of its length where nothing closes.
ENCLOSED = [
    re.compile(pattern)
    for pattern in (r"\([^)]*\)", r"\[[^\]]*\]", r"{[^}]*}", '"[^"]*"', "'[^']*'")
]
SPACED_OTHERS = [
    ("= = = =", "===="),
    ("= = =", "==="),
    ("= =", "=="),
    (" \N{DEGREE SIGN} ", "\N{DEGREE SIGN}"),
    (" \n", "\n"),
    ("\n ", "\n"),
    (" N ", " 1 "),
    (" 's", "'s"),
]


class RowError(ValueError):
    """What is wrong with a row: what was found, and what was expected."""


@dataclass(frozen=True)
class Text:
    """A text to be scored.

    Attributes
    ----------
    text : str
        As the model is given it.
    original : str
        As its words and bytes are counted.
    """

    text: str
    original: str


@dataclass(frozen=True)
class Question:
    """A context, what may follow it, and which of that does.

    Attributes
    ----------
    context : str
        May be empty.
    choices : tuple of str
        Without the space in front of them.
    label : int
        The right choice, from 0.
    """

    context: str
    choices: tuple[str, ...]
    label: int


@dataclass(frozen=True)
class Prompted:
    """A prompt, and the completions that are right.

    Attributes
    ----------
    prompt : str
    answers : tuple of str
        At least one; any of them will do.
    group : str
        What the row is counted with; empty where there are no groups.
    """

    prompt: str
    answers: tuple[str, ...]
    group: str


@dataclass(frozen=True)
class Format:
    """How a row becomes a document.

    Attributes
    ----------
    columns : tuple of str
        That a row has to have; the first holds text.
    document : callable
        Makes of them a document, a dataclass; raises RowError.
    optional_columns : tuple of str
        That a row may have.
    """

    columns: tuple[str, ...]
    document: Callable[[Mapping[str, Any]], Any]
    optional_columns: tuple[str, ...] = ()


def plain(row: Mapping[str, Any]) -> Text:
    """A text as it is."""
    text = string(row, "text")
    return Text(text, text)


def question(row: Mapping[str, Any]) -> Question:
    """Columns `context`, `choices` and `label`: the place of the right one, from 0, or its text."""
    choices, label = strings(row, "choices"), row["label"]
    if isinstance(label, str) and label in choices:
        label = choices.index(label)
    return _question(string(row, "context"), choices, label)


def prompted(row: Mapping[str, Any]) -> Prompted:
    """Columns `prompt`, `answer`, a text or a list of them, and maybe `group`."""
    answer = row["answer"]
    answers = strings(row, "answer") if isinstance(answer, list) else [string(row, "answer")]
    if not answers:
        raise RowError('"answer" is an empty list; expected at least one string')
    group = row.get("group")
    named = group if isinstance(group, str) else "" if group is None else str(group)
    return Prompted(string(row, "prompt"), tuple(answers), named)


def hellaswag(row: Mapping[str, Any]) -> Question:
    """An activity and how it begins; four ways in which it may go on."""
    begun = f"{string(row, 'ctx_a')} {string(row, 'ctx_b').capitalize()}"
    choices = [without_markup(ending) for ending in strings(row, "endings")]
    context = without_markup(f"{string(row, 'activity_label')}: {begun}")
    return _question(context, choices, row["label"])


def blimp(row: Mapping[str, Any]) -> Question:
    """Two sentences, the first of which is good English."""
    return Question("", (string(row, "sentence_good"), string(row, "sentence_bad")), 0)


def cbt(row: Mapping[str, Any]) -> Question:
    """A story and a sentence with a gap: each option with what comes after the gap."""
    before, gap, after = string(row, "question").partition(GAP)
    if not gap:
        raise RowError(f'"question" has no {GAP}; expected one, where the word is missing')
    options, answer = strings(row, "options"), string(row, "answer")
    if answer not in options:
        raise RowError(f'"answer" is {shown(answer)}; expected one of {shown_names(options)}')
    context = " ".join([*strings(row, "sentences"), before]).rstrip()
    return _question(context, [option + after for option in options], options.index(answer))


def wikitext(row: Mapping[str, Any]) -> Text:
    """A page in WikiText's tokens, which are put together; words and bytes are the page's."""
    page = string(row, "page")
    return Text(without_token_spaces(page), page)


def without_markup(text: str) -> str:
    """A text of HellaSwag as the harness cleans it."""
    return BRACKETED.sub("", text.strip().replace(TITLE, ". ")).replace("  ", " ")


def without_token_spaces(page: str) -> str:
    """A page of WikiText with the white space of ordinary English, as the harness makes it."""
    for spaced, joined in SPACED_MARKS:
        page = page.replace(spaced, joined)
    for pattern in ENCLOSED:
        page = pattern.sub(enclosed, page)
    for spaced, joined in SPACED_OTHERS:
        page = page.replace(spaced, joined)
    return page


def enclosed(match: re.Match[str]) -> str:
    """What is between two marks, without white space at its ends."""
    found = match[0]
    return found[0] + found[1:-1].strip() + found[-1]


def string(row: Mapping[str, Any], column: str) -> str:
    """The text in a column."""
    value = row[column]
    if not isinstance(value, str):
        raise RowError(f'"{column}" is {shown(value)}; expected a string')
    if not is_unicode(value):
        raise RowError(f'"{column}" has a lone surrogate; expected Unicode text')
    return value


def strings(row: Mapping[str, Any], column: str) -> list[str]:
    """The texts in a column."""
    value = row[column]
    if not isinstance(value, list):
        raise RowError(f'"{column}" is {shown(value)}; expected a list of strings')
    return [string({column: item}, column) for item in value]


def _question(context: str, choices: list[str], label: Any) -> Question:
    if len(choices) < 2:
        raise RowError(f"{len(choices)} choices; expected at least two")
    number = int(label) if isinstance(label, str) and label.isdecimal() else label
    if type(number) is not int or not 0 <= number < len(choices):
        raise RowError(f'"label" is {shown(label)}; expected 0 to {len(choices) - 1}')
    if not all(choices):
        raise RowError("an empty choice; expected text in each")
    return Question(context, tuple(choices), number)


TEXT = "text"  # the format of files that are no rows

FORMATS: dict[str, Format] = {
    "lambada": Format(("text",), plain),
    "hellaswag": Format(("ctx_a", "ctx_b", "activity_label", "endings", "label"), hellaswag),
    "blimp": Format(("sentence_good", "sentence_bad"), blimp),
    "cbt": Format(("question", "sentences", "options", "answer"), cbt),
    "wikitext": Format(("page",), wikitext),
    TEXT: Format(("text",), plain),
}
