"""Invariance at GPT-2's real sizes: other kernels of the matrix products come into play there."""

import random

import numpy as np
import pytest

from reference import HParams
from runner.engine import Engine
from runner.int8 import in_int8
from tests.laws.sequences import assert_same, complete, model_of

SIZES = HParams(n_vocab=50257, n_ctx=1024, n_embd=768, n_head=12, n_layer=12)
# A part of attention is 512 tokens long with 1 MiB of second-level cache, 640 with 1.25 MiB.
LENGTHS = [1, 2, 3, 17, 33, 64, 65, 66, 129, 131, 257, 258, 300, 511, 512, 513, 640, 1000]
TEXTS = ["The capital of France is", "3 + 4 =", "Anna has a red ball. " * 9, "é, 日: \n\n" * 20]
# threads, batch size, tokens that there is room for, whether the order is another, and the length
# from which on prompts are run at all
WAYS = [
    (1, 26, None, False, 0),
    (2, 5, None, True, 0),
    (3, 7, 3000, True, 0),
    (4, None, None, False, 0),
    (8, 2, None, True, 100),
    (16, 1, None, False, 513),  # more threads than heads
]


@pytest.mark.nightly
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_invariance_at_the_shapes_of_gpt2_124m(gpt2_tokenizer, random_params, dtype):
    model = model_of(SIZES, random_params(SIZES), gpt2_tokenizer)
    model = in_int8(model) if dtype == "int8" else model
    rng = np.random.default_rng(0)
    header = rng.integers(0, 50257, 150).tolist()
    prompts = [rng.integers(0, 50257, n).tolist() for n in LENGTHS]
    prompts += [header + ids for ids in prompts[:4]]
    prompts += [gpt2_tokenizer.encode(text) for text in TEXTS]
    limits = [random.Random(n).randint(2, 9) for n in range(len(prompts))]
    engine = Engine(model, threads=2)
    alone = [
        complete(engine, [ids], limits=[n], n_ctx=1024)[0][0]
        for ids, n in zip(prompts, limits, strict=True)
    ]
    for threads, size, room, mixed, least in WAYS:
        engine = Engine(model, threads)
        order = [n for n, ids in enumerate(prompts) if len(ids) >= least]
        order = random.Random(threads).sample(order, len(order)) if mixed else order
        most_bytes = 1 << 30 if room is None else room * engine.cache.token_bytes
        found, occupancy = complete(
            engine,
            [prompts[n] for n in order],
            size=size,
            limits=[limits[n] for n in order],
            most_bytes=most_bytes,
            n_ctx=1024,
            keep=lambda row: row % 5 < 4,
        )
        assert (occupancy.shared_tokens > 0) is (least < 150)
        assert_same(found, [alone[n] for n in order])
