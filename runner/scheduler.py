"""Which sequences run when: a slot that becomes free is taken at once."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from .batch_size import BatchSize
from .engine import Engine
from .generate import RunningSequence
from .kv_cache import CAPACITY_STEP
from .prefixes import Key, PrefixStore, shared_keys

# A prompt's tokens go through the model together with those of others, up to so many at a time;
# one that is shorter than the longest of them by more than the second number goes alone.
TOGETHER_TOKENS = 256
TOGETHER_PADDING = 8
# With sequences running, new ones wait until they have so many tokens together, or until this
# part of the slots is free: a call for a few tokens costs nearly as much as for many.
ENOUGH_TOKENS = 64
ENOUGH_SLOTS = 1 / 8

WORTH_MOVING = 5 / 4  # times as many slots, where long sequences have ended
STORE_SHARE = 1 / 8  # of the memory for keys and values, for shared beginnings


@dataclass(frozen=True)
class Waiting:
    """A sequence that has no slot yet, and the beginnings that it shares."""

    sequence: RunningSequence
    keys: list[Key]

    @property
    def prefilled(self) -> list[int]:
        """The tokens that are taken in before the first step."""
        return self.sequence.prompt.ids[:-1]


@dataclass
class Occupancy:
    """How well the steps were filled.

    Attributes
    ----------
    steps, rows, live_rows : int
        Decode steps, rows in them, and those of running sequences.
    most_slots : int
        Sequences that ran together at most.
    shared_tokens : int
        Prompt tokens whose keys and values were there already.
    """

    steps: int = 0
    rows: int = 0
    live_rows: int = 0
    most_slots: int = 0
    shared_tokens: int = 0

    def add(self, other: "Occupancy") -> None:
        """Take in the steps of others."""
        self.steps += other.steps
        self.rows += other.rows
        self.live_rows += other.live_rows
        self.most_slots = max(self.most_slots, other.most_slots)
        self.shared_tokens += other.shared_tokens


class Scheduler:
    """Continuous batching over compact slots.

    Sequences wait in the order in which their rows are to be written, chunk by chunk, within a
    chunk the longest first: neighbours then have prompts of similar length, and the short ones
    fill up the end.

    Parameters
    ----------
    engine : Engine
        Runs the model.
    size : BatchSize
        How many sequences run together.
    most_bytes : int
        For keys and values; at least one sequence of n_ctx tokens.
    """

    def __init__(self, engine: Engine, size: BatchSize, most_bytes: int) -> None:
        self._engine = engine
        self.size = size
        self._token_bytes = engine.cache.token_bytes
        store_bytes = int(STORE_SHARE * most_bytes)
        n_ctx = engine.hparams["n_ctx"]
        least = self._token_bytes * (n_ctx + -n_ctx % CAPACITY_STEP)  # as a slot is made
        self._most_bytes = max(most_bytes - store_bytes, least)
        self._store = PrefixStore(max(most_bytes - self._most_bytes, 0))
        self._waiting: deque[Waiting] = deque()
        self._slots: list[RunningSequence | None] = []
        self._taken: list[tuple[int, Waiting]] = []  # in a slot, but not taken in yet
        self._live = 0
        self._tokens = np.zeros(0, np.int64)  # to be fed next
        self._past = np.zeros(0, np.int64)
        engine.resize(0, 0, self._past)  # what another scheduler needed is not ours
        self.occupancy = Occupancy()

    @property
    def n_running(self) -> int:
        return self._live

    @property
    def recording(self) -> list[RunningSequence]:
        """Running sequences whose logits are kept."""
        return [s for s in self._slots if s is not None and s.keep_logits]

    @property
    def n_waiting(self) -> int:
        return len(self._waiting)

    @property
    def wants_more(self) -> bool:
        """Whether sequences should be added, so that no slot stays empty."""
        return len(self._waiting) < self.size.wanted

    def add(self, sequences: Sequence[RunningSequence]) -> None:
        """Let sequences wait for a slot; they hold their results when they are finished."""
        longest_first = sorted(sequences, key=lambda s: -len(s.prompt.ids))
        prompts = [sequence.prompt.ids[:-1] for sequence in longest_first]
        keys = shared_keys(prompts, self._store)
        self._waiting += map(Waiting, longest_first, keys)

    def step(self) -> list[RunningSequence]:
        """Fill free slots, and give each running sequence a token; returns those that ended."""
        self._admit()
        if not self._waiting:
            self._compact()
        while self._slots and self._slots[-1] is None:
            self._slots.pop()
        if not self._slots:
            return []
        return self._decode(len(self._slots))

    # Decoding.

    def _decode(self, n: int) -> list[RunningSequence]:
        before_s = self._engine.decoded.seconds
        kept = [slot for slot, s in enumerate(self._slots) if s is not None and s.keep_logits]
        found = self._engine.decode(self._tokens[:n], self._past[:n], with_logits=bool(kept))
        self._count(n, self._engine.decoded.seconds - before_s)
        self._tokens[:n] = found.tokens
        self._past[:n] += 1
        tokens, logprobs = found.tokens.tolist(), found.logprobs.tolist()
        for slot in kept:
            assert found.logits is not None
            self._slots[slot].record(tokens[slot], found.logits[slot])  # type: ignore[union-attr]
        finished = []
        for slot, sequence in enumerate(self._slots):
            if sequence is None:
                self._past[slot] = 0  # a hole: what it computes is nobody's
            elif sequence.append(tokens[slot], logprobs[slot]):
                finished.append(sequence)
                self._free(slot)
        return finished

    def _count(self, n: int, seconds: float) -> None:
        self.occupancy.steps += 1
        self.occupancy.rows += n
        self.occupancy.live_rows += self._live
        self.occupancy.most_slots = max(self.occupancy.most_slots, self._live)
        self.size.record(self._live, seconds)

    def _free(self, slot: int) -> None:
        self._slots[slot] = None
        self._tokens[slot] = self._past[slot] = 0
        self._live -= 1

    def _compact(self) -> None:
        """Move the last sequences into the holes before them."""
        for hole, occupant in enumerate(self._slots):
            if occupant is not None:
                continue
            while self._slots and self._slots[-1] is None:
                self._slots.pop()
            if hole >= len(self._slots):
                return
            last = len(self._slots) - 1
            self._engine.cache.move(last, hole, int(self._past[last]))
            self._slots[hole] = self._slots.pop()
            self._tokens[hole], self._past[hole] = self._tokens[last], self._past[last]

    # Taking in.

    def _admit(self) -> None:
        if not self._is_time():
            return
        slot = 0  # those before it are taken: nothing ends here
        while self._waiting and self._make_room(self._waiting[0].sequence.n_tokens):
            waiting = self._waiting.popleft()
            while slot < len(self._slots) and self._slots[slot] is not None:
                slot += 1
            slot = min(slot, len(self._slots))  # others may have moved together
            self._slots[slot : slot + 1] = [waiting.sequence]
            self._live += 1
            self._tokens[slot] = waiting.sequence.prompt.ids[-1]
            self._past[slot] = len(waiting.prefilled)
            self._taken.append((slot, waiting))
        self._prefill()

    def _is_time(self) -> bool:
        """Whether enough sequences wait, and enough slots are free, for a call of the model."""
        free = self.size.wanted - self._live
        if not self._waiting or free <= 0:
            return False
        if not self._live or free >= ENOUGH_SLOTS * self.size.wanted or free >= self.n_waiting:
            return True
        n_tokens = sum(len(waiting.prefilled) for waiting in islice(self._waiting, free))
        return n_tokens >= ENOUGH_TOKENS

    def _make_room(self, n_tokens: int) -> bool:
        """See to a slot for one more sequence; False where it has to wait."""
        if self._live >= self.size.wanted:
            return False
        cache = self._engine.cache
        if n_tokens <= cache.n_cap and self._live < cache.n_slots:
            return True
        running = (s.n_tokens for s in self._slots if s is not None)
        needed = max(n_tokens, *running, 1)
        n_cap = needed + -needed % CAPACITY_STEP
        n_slots = min(self.size.most, self._most_bytes // (n_cap * self._token_bytes))
        if n_slots <= self._live:
            return not self._live  # at least one always fits
        if cache.n_cap < n_cap or (
            cache.n_slots <= self._live and n_slots >= WORTH_MOVING * cache.n_slots
        ):
            self._resize(n_slots, n_cap)
        return self._live < cache.n_slots

    def _resize(self, n_slots: int, n_cap: int) -> None:
        self._prefill()
        if len(self._slots) > n_slots:
            self._compact()
        n = len(self._slots)
        self._engine.resize(n_slots, n_cap, self._past[:n])
        for name in ("_tokens", "_past"):
            grown = np.zeros(n_slots, np.int64)
            grown[:n] = getattr(self, name)[:n]
            setattr(self, name, grown)

    def _prefill(self) -> None:
        """Take in the prompts of the sequences that have just got their slots."""
        together: list[tuple[int, list[int]]] = []
        for slot, waiting in self._taken:
            ids = waiting.prefilled
            if waiting.keys or not self._engine.ragged_prefill:
                self._prefill_alone(slot, ids, waiting.keys)
            elif ids:
                if together and not _go_together(len(together[0][1]), len(ids), len(together)):
                    self._prefill_group(together)
                    together = []
                together.append((slot, ids))
        self._prefill_group(together)
        self._taken = []

    def _prefill_group(self, together: list[tuple[int, list[int]]]) -> None:
        if len(together) == 1:
            self._engine.prefill(*together[0])
        elif together:
            slots, prompts = zip(*together, strict=True)
            self._engine.prefill_together(slots, prompts)

    def _prefill_alone(self, slot: int, ids: list[int], keys: Sequence[Key]) -> None:
        """Take in one prompt, from its longest known beginning on, and keep what others share."""
        known = self._store.longest(keys)
        past = 0
        if known is not None:
            self._engine.cache.fill(slot, known)
            past = known.n_tokens
            self.occupancy.shared_tokens += past
        if keys and keys[-1][0] > past:
            end = keys[-1][0]
            self._engine.prefill(slot, ids[past:end], past)
            self._store.add(keys[-1], self._engine.cache.take(slot, end))
            past = end
        if past < len(ids):
            self._engine.prefill(slot, ids[past:], past)


def _go_together(longest: int, shortest: int, n_prompts: int) -> bool:
    """Whether a call for `n_prompts` should take in one more, the shortest of them."""
    fits = longest * (n_prompts + 1) <= TOGETHER_TOKENS
    return fits and longest - shortest <= TOGETHER_PADDING
