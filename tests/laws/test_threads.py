"""How many threads there are does not show: more than cores, more than heads, one or many."""

import numpy as np
import pytest

from reference import HParams
from runner.engine import Engine
from runner.int8 import in_int8
from tests.laws.sequences import assert_same, complete, model_of

# n_head, n_embd, n_layer: widths that no vector register divides, one head, as many as in 124M
SIZES = {
    "demo": None,
    "odd": (3, 30, 2),
    "one head": (1, 64, 2),
    "twelve heads": (12, 768, 1),
}


def made(name, demo, random_params, n_ctx=256):
    if SIZES[name] is None:
        return demo
    n_head, n_embd, n_layer = SIZES[name]
    sizes = HParams(n_vocab=2304, n_ctx=n_ctx, n_embd=n_embd, n_head=n_head, n_layer=n_layer)
    return model_of(sizes, random_params(sizes), demo.tokenizer)


@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize("name", SIZES)
def test_any_number_of_threads(name, dtype, demo, random_params):
    """Products are cut among threads by rows or columns, and differently for each number."""
    model = made(name, demo, random_params)
    model = in_int8(model) if dtype == "int8" else model
    rng = np.random.default_rng(0)
    header = rng.integers(0, 2304, 70).tolist()
    prompts = [rng.integers(0, 2304, n).tolist() for n in (1, 2, 3, 8, 9, 17, 33, 66, 129, 250)]
    prompts += [header + ids for ids in prompts[:5]]
    limits = [2, 5, 3] * 5
    expected, _ = complete(Engine(model, threads=1), prompts, size=1, limits=limits)
    for threads, size in ((2, None), (3, 4), (8, 1), (16, 5)):
        found, _ = complete(Engine(model, threads), prompts, size=size, limits=limits)
        assert_same(found, expected)


@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize("d", [64, 256])
def test_a_long_row_is_not_cut_where_threads_are_idle(d, dtype, demo, random_params):
    """onnxruntime would add up its attention in parts, where it has fewer heads than threads.

    A part is as long as the processor's cache has room for: 512 tokens of 64 numbers in 1 MiB.
    """
    sizes = HParams(n_vocab=97, n_ctx=2048, n_embd=d, n_head=1, n_layer=1)
    model = model_of(sizes, random_params(sizes), demo.tokenizer)
    model = in_int8(model) if dtype == "int8" else model
    rng = np.random.default_rng(0)
    prompts = [rng.integers(0, 97, n).tolist() for n in (3, 300, 600, 1100, 2040, 2040)]
    one, many = Engine(model, threads=1), Engine(model, threads=8)
    expected, _ = complete(one, prompts, n_ctx=2048)
    assert_same(complete(many, prompts, n_ctx=2048)[0], expected)
    assert_same(complete(many, prompts, size=1, n_ctx=2048)[0], expected)
    # Two of the same length, alone, then with one more that soon ends.
    assert_same(complete(many, prompts[4:], n_ctx=2048)[0], expected[4:])
    few = complete(many, prompts[3:], limits=[1, 3, 3], n_ctx=2048)[0]
    assert_same(few[1:], expected[4:])


def test_the_idle_row_is_there_only_where_attention_would_be_cut(demo, monkeypatch):
    """It costs time, and a slot that is in use must never be taken for it."""
    rows = []
    engine = Engine(demo, threads=2)  # four heads: eight tasks are two rows
    original = Engine._splits_attention

    def counted(self, past):
        rows.append((len(past), original(self, past)))
        return rows[-1][1]

    monkeypatch.setattr(Engine, "_splits_attention", counted)
    complete(engine, [[1, 2, 3]], limits=[2])
    complete(engine, [[1, 2, 3], [4, 5, 6]], limits=[1, 1])
    complete(Engine(demo, threads=1), [[1, 2, 3]], limits=[1])
    complete(Engine(demo, threads=4), [[1, 2, 3], [4, 5]], limits=[1, 1])  # of two lengths
    assert rows == [(1, True), (1, True), (2, False), (1, False), (2, False)]
