"""A row's answer depends on the row alone, and is the oracle's, token for token."""

import json
import random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reference import HParams
from runner import RunSettings, run
from runner.engine import Engine
from runner.int8 import in_int8
from tests.laws.sequences import assert_same, complete, model_of

WORDS = [
    "one",
    "two",
    "three",
    "four",
    "The",
    "capital",
    "of",
    "is",
    "hot",
    "cold",
    "Anna",
    "red",
    "ball",
    "Monday",
    "3",
    "+",
    "=",
    ".",
    ",",
    "é",
    "日",
    "\n",
]


def texts(count, seed):
    """Prompts of 0 to 120 words, mostly short: real ones mixed with nonsense."""
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=int(120 * rng.random() ** 5))) for _ in range(count)]


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    """200 prompts of mixed length, once for each batch size and order."""
    folder = tmp_path_factory.mktemp("invariance")
    prompts = texts(200, seed=0)

    def complete(name, order, **options):
        source, output = folder / f"{name}.in.jsonl", folder / f"{name}.jsonl"
        rows = ({"n": n, "prompt": prompts[n]} for n in order)
        source.write_text("".join(json.dumps(row) + "\n" for row in rows))
        options = {"max_new_tokens": 6, "ignore_eos": True, "check_rows": 0} | options
        run(RunSettings(str(source), str(output), **options))
        found = [json.loads(line) for line in output.read_text().splitlines()]
        assert [row["n"] for row in found] == order
        return {row["n"]: row for row in found}

    return complete, list(range(200)), prompts


@pytest.fixture(scope="module")
def baseline(jobs):
    complete, order, _ = jobs
    return complete("baseline", order, batch_size=32)


def test_the_answers_are_the_oracles(jobs, baseline, demo):
    from itertools import islice

    from reference import greedy

    for n, prompt in enumerate(jobs[2]):
        ids = demo.tokenizer.encode(prompt) or [demo.tokenizer.eos_id]
        expected = list(islice(greedy(ids, demo.params, demo.hparams["n_head"]), 6))
        assert baseline[n]["completion_ids"] == expected, prompt


@pytest.mark.parametrize("batch_size", [1, 7, None])
def test_batch_size_does_not_matter(jobs, baseline, batch_size):
    complete, order, _ = jobs
    assert complete(f"size-{batch_size}", order, batch_size=batch_size) == baseline


def test_nothing_matters_to_int8_either(jobs):
    complete, order, _ = jobs
    baseline = complete("int8", order, dtype="int8", batch_size=32)
    shuffled = random.Random(1).sample(order, len(order))
    for n, options in enumerate([{"batch_size": 1}, {"batch_size": 7, "threads": 1}, {}]):
        assert complete(f"int8-{n}", shuffled, dtype="int8", **options) == baseline


def test_order_and_threads_do_not_matter(jobs, baseline):
    complete, order, _ = jobs
    shuffled = random.Random(1).sample(order, len(order))
    assert complete("shuffled", shuffled, batch_size=5) == baseline
    assert complete("one-thread", order, batch_size=16, threads=1) == baseline


# The scheduler itself: the very logits, bit for bit.


SIZES = {"no fused attention": (3, 36, 2), "one block": (2, 32, 1), "one head": (1, 64, 2)}
MODELS = [name + dtype for name in ["demo", *SIZES] for dtype in ("", " in int8")]


@pytest.fixture(scope="module", params=MODELS)
def engine(request, demo, random_params):
    """Models whose sizes lead to other operators, and other shapes of them."""
    name = request.param.removesuffix(" in int8")
    model = demo
    if name in SIZES:
        n_head, n_embd, n_layer = SIZES[name]
        sizes = HParams(n_vocab=2304, n_ctx=256, n_embd=n_embd, n_head=n_head, n_layer=n_layer)
        model = model_of(sizes, random_params(sizes), demo.tokenizer)
    return Engine(model if request.param == name else in_int8(model), threads=2)


headers = st.lists(st.integers(0, 2000), max_size=140)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    prompts=st.lists(
        st.lists(st.integers(0, 2000), min_size=1, max_size=100), min_size=1, max_size=9
    ),
    header=headers,
    limits=st.lists(st.integers(1, 5), min_size=9, max_size=9),
    size=st.sampled_from([1, 2, 3, 8, None]),
)
def test_any_company_any_refill_any_shared_beginning(engine, prompts, header, limits, size):
    """Whoever ends first, whoever comes next, and whether the header was there already."""
    rows = [(header if n % 2 else []) + ids for n, ids in enumerate(prompts)]
    together, _ = complete(engine, rows, size=size, limits=limits)
    for row, ids in enumerate(rows):
        alone, _ = complete(engine, [ids], limits=[limits[row]])
        assert_same([together[row]], alone)


def lengths_around(engine):
    """Of prompts: every length up to 40, and those where stretches of 32, 64 and 128 end."""
    ends = [m * step + d for step in (32, 64, 128) for m in (1, 2, 3) for d in (-1, 0, 1, 2, 3)]
    return sorted({n for n in [*range(1, 41), *ends] if n < 250})


def test_every_length_alone_and_beside_longer_ones(engine):
    """Where rounding could tell the length of the call: the last token of a stretch."""
    rng = np.random.default_rng(0)
    prompts = [rng.integers(0, 2304, n).tolist() for n in lengths_around(engine)]
    alone = [complete(engine, [ids], limits=[1])[0][0] for ids in prompts]
    assert_same(complete(engine, prompts, size=len(prompts), limits=[1] * len(prompts))[0], alone)
    assert_same(complete(engine, prompts, size=5, limits=[1] * len(prompts))[0], alone)


def test_a_shared_beginning_of_every_length(engine):
    """The rest of a prompt is computed from a stored beginning, or all of it at once."""
    rng = np.random.default_rng(1)
    header = rng.integers(0, 2304, 130).tolist()
    prompts = [[*header[: n - 1], n] for n in lengths_around(engine) if n < 131]
    together, occupancy = complete(engine, prompts, size=7, limits=[1] * len(prompts))
    assert occupancy.shared_tokens > sum(map(len, prompts)) / 3
    assert_same(together, [complete(engine, [ids], limits=[1])[0][0] for ids in prompts])


def test_little_memory_and_much(engine):
    """Slots and places come and go with the memory that there is."""
    rng = np.random.default_rng(2)
    prompts = [rng.integers(0, 2304, n).tolist() for n in [200, 3, 150, 40, 90, 12, 7, 180, 60, 5]]
    limits = [4, 30, 8, 2, 9, 20, 1, 3, 12, 50]
    token_bytes = engine.cache.token_bytes
    much, easy = complete(engine, prompts, limits=limits)
    little, tight = complete(engine, prompts, limits=limits, most_bytes=300 * token_bytes)
    assert tight.most_slots < easy.most_slots == 10
    assert_same(little, much)
