"""Which sequences run when, on an engine that only keeps books."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference import HParams
from runner.batch_size import STEPS, BatchSize
from runner.engine import Decoded, Work
from runner.generate import RunningSequence
from runner.kv_cache import CAPACITY_STEP, SlotCache
from runner.records import FinishReason, Prompt
from runner.scheduler import ENOUGH_TOKENS, TOGETHER_TOKENS, Scheduler

HPARAMS = HParams(n_vocab=1000, n_ctx=512, n_embd=2, n_head=1, n_layer=1)
TOKEN_BYTES = SlotCache(HPARAMS).token_bytes


class Books:
    """An engine whose cache holds the very ids, and whose next token is the sum of them all.

    What a slot would compute is right only if all of its tokens are at their places.
    """

    ragged_prefill = True

    def __init__(self):
        self.hparams = HPARAMS
        self.cache = SlotCache(HPARAMS)
        self.prefilled, self.decoded = Work(), Work()
        self.calls = []

    def resize(self, n_slots, n_cap, lengths):
        self.calls.append(("resize", n_slots, n_cap))
        self.cache.resize(n_slots, n_cap, lengths)

    def _put(self, slot, ids, past):
        for array in self.cache.arrays:
            array[slot, 0, past : past + len(ids), 0] = ids

    def prefill(self, slot, ids, past=0):
        assert past + len(ids) <= self.cache.n_cap
        self.calls.append(("prefill", len(ids), past))
        self._put(slot, ids, past)

    def prefill_together(self, slots, prompts):
        self.calls.append(("together", *map(len, prompts)))
        for slot, ids in zip(slots, prompts, strict=True):
            self._put(slot, ids, 0)

    def decode(self, tokens, past, *, with_logits):
        self.calls.append(("decode", len(tokens)))
        assert (past < self.cache.n_cap).all()
        assert len(tokens) <= self.cache.n_slots
        for slot, (token, n) in enumerate(zip(tokens, past, strict=True)):
            self._put(slot, [token], n)
        held = [self.cache.arrays[0][slot, 0, : n + 1, 0].sum() for slot, n in enumerate(past)]
        found = np.array(held, dtype=np.int64) % 1000
        logits = np.eye(1000, dtype=np.float32)[found] if with_logits else None
        self.decoded.seconds += 1.0
        return Decoded(found, np.full(len(found), -0.5, np.float32), logits)


def sequence(ids, limit, *, row=0, eos_id=None, keep_logits=False):
    prompt = Prompt(row, "", list(ids), limit)
    return RunningSequence(prompt, None, [], eos_id, 512, keep_logits=keep_logits)


def expected(ids, limit):
    ids = list(ids)
    for _ in range(limit):
        ids.append(sum(ids) % 1000)
    return ids[-limit:]


def run(scheduler, sequences):
    scheduler.add(sequences)
    finished = []
    while scheduler.n_waiting or scheduler.n_running:
        finished += scheduler.step()
    assert sorted(map(id, finished)) == sorted(map(id, sequences))
    return finished


prompts = st.lists(
    st.tuples(st.lists(st.integers(0, 9), min_size=1, max_size=90), st.integers(1, 30)),
    min_size=1,
    max_size=30,
)


@given(
    rows=prompts,
    header=st.lists(st.integers(0, 9), max_size=100),
    size=st.sampled_from([1, 2, 5, 16, None]),
    most_tokens=st.sampled_from([512, 700, 2000, 100_000]),
)
def test_every_sequence_is_completed_from_its_own_tokens(rows, header, size, most_tokens):
    """Whatever is moved, refilled, resized or shared, and within the memory that is given."""
    rows = [((header if n % 3 else []) + ids, limit) for n, (ids, limit) in enumerate(rows)]
    engine = Books()
    scheduler = Scheduler(engine, BatchSize(size), most_tokens * TOKEN_BYTES)
    sequences = [sequence(ids, limit, row=n) for n, (ids, limit) in enumerate(rows)]
    run(scheduler, sequences)
    for found, (ids, limit) in zip(sequences, rows, strict=True):
        assert found.ids == expected(ids, limit)
        assert found.finish_reason is FinishReason.LENGTH
        assert found.logprob == -0.5 * limit
    for _, n_slots, n_cap in (call for call in engine.calls if call[0] == "resize"):
        assert n_slots * n_cap <= most_tokens
        assert n_cap % CAPACITY_STEP == 0
    if size is not None:
        assert scheduler.occupancy.most_slots <= size


def test_a_finished_slot_is_taken_by_the_next_prompt_at_once():
    engine = Books()
    scheduler = Scheduler(engine, BatchSize(4), 1 << 30)
    long = [sequence(range(ENOUGH_TOKENS + 1), 20, row=n) for n in range(3)]
    short = [sequence(range(ENOUGH_TOKENS + 1), 2, row=n + 3) for n in range(8)]
    run(scheduler, long + short)
    decoded = [call[1] for call in engine.calls if call[0] == "decode"]
    assert decoded[:16] == [4] * 16  # eight of two tokens each, beside the three
    assert decoded[16:] == [3] * 4
    assert scheduler.occupancy.live_rows == 3 * 20 + 8 * 2


def test_short_prompts_wait_for_company():
    engine = Books()
    scheduler = Scheduler(engine, BatchSize(32), 1 << 30)
    run(scheduler, [sequence([n], 1 + n % 7, row=n) for n in range(200)])
    # One of 32 slots is no eighth: between two steps less is taken in than there are slots free.
    decoded = [call[1] for call in engine.calls if call[0] == "decode"]
    assert max(decoded) == 32
    assert scheduler.occupancy.live_rows / scheduler.occupancy.rows > 0.9


def test_the_last_sequences_are_moved_together():
    engine = Books()
    scheduler = Scheduler(engine, BatchSize(8), 1 << 30)
    sequences = [sequence([n, 1], 2 + 5 * (n == 7), row=n) for n in range(8)]
    run(scheduler, sequences)
    decoded = [call[1] for call in engine.calls if call[0] == "decode"]
    assert decoded == [8, 8, 1, 1, 1, 1, 1]
    assert sequences[7].ids == expected([7, 1], 7)


def test_prompts_of_similar_length_are_taken_in_together():
    engine = Books()
    lengths = [100, 98, 97, 50, 49, 2, 2, 1]
    run(
        Scheduler(engine, BatchSize(8), 1 << 30),
        [sequence([row] * n, 1, row=row) for row, n in enumerate(lengths)],
    )
    taken_in = [call for call in engine.calls if call[0] in ("prefill", "together")]
    assert taken_in == [("together", 99, 97), ("prefill", 96, 0), ("together", 49, 48),
                        ("together", 1, 1)]  # fmt: skip
    assert TOGETHER_TOKENS < 3 * 99


def test_a_shared_beginning_is_taken_in_once():
    engine = Books()
    header = [7] * 70
    scheduler = Scheduler(engine, BatchSize(8), 1 << 30)
    run(scheduler, [sequence([*header, n, n, n], 2, row=n) for n in range(6)])
    taken_in = [call[1:] for call in engine.calls if call[0] == "prefill"]
    assert taken_in == [(64, 0), *[(8, 64)] * 6]
    assert scheduler.occupancy.shared_tokens == 5 * 64


@pytest.mark.parametrize("most_tokens", [512, 448])  # less, where the check took its share
def test_little_memory_keeps_fewer_beginnings(most_tokens):
    """They are computed again, and what comes out is the same."""
    engine = Books()
    scheduler = Scheduler(engine, BatchSize(4), most_tokens * TOKEN_BYTES)  # nothing left for them
    rows = [[n % 3] * 40 + [n] for n in range(9)]
    sequences = [sequence(ids, 3, row=n) for n, ids in enumerate(rows)]
    run(scheduler, sequences)
    assert [s.ids for s in sequences] == [expected(ids, 3) for ids in rows]
    assert scheduler.occupancy.shared_tokens == 0


def test_memory_that_long_sequences_needed_goes_to_more_short_ones():
    engine = Books()
    scheduler = Scheduler(engine, BatchSize(16), 1024 * TOKEN_BYTES)
    run(
        scheduler,
        [sequence(range(400), 5)] + [sequence([n], 30, row=n) for n in range(1, 30)],
    )
    sizes = [call[1:] for call in engine.calls if call[0] == "resize"]
    assert sizes[1] == (2, 448)  # after those of another scheduler were given up
    assert sizes[-1] == (14, 64)


def test_end_of_text_ends_and_logits_are_kept_where_asked():
    engine = Books()
    scheduler = Scheduler(engine, BatchSize(2), 1 << 30)
    kept = sequence([1, 2], 9, eos_id=12, keep_logits=True)  # 3, 6, 12
    run(scheduler, [kept, sequence([5], 3, row=1)])
    assert kept.ids == [3, 6]
    assert kept.finish_reason is FinishReason.STOP
    assert kept.chosen == [3, 6, 12]
    assert [int(row.argmax()) for row in kept.logits] == [3, 6, 12]


@pytest.mark.parametrize(
    ("milliseconds", "chosen"),
    [
        ({32: 40, 64: 80}, 32),  # twice the work in twice the time
        ({32: 40, 64: 60, 128: 118}, 64),
        ({32: 40, 64: 41, 128: 43, 256: 50, 512: 60}, 512),
    ],
)
def test_the_size_doubles_while_that_pays(milliseconds, chosen):
    size = BatchSize(None)
    for _ in range(60):
        size.record(size.wanted, milliseconds[size.wanted] / 1000)
    assert size.wanted == chosen


def test_a_size_is_judged_by_full_steps_only():
    size = BatchSize(None)
    for _ in range(10 * STEPS):
        size.record(31, 0.001)
    assert size.wanted == 32
    given_size = BatchSize(3)
    for _ in range(10 * STEPS):
        given_size.record(3, 0.001)
    assert given_size.wanted == 3


def test_memory_bounds(monkeypatch):
    from runner import batch_size
    from runner.errors import SettingsError

    process = SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=100 << 20))
    monkeypatch.setattr(batch_size.psutil, "Process", lambda *_: process)
    memory = SimpleNamespace(available=4 << 30)
    monkeypatch.setattr(batch_size.psutil, "virtual_memory", lambda: memory)
    monkeypatch.setattr(batch_size, "CGROUP_LIMITS", ())
    assert batch_size.cache_bytes(HPARAMS, TOKEN_BYTES, None) == 2 << 30
    assert batch_size.cache_bytes(HPARAMS, TOKEN_BYTES, 1 << 30) == (1024 - 100 - 256) << 20
    with pytest.raises(SettingsError, match=r"memory is 0.20 GiB; .* at least 0.35 GiB"):
        batch_size.cache_bytes(HPARAMS, TOKEN_BYTES, 200 << 20)


def test_a_control_group_bounds_what_is_free(tmp_path, monkeypatch):
    from runner import batch_size

    limit = tmp_path / "memory.max"
    limit.write_text("max\n")
    monkeypatch.setattr(batch_size, "CGROUP_LIMITS", (str(limit), str(tmp_path / "missing")))
    free = batch_size.available_bytes()
    assert free > 0
    limit.write_text(f"{batch_size.psutil.Process().memory_info().rss + (5 << 20)}\n")
    assert batch_size.available_bytes() <= 6 << 20
