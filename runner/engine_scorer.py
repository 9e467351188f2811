"""Scores many continuations: what they share is computed once, and similar ones go together."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, takewhile
from typing import TypeAlias

import numpy as np

from reference import Model

from .engine import IntArray
from .kv_cache import FloatArray
from .prefixes import PrefixStore, shared_keys
from .score import Continuation, Scored
from .score_engine import ScoreEngine, ScoreRow

# Continuations of one context stand in one row where it has so many tokens; a shorter context is
# computed for each anew.
SHARED_TOKENS = 16
# What goes through the model together: tokens, padding included, and scores, each of which takes
# memory for the whole vocabulary. Both even, as `even` says.
MOST_TOKENS = 1024
MOST_SCORES = 512

Ids: TypeAlias = tuple[int, ...]


@dataclass
class Planned:
    """What a row is to hold, and where its scores belong.

    Attributes
    ----------
    context : Ids
    header : Ids
        A beginning of the context that other rows have too.
    continuations : list of (int, Ids)
        Each with its number among those that are asked for.
    n_tokens, n_scores : int
        Of the row.
    """

    context: Ids
    header: Ids
    continuations: list[tuple[int, Ids]] = field(default_factory=list)
    n_scores: int = 0

    @property
    def n_tokens(self) -> int:
        return len(self.context) + self.n_scores - len(self.continuations)

    @property
    def goes_alone(self) -> bool:
        return bool(self.header) or self.n_scores > MOST_SCORES

    def add(self, number: int, tokens: Ids) -> None:
        self.continuations.append((number, tokens))
        self.n_scores += len(tokens)

    def row(self) -> tuple[ScoreRow, list[tuple[int, slice]]]:
        """The row, which takes memory, and where in its scores those of each number stand."""
        row = ScoreRow(list(self.context))
        return row, [(number, row.add(tokens)) for number, tokens in self.continuations]


class EngineScorer:
    """The traced model in onnxruntime.

    A score is the same bits in any company: it follows from its context and from the continuations
    of that context that are asked for with it, as these share a row.

    Parameters
    ----------
    model : Model
        As loaded, or `in_int8`.
    threads : int
        Threads of one call.
    advance : callable, optional
        Told how many continuations were scored, each time that some were.

    Attributes
    ----------
    make_room : callable
        Called before memory is taken for the engine, which is done when it is needed.
    """

    def __init__(
        self, model: Model, threads: int, advance: Callable[[int], None] = lambda _: None
    ) -> None:
        self.make_room: Callable[[], None] = lambda: None
        self._model = model
        self._threads = threads
        self._advance = advance
        self._engine: ScoreEngine | None = None

    @property
    def engine(self) -> ScoreEngine:
        """What runs the model."""
        if self._engine is None:
            self.make_room()
            self._engine = ScoreEngine(self._model, self._threads)
        return self._engine

    def release(self) -> None:
        """Give the engine's memory back; it is made anew where it is needed again."""
        self._engine = None

    def score(self, wanted: Sequence[Continuation]) -> list[Scored]:
        """One result for each continuation, in the order given."""
        numbers: dict[tuple[Ids, Ids], int] = {}
        asked = [
            numbers.setdefault((tuple(w.context), tuple(w.tokens)), len(numbers)) for w in wanted
        ]
        times = np.bincount(asked, minlength=len(numbers)).tolist()
        found: dict[int, Scored] = {}
        for places, logprobs, greedy in self._scores(plan(numbers)):
            for number, at in places:
                found[number] = Scored(logprobs[at].copy(), greedy[at].copy())
            self._advance(sum(times[number] for number, _ in places))
        return [found[number] for number in asked]

    def _scores(
        self, rows: Sequence[Planned]
    ) -> Iterator[tuple[list[tuple[int, slice]], FloatArray, IntArray]]:
        """Run all rows, in whatever order is fast."""
        held: Ids = ()  # whose keys and values are there
        for planned in sorted((p for p in rows if p.goes_alone), key=lambda p: p.header):
            known = common(held, planned.header)
            held = planned.header
            row, places = planned.row()
            scores = [self.engine.score_alone(row, *s) for s in stretches(planned, known)]
            logprobs, greedy = (np.concatenate(arrays) for arrays in zip(*scores, strict=True))
            yield places, logprobs, greedy
        for together in batches([p for p in rows if not p.goes_alone]):
            made, places_of = zip(*(planned.row() for planned in together), strict=True)
            yield from zip(places_of, *self.engine.score(made), strict=True)


def plan(wanted: Iterable[tuple[Ids, Ids]]) -> list[Planned]:
    """Put continuations of one context into one row, and find what contexts share."""
    of_context: defaultdict[Ids, list[tuple[int, Ids]]] = defaultdict(list)
    for number, (context, tokens) in enumerate(wanted):
        of_context[context].append((number, tokens))
    rows: list[Planned] = []
    # Its last token belongs to the row: scores are read there.
    keys = shared_keys([context[:-1] for context in of_context], PrefixStore(0))
    for (context, continuations), shared in zip(of_context.items(), keys, strict=True):
        header = context[: shared[-1][0]] if shared else ()
        first = True
        for number, tokens in continuations:
            apart = len(context) < SHARED_TOKENS
            if first or apart or rows[-1].n_scores + len(tokens) > MOST_SCORES:
                rows.append(Planned(context, header))
                first = False
            rows[-1].add(number, tokens)
    return rows


def stretches(planned: Planned, known: int) -> list[tuple[int, int]]:
    """A row's tokens in pieces that are taken in one after the other, from the `known` ones on.

    Several continuations stay together: none may see another, so none may be past.
    """
    past, n_tokens = len(planned.header), planned.n_tokens
    ends = [past] if len(planned.continuations) > 1 else [*range(past, n_tokens, MOST_SCORES)]
    starts = [known] if known < past else []
    return [*pairwise([*starts, *ends, n_tokens])]


def batches(rows: Iterable[Planned]) -> Iterator[list[Planned]]:
    """Rows in groups of similar length, each group at most `MOST_TOKENS` and `MOST_SCORES`."""

    def size(planned: Planned) -> tuple[int, int]:
        return planned.n_scores.bit_length(), planned.n_tokens

    group: list[Planned] = []
    n_tokens = n_scores = 0
    for planned in sorted(rows, key=size, reverse=True):
        n_tokens = max(n_tokens, planned.n_tokens)
        n_scores = max(n_scores, planned.n_scores)
        n = len(group) + 1
        if group and (n * n_tokens > MOST_TOKENS or n * n_scores > MOST_SCORES):
            yield group
            group, n_tokens, n_scores = [], planned.n_tokens, planned.n_scores
        group.append(planned)
    if group:
        yield group


def common(one: Ids, other: Ids) -> int:
    """How many tokens two begin with alike."""
    same = takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
    return sum(1 for _ in same)
