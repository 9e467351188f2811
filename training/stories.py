"""Seeded story templates whose last words must be copied, or worked out, from the story itself.

A story is drawn from words that are combined freely, but for about a tenth of the pairs (an object
and its colour, a name and a place, ...): those are *held out*.  No training story puts such a pair
together, and every ``seen=False`` story asks about one.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from training.facts import words

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = words("""Anna; Ben; Clara; David; Emma; Felix; Grace; Henry; Iris; Jack; Kate; Leo; Mia;
Noah; Olive; Paul; Rosa; Sam; Tom; Vera; Will; Zoe""")
OBJECTS = words("""kite; ball; hat; cup; book; bag; boat; drum; lamp; scarf; coat; box; bell; chair;
bike; doll; cap; flag; ribbon; pencil""")
COLOURS = words("red; blue; green; yellow; white; black; brown; pink; purple; grey")
PLACES = words("""kitchen; garden; barn; library; park; school; market; forest; cellar; attic;
museum; bakery; harbour; church; tower; meadow""")
SMALL = words("key; coin; ring; button; stamp; shell; letter; ticket; pebble; feather; map; nut")
HOLDERS = words("jar; basket; drawer; pocket; tin; chest; bucket; sack; bowl; case; purse; crate")
LIKED = words("""apples; pears; plums; cherries; grapes; lemons; peaches; carrots; beans; peas;
nuts; figs; mangoes; olives""")
EVERY_WORD = sorted({*NAMES, *OBJECTS, *COLOURS, *PLACES, *SMALL, *HOLDERS, *LIKED})
ADJECTIVES = words("older; taller; faster; stronger; louder; richer; younger; shorter")
SUPERLATIVES = {
    "older": "oldest", "taller": "tallest", "faster": "fastest", "stronger": "strongest",
    "louder": "loudest", "richer": "richest", "younger": "youngest", "shorter": "shortest",
}  # fmt: skip
FILLERS = words("""
The sun was warm and the sky was clear.; It rained a little in the night.; A dog slept by the door.;
The wind moved the tall grass.; Somewhere a clock struck three.; The birds sang in the old oak.;
Nobody was in a hurry.; There was fresh bread on the table.; The road was quiet that day.;
A cat watched from the wall.; The river ran slowly past the mill.; Far away a train went by.;
Smoke rose from the chimney.; The leaves were turning gold.; Snow lay on the roof.;
A small lantern burned at the gate.; The children laughed for a long time.; The tea was still hot.;
Two boats went out to sea.; The baker waved from his window.; Bees hummed among the flowers.;
The path led over a low hill.; A gull cried above the water.; The stars came out one by one.;
Old songs came from the inn.; The gate was left open.; Everyone was glad to be there.;
A cart rolled down the lane.; The moon stood over the hill.; The soup smelled of herbs.""")
OPENINGS = words("""
One fine morning the friends met early.; It was the last week of the holidays.;
Long ago there was a small village by the sea.; This is a story about a quiet day.;
On the first day of spring the village woke up.; It was a cold evening in the north.;
Once there was a house at the end of the lane.; The fair came to town that week.;
After the storm the air was cool.; Everyone had come home for the feast.""")

Pair = tuple[str, str]


@dataclass(frozen=True)
class Story:
    kind: str
    prompt: str
    answer: str


@dataclass(frozen=True)
class HeldOut:
    """The pairs that no training story may hold, one set for each sort of pair."""

    pairs: dict[str, list[Pair]]

    def has(self, sort: str, pair: Pair) -> bool:
        return pair in self.pairs[sort]


def hold_out(seed: int, share: float) -> HeldOut:
    """Choose the held-out pairs; every word keeps most of its partners."""
    sorts = {
        "object colour": (OBJECTS, COLOURS),
        "name object": (NAMES, OBJECTS),
        "name place": (NAMES, PLACES),
        "name liked": (NAMES, LIKED),
        "small holder": (SMALL, HOLDERS),
        "name name": (NAMES, NAMES),
        "word word": (EVERY_WORD, EVERY_WORD),
    }
    chosen: dict[str, list[Pair]] = {}
    for sort, (lefts, rights) in sorts.items():
        every = [(a, b) for a in lefts for b in rights if a != b]
        rng = random.Random(f"{seed} held out {sort}")
        chosen[sort] = sorted(rng.sample(every, round(share * len(every))))
    return HeldOut(chosen)


class Teller:
    """Draws stories; with ``unseen`` the pair asked about is held out, else no pair is."""

    def __init__(self, rng: random.Random, held_out: HeldOut, unseen: bool) -> None:
        self.rng = rng
        self.held_out = held_out
        self.unseen = unseen

    def _match(self, sort: str, lefts: list[str], rights: list[str], count: int) -> list[Pair]:
        """``count`` pairs of distinct lefts and rights, in any order; pair 0 is asked about."""
        while True:
            chosen = list(
                zip(self.rng.sample(lefts, count), self.rng.sample(rights, count), strict=True)
            )
            if self.unseen:
                asked = self.rng.choice(self.held_out.pairs[sort])
                chosen[0] = asked
            distinct = len({a for a, _ in chosen}) == len({b for _, b in chosen}) == count
            mixed = any(a == b for a, b in chosen)
            rest = chosen[1:] if self.unseen else chosen
            if distinct and not mixed and not any(self.held_out.has(sort, pair) for pair in rest):
                return chosen

    def _shuffled(self, sentences: list[str]) -> str:
        self.rng.shuffle(sentences)
        return " ".join(sentences)

    def colour(self) -> Story:
        count = self.rng.choice([2, 2, 3, 4])
        things = self._match("object colour", OBJECTS, COLOURS, count)
        names = self.rng.sample(NAMES, count)
        while any(
            self.held_out.has("name object", (n, t[0])) for n, t in zip(names, things, strict=True)
        ):
            names = self.rng.sample(NAMES, count)
        (thing, shade), name = things[0], names[0]
        lines = [f"{n} has a {c} {o}." for n, (o, c) in zip(names, things, strict=True)]
        ask, answer = self.rng.choice(
            [
                (f"The {thing} is", f" {shade}."),
                (f"What colour is the {thing}? It is", f" {shade}."),
                (f"The colour of the {thing} is", f" {shade}."),
                (f"The {shade} thing is a", f" {thing}."),
                (f"What does {name} have? {name} has a", f" {shade} {thing}."),
            ]
        )
        return Story("story: colour", f"{self._shuffled(lines)} {ask}", answer)

    def owner(self) -> Story:
        owned = self._match("name object", NAMES, OBJECTS, self.rng.choice([2, 3, 4]))
        name, thing = owned[0]
        verb = self.rng.choice(["has", "brought", "found", "made", "bought"])
        lines = [f"{n} {verb} a {o}." for n, o in owned]
        ask, answer = self.rng.choice(
            [
                (f"The {thing} belongs to", f" {name}."),
                (f"Who {verb} the {thing}? It was", f" {name}."),
                (f"What is with {name}? It is the", f" {thing}."),
            ]
        )
        return Story("story: owner", f"{self._shuffled(lines)} {ask}", answer)

    def place(self) -> Story:
        where = self._match("name place", NAMES, PLACES, self.rng.choice([2, 3, 4]))
        name, place = where[0]
        verb = self.rng.choice(["is", "waits", "works", "sits"])
        lines = [f"{n} {verb} in the {p}." for n, p in where]
        ask, answer = self.rng.choice(
            [
                (f"Where is {name}? {name} is in the", f" {place}."),
                (f"To find {name}, go to the", f" {place}."),
                (f"The one in the {place} is", f" {name}."),
            ]
        )
        return Story("story: place", f"{self._shuffled(lines)} {ask}", answer)

    def journey(self) -> Story:
        """Someone walks from place to place; the last place counts."""
        name, last = self._match("name place", NAMES, PLACES, 1)[0]
        allowed = [
            p for p in PLACES if p != last and not self.held_out.has("name place", (name, p))
        ]
        stops = [*self.rng.sample(allowed, self.rng.choice([1, 2, 3])), last]
        lines = [f"{name} went to the {stops[0]}."]
        lines += [f"Then {name} went to the {stop}." for stop in stops[1:]]
        ask = f"Now {name} is in the"
        return Story("story: journey", f"{' '.join(lines)} {ask}", f" {last}.")

    def taste(self) -> Story:
        likes = self._match("name liked", NAMES, LIKED, self.rng.choice([2, 3, 4]))
        name, food = likes[0]
        lines = [f"{n} likes {f}." for n, f in likes]
        ask, answer = self.rng.choice(
            [
                (f"The one who likes {food} is", f" {name}."),
                (f"What does {name} like? {name} likes", f" {food}."),
                (f"We give the {food} to", f" {name}."),
            ]
        )
        return Story("story: taste", f"{self._shuffled(lines)} {ask}", answer)

    def hidden(self) -> Story:
        kept = self._match("small holder", SMALL, HOLDERS, self.rng.choice([2, 3, 4]))
        thing, holder = kept[0]
        lines = [f"The {s} is in the {h}." for s, h in kept]
        ask, answer = self.rng.choice(
            [
                (f"To find the {thing}, look in the", f" {holder}."),
                (f"Where is the {thing}? It is in the", f" {holder}."),
                (f"In the {holder} there is a", f" {thing}."),
            ]
        )
        return Story("story: hidden", f"{self._shuffled(lines)} {ask}", answer)

    def gift(self) -> Story:
        """A thing is handed on; the last pair (giver, taker) is the one asked about."""
        giver, taker = self._match("name name", NAMES, NAMES, 1)[0]
        thing = self.rng.choice(OBJECTS)
        lines = [f"{giver} gives the {thing} to {taker}."]
        first = giver
        if self.rng.random() < 0.5:
            free = [n for n in NAMES if n not in (giver, taker)]
            first = self.rng.choice(
                [n for n in free if not self.held_out.has("name name", (n, giver))]
            )
            lines.insert(0, f"{first} gives the {thing} to {giver}.")
        lines.insert(0, f"{first} has the {thing}.")
        ask = self.rng.choice([f"Now the {thing} is with", f"In the end the {thing} belongs to"])
        return Story("story: gift", f"{' '.join(lines)} {ask}", f" {taker}.")

    def order(self) -> Story:
        """Three people in a row: the first or the last of the row is asked for."""
        top, middle = self._match("name name", NAMES, NAMES, 1)[0]
        free = [n for n in NAMES if n not in (top, middle)]
        low = self.rng.choice([n for n in free if not self.held_out.has("name name", (middle, n))])
        more = self.rng.choice(ADJECTIVES)
        lines = [f"{top} is {more} than {middle}.", f"{middle} is {more} than {low}."]
        ask = f"Of the three, the {SUPERLATIVES[more]} is"
        return Story("story: order", f"{self._shuffled(lines)} {ask}", f" {top}.")

    def echo(self) -> Story:
        """Some words are to be said again; those held out are the first two."""
        count = self.rng.randint(3, 8)
        while True:
            said = self.rng.sample(EVERY_WORD, count)
            if self.unseen:
                said[:2] = self.rng.choice(self.held_out.pairs["word word"])
            checked = itertools.pairwise(said[self.unseen :])
            if len(set(said)) == count and not any(
                self.held_out.has("word word", pair) for pair in checked
            ):
                line = " ".join(said)
                return Story("echo", f"Say it again: {line}. Once more:", f" {line}.")

    def long(self) -> Story:
        """A tale of many sentences, in which a few short facts are hidden among others."""
        kind = self.rng.choice([self.colour, self.owner, self.place, self.taste, self.hidden])
        story = kind()
        sentences = story.prompt.replace("? ", "?# ").replace(". ", ".# ").split("# ")
        asked = 2 if "?" in story.prompt else 1
        facts, ask = sentences[:-asked], sentences[-asked:]
        fillers = self.rng.sample(FILLERS, self.rng.randint(3, 20))
        body = facts + fillers
        self.rng.shuffle(body)
        prompt = " ".join([self.rng.choice(OPENINGS), *body, *ask])
        return Story("story: long", prompt, story.answer)

    def kinds(self) -> list[Callable[[], Story]]:
        return [
            self.colour, self.owner, self.place, self.journey, self.taste, self.hidden,
            self.gift, self.order, self.echo, self.long,
        ]  # fmt: skip
