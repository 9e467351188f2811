"""A row's answer depends on the row alone, and is the oracle's, token for token."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner import RunSettings, run
from runner.engine import WindowEngine
from runner.generate import RunningSequence, generate
from runner.records import Prompt

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


def test_order_and_threads_do_not_matter(jobs, baseline):
    complete, order, _ = jobs
    shuffled = random.Random(1).sample(order, len(order))
    assert complete("shuffled", shuffled, batch_size=5) == baseline
    assert complete("one-thread", order, batch_size=16, threads=1) == baseline


@pytest.fixture(scope="module")
def engine(demo):
    return WindowEngine(demo, threads=2)


@settings(max_examples=12)
@given(
    prompts=st.lists(
        st.lists(st.integers(0, 2000), min_size=1, max_size=60), min_size=1, max_size=9
    ),
    limits=st.lists(st.integers(1, 4), min_size=9, max_size=9),
)
def test_the_very_logits_are_the_same_alone_and_in_company(engine, demo, prompts, limits):
    """Bit for bit, for any neighbours, whichever of them end first."""

    def sequence(row):
        prompt = Prompt(row, "", prompts[row], limits[row])
        return RunningSequence(prompt, demo.tokenizer, [], None, 256, keep_logits=True)

    together = [sequence(row) for row in range(len(prompts))]
    groups = {engine.group(s.n_tokens) for s in together}
    for group in groups:
        generate(engine, [s for s in together if engine.group(s.n_tokens) == group], slice(2304))
    for row, found in enumerate(together):
        alone = sequence(row)
        generate(engine, [alone], slice(2304))
        assert alone.ids == found.ids
        assert all((a == b).all() for a, b in zip(alone.logits, found.logits, strict=True))


@pytest.mark.nightly
def test_invariance_at_the_shapes_of_gpt2_124m(gpt2_tokenizer, random_params):
    """Random weights, real sizes: other kernels of the matrix products come into play there."""
    from dataclasses import replace

    from reference import HParams, load_model
    from reference.checkpoint.weights import Checkpoint

    sizes = HParams(n_vocab=50257, n_ctx=1024, n_embd=768, n_head=12, n_layer=12)
    model = replace(
        load_model("demo"),
        hparams=sizes,
        tokenizer=gpt2_tokenizer,
        checkpoint=Checkpoint.in_memory(sizes, random_params(sizes)),
    )
    big = WindowEngine(model, threads=2)

    def sequence(row):
        prompt = Prompt(row, "", list(range(row + 1, 3 * row + 5)), 3)
        return RunningSequence(prompt, gpt2_tokenizer, [], None, 1024, keep_logits=True)

    company = [sequence(row) for row in range(7)]
    generate(big, company, slice(50257))
    for row in (0, 3, 6):
        alone = sequence(row)
        generate(big, [alone], slice(50257))
        assert alone.ids == company[row].ids
        pairs = zip(alone.logits, company[row].logits, strict=True)
        assert all((a == b).all() for a, b in pairs)
