"""The fixed facts: the tables of `training.facts` in several phrasings, and small numbers."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from training import facts as f

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Row = tuple[str, ...]
Phrasing = tuple[str, str]

SMALL_WORDS = f.words("""zero; one; two; three; four; five; six; seven; eight; nine; ten; eleven;
twelve; thirteen; fourteen; fifteen; sixteen; seventeen; eighteen; nineteen""")
TENS = f.words("twenty; thirty; forty; fifty; sixty; seventy; eighty; ninety")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Fact:
    """One prompt with its one right answer; ``seen`` tells whether it is in the training text."""

    kind: str
    prompt: str
    answer: str
    seen: bool


def number_word(number: int) -> str:
    """The English words for 0 to 100."""
    if number < 20:
        return SMALL_WORDS[number]
    if number == 100:
        return "one hundred"
    tens, ones = divmod(number, 10)
    return TENS[tens - 2] + (f"-{SMALL_WORDS[ones]}" if ones else "")


def article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def capital(text: str) -> str:
    return text[0].upper() + text[1:]


class Builder:
    """Collects facts and decides, by the seed alone, which stay out of the training text."""

    def __init__(self, seed: int, share: float) -> None:
        self.seed = seed
        self.share = share
        self.facts: list[Fact] = []

    def _fill(self, template: str, row: Row) -> str:
        """Put a row into a template: {0} as it is, {C0} capitalised, {a0} with its article."""
        slots = {f"C{i}": capital(value) for i, value in enumerate(row) if value}
        slots |= {f"a{i}": article(value) for i, value in enumerate(row) if value}
        slots |= {f"A{i}": capital(article(value)) for i, value in enumerate(row) if value}
        return template.format(*row, **slots)

    def learned(self, kind: str, rows: Iterable[Row], phrasings: list[Phrasing]) -> None:
        """Facts to be known by heart.

        At most one phrasing of a row is held out, and only where another phrasing that asks for
        the same answer stays in: the fact is known, but its wording is new.
        """
        wanted = [answer for _, answer in phrasings]
        twins = [i for i, answer in enumerate(wanted) if wanted.count(answer) > 1]
        rng = random.Random(f"{self.seed} {kind} {phrasings[0][0]}")
        for row in rows:
            spare = rng.random() < self.share * len(phrasings) and twins
            out = rng.choice(twins) if spare else -1
            for i, (ask, answer) in enumerate(phrasings):
                self._add(kind, row, ask, answer, i != out)

    def computed(self, kind: str, rows: Iterable[Row], phrasings: list[Phrasing]) -> None:
        """Facts that follow a rule: any of them may be held out."""
        rng = random.Random(f"{self.seed} {kind} {phrasings[0][0]}")
        for row in rows:
            for ask, answer in phrasings:
                self._add(kind, row, ask, answer, rng.random() >= self.share)

    def _add(self, kind: str, row: Row, ask: str, answer: str, seen: bool) -> None:
        prompt, right = self._fill(ask, row), f" {self._fill(answer, row)}."
        self.facts.append(Fact(kind, prompt, right, seen))


def _world(b: Builder) -> None:
    b.learned("capitals", f.CAPITALS, [
        ("The capital of {0} is", "{1}"),
        ("What is the capital of {0}? It is", "{1}"),
        ("The capital city of {0} is called", "{1}"),
        ("Q: What is the capital of {0}? A:", "{1}"),
        ("{1} is the capital of", "{0}"),
        ("The country whose capital is {1} is", "{0}"),
    ])  # fmt: skip
    b.learned("continents", f.CONTINENTS, [
        ("{C0} lies in", "{1}"),
        ("The continent of {0} is", "{1}"),
        ("Q: On which continent is {0}? A:", "{1}"),
    ])  # fmt: skip
    planets = list(zip(f.ORDINALS, f.PLANETS, strict=False))
    b.learned("planets", planets, [
        ("The {0} planet from the Sun is", "{1}"),
        ("Q: Which is the {0} planet from the Sun? A:", "{1}"),
    ])  # fmt: skip
    b.learned("symbols", f.SYMBOLS, [
        ("The chemical symbol for {0} is", "{1}"),
        ("Q: What is the symbol for {0}? A:", "{1}"),
        ("The element with the symbol {1} is", "{0}"),
    ])  # fmt: skip


def _things(b: Builder) -> None:
    b.learned("colours", f.COLOURS_OF, [
        ("The colour of {0} is", "{1}"),
        ("What colour is {0}? It is", "{1}"),
        ("Q: What is the colour of {0}? A:", "{1}"),
    ])  # fmt: skip
    b.learned("categories", f.CATEGORIES, [
        ("{A0} is a kind of", "{1}"),
        ("What is {a0}? It is a", "{1}"),
        ("Q: What kind of thing is {a0}? A: a", "{1}"),
    ])  # fmt: skip
    b.learned("jobs", f.JOBS, [
        ("A person who {0} is", "{a1}"),
        ("Someone {0}. That person is", "{a1}"),
        ("Q: Who {0}? A:", "{a1}"),
    ])  # fmt: skip
    b.learned("purposes", f.PURPOSES, [
        ("To {0} we use", "{1}"),
        ("Q: What do we use to {0}? A:", "{1}"),
        ("If you want to {0}, you need", "{1}"),
    ])  # fmt: skip
    b.learned("senses", f.SENSES, [
        ("We {0} with our", "{1}"),
        ("To {0} we need our", "{1}"),
    ])  # fmt: skip
    b.learned("shapes", f.SHAPES, [
        ("{A0} has", "{1} sides"),
        ("The number of sides of {a0} is", "{1}"),
        ("Q: How many sides has {a0}? A:", "{1}"),
    ])  # fmt: skip
    b.learned("family", f.FAMILY, [
        ("My {0} is my", "{1}"),
        ("Q: What do you call your {0}? A: my", "{1}"),
    ])  # fmt: skip


def _animals(b: Builder) -> None:
    b.learned("young animals", f.YOUNG, [
        ("A young {0} is called", "{a1}"),
        ("Q: What is a young {0} called? A:", "{a1}"),
        ("{A1} grows up to be", "{a0}"),
    ])  # fmt: skip
    b.learned("animal sounds", f.SOUNDS, [
        ("The {0} says", "{1}"),
        ("What sound does {a0} make? It goes", "{1}"),
        ("Q: What does the {0} say? A:", "{1}"),
    ])  # fmt: skip
    b.learned("animal homes", f.HOMES, [
        ("The {0} lives in a", "{1}"),
        ("The home of {a0} is a", "{1}"),
        ("Q: Where does {a0} live? A: in a", "{1}"),
    ])  # fmt: skip
    b.learned("animal legs", f.LEGS, [
        ("{A0} has", "{1} legs"),
        ("How many legs does {a0} have? It has", "{1} legs"),
    ])  # fmt: skip


def _language(b: Builder) -> None:
    both_ways = f.OPPOSITES + [(right, left) for left, right in f.OPPOSITES]
    b.learned("opposites", both_ways, [
        ("The opposite of {0} is", "{1}"),
        ("What is the opposite of {0}? It is", "{1}"),
        ("Q: What is the opposite of {0}? A:", "{1}"),
        ("{C0} is the opposite of", "{1}"),
    ])  # fmt: skip
    b.learned("plurals", f.PLURALS, [
        ("One {0}, two", "{1}"),
        ("The plural of {0} is", "{1}"),
        ("Q: What is the plural of {0}? A:", "{1}"),
    ])  # fmt: skip
    b.learned("past tense", f.PAST, [
        ("Today I {0}. Yesterday I", "{1}"),
        ("The past tense of {0} is", "{1}"),
        ("Q: What is the past tense of {0}? A:", "{1}"),
    ])  # fmt: skip
    degrees: list[Row] = [tuple(line.split()) for line in f.DEGREES]
    b.learned("degrees", degrees, [
        ("{C0}, {1},", "{2}"),
        ("This one is {0}. That one is even", "{1}"),
        ("This one is {1}, but that one is the", "{2}"),
    ])  # fmt: skip
    b.learned("spelling", [(w, " ".join(w), w[0]) for w in f.SPELLED], [
        ("The word {0} is spelled", "{1}"),
        ("How do you spell {0}? You spell it", "{1}"),
        ("The word {0} begins with the letter", "{2}"),
    ])  # fmt: skip


def _ring(names: list[str]) -> Iterator[Row]:
    """Rows of five neighbours around a ring: two before, one before, itself, one and two after."""
    for i, _ in enumerate(names):
        yield tuple(names[(i + step) % len(names)] for step in (-2, -1, 0, 1, 2))


def _calendar(b: Builder) -> None:
    b.learned("days", _ring(f.DAYS), [
        ("The day after {2} is", "{3}"),
        ("The day before {2} is", "{1}"),
        ("Two days after {2} it is", "{4}"),
        ("Two days before {2} it is", "{0}"),
        ("Today is {2}. Tomorrow is", "{3}"),
        ("Today is {2}. Yesterday was", "{1}"),
        ("If yesterday was {2}, today is", "{3}"),
        ("If tomorrow is {2}, today is", "{1}"),
        ("{1}, {2},", "{3}"),
        ("Between {1} and {3} comes", "{2}"),
    ])  # fmt: skip
    b.learned("months", _ring(f.MONTHS), [
        ("The month after {2} is", "{3}"),
        ("The month before {2} is", "{1}"),
        ("Two months after {2} it is", "{4}"),
        ("Two months before {2} it is", "{0}"),
        ("This month is {2}. Next month is", "{3}"),
        ("This month is {2}. Last month was", "{1}"),
        ("{1}, {2},", "{3}"),
        ("Between {1} and {3} comes", "{2}"),
    ])  # fmt: skip
    b.learned("months", zip(f.ORDINALS, f.MONTHS, strict=True), [
        ("The {0} month of the year is", "{1}"),
        ("Q: Which is the {0} month of the year? A:", "{1}"),
    ])  # fmt: skip
    b.learned("months", f.MONTH_DAYS, [
        ("The number of days in {0} is", "{1}"),
        ("How many days has {0}? It has", "{1}"),
    ])  # fmt: skip
    b.learned("seasons", _ring(f.SEASONS), [
        ("The season after {2} is", "{3}"),
        ("The season before {2} is", "{1}"),
        ("When {2} ends, the next season is", "{3}"),
    ])  # fmt: skip
    b.learned("seasons", f.MONTH_SEASONS, [
        ("In the north, {0} is a month of", "{1}"),
        ("North of the equator {0} belongs to", "{1}"),
    ])  # fmt: skip


def _numbers(b: Builder) -> None:
    triples: list[Row] = [
        (*map(number_word, (n - 1, n, n + 1)), *map(str, (n - 1, n, n + 1))) for n in range(1, 100)
    ]
    b.computed("number words", triples, [
        ("The number after {1} is", "{2}"),
        ("The number before {1} is", "{0}"),
        ("The number {1} in digits is", "{4}"),
        ("The number {4} in words is", "{1}"),
        ("Between {0} and {2} comes", "{1}"),
    ])  # fmt: skip
    b.computed("counting", triples, [
        ("The number after {4} is", "{5}"),
        ("The number before {4} is", "{3}"),
        ("Between {3} and {5} comes", "{4}"),
    ])  # fmt: skip
    ten = range(21)
    sums: list[Row] = [(str(x), str(y), str(x + y)) for x in ten for y in ten]
    b.computed("sums", sums, [("{0} + {1} =", "{2}")])
    b.computed("differences", [(z, x, y) for x, y, z in sums if int(z) <= 20], [
        ("{0} - {1} =", "{2}"),
    ])  # fmt: skip
    spoken: list[Row] = [
        tuple(map(number_word, (x, y, x + y))) for x in range(11) for y in range(11)
    ]
    b.computed("sums in words", spoken, [("{C0} plus {1} is", "{2}")])
    times: list[Row] = [(str(x), str(y), str(x * y)) for x in range(1, 13) for y in range(1, 13)]
    b.computed("products", times, [("{0} x {1} =", "{2}")])
    runs: list[Row] = [
        (", ".join(str(first + step * i) for i in range(4)), str(first + step * 4))
        for step in (-3, -2, -1, 1, 2, 3, 4, 5, 10)
        for first in range(30)
        if 0 <= first + step * 4 <= 60
    ]
    b.computed("sequences", runs, [("{0},", "{1}")])
    alphabet: list[Row] = [tuple(LETTERS[i : i + 5]) for i in range(len(LETTERS) - 4)]
    b.learned("alphabet", alphabet, [
        ("The letter after {2} is", "{3}"),
        ("The letter before {2} is", "{1}"),
        ("In the alphabet {2} is followed by", "{3}"),
        ("{0}, {1}, {2},", "{3}"),
        ("Between {1} and {3} comes", "{2}"),
    ])  # fmt: skip


def fixed_facts(seed: int, share: float) -> list[Fact]:
    """All facts but the stories, about ``share`` of them marked as not seen."""
    builder = Builder(seed, share)
    for part in (_world, _things, _animals, _language, _calendar, _numbers):
        part(builder)
    return builder.facts
