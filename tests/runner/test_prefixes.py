"""Shared beginnings: found by their blocks, kept while they are used."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from runner.kv_cache import Block
from runner.prefixes import BLOCK_TOKENS, PrefixStore, block_keys, shared_keys


def block(n_tokens):
    return Block(np.zeros((2, 1, n_tokens, 4), np.float32))


@given(
    header=st.lists(st.integers(0, 3), max_size=200),
    tails=st.lists(st.lists(st.integers(0, 3), max_size=100), min_size=1, max_size=6),
)
def test_shared_are_whole_blocks_that_two_prompts_begin_with(header, tails):
    prompts = [header + tail for tail in tails]
    for n, keys in enumerate(shared_keys(prompts, PrefixStore(0))):
        others = [p for i, p in enumerate(prompts) if i != n]
        for end in range(BLOCK_TOKENS, len(prompts[n]) + 1, BLOCK_TOKENS):
            shared = any(other[:end] == prompts[n][:end] for other in others)
            assert shared == (end in [length for length, _ in keys])


def test_a_beginning_is_named_by_all_of_it():
    one, other = [1] * 64, [2] * 32 + [1] * 32
    keys, others = list(block_keys(one)), list(block_keys(other))
    assert [length for length, _ in keys] == [32, 64]
    assert not set(keys) & set(others)
    assert list(block_keys(one[:40])) == keys[:1]
    assert list(block_keys([])) == []


def test_what_is_stored_is_shared_with_one_prompt_alone():
    store = PrefixStore(1 << 20)
    ids = list(range(70))
    assert shared_keys([ids], store) == [[]]
    store.add(next(block_keys(ids)), block(32))
    ((key,),) = shared_keys([ids], store)
    assert store.longest([key]).n_tokens == 32


def test_the_least_recently_used_makes_room():
    store = PrefixStore(3 * block(32).arrays.nbytes)
    keys = [(32, bytes([n])) for n in range(4)]
    for key in keys[:3]:
        store.add(key, block(32))
    assert store.longest(keys[:1]) is not None
    store.add(keys[3], block(32))
    assert [key in store for key in keys] == [True, False, True, True]
    store.add((64, b""), block(96))
    assert (64, b"") in store
    assert not any(key in store for key in keys)
    store.add((999, b""), block(999))  # too large to be kept
    assert (999, b"") not in store
