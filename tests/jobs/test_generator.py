"""Completions for tasks: those of the slow loop, in the order asked for, and checked."""

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from jobs.generator import EngineGenerator, ReferenceGenerator
from reference import greedy
from runner.errors import SettingsError
from runner.int8 import in_int8
from runner.records import Completion, Reject

PROMPTS = [
    json.loads(line)["prompt"]
    for line in (Path(__file__).parents[2] / "jobs" / "prompts.jsonl").read_text().splitlines()
]


def slowly(model, prompt, n):
    """The text that the cache-less loop gives, up to end-of-text."""
    tokenizer, found = model.tokenizer, []
    ids = tokenizer.encode(prompt) or [tokenizer.eos_id]
    for token in islice(greedy(ids, model.params, model.hparams["n_head"]), n):
        if token == tokenizer.eos_id:
            break
        found.append(token)
    return tokenizer.decode(found)


@pytest.fixture(scope="module")
def engine(demo):
    return EngineGenerator(demo, threads=1, check_rows=5)


def texts(results):
    return [result.text for result in results]


def test_completions_are_those_of_the_slow_loop_in_order(demo, engine):
    prompts = [*PROMPTS, "", PROMPTS[0]]
    expected = [slowly(demo, prompt, 12) for prompt in prompts]
    assert texts(engine.complete(prompts, 12)) == expected
    assert len(set(expected)) > 15  # no constant would do


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_reference_completes_alike(demo, dtype):
    prompts = PROMPTS[:6]
    assert texts(ReferenceGenerator(demo, dtype).complete(prompts, 12)) == [
        slowly(demo, prompt, 12) for prompt in prompts
    ]


def test_in_8_bits_the_engine_completes_as_the_reference_does(demo):
    rounded = in_int8(demo)
    engine = EngineGenerator(rounded, demo, threads=1, check_rows=None)
    found = engine.complete(PROMPTS[:6], 8)
    assert texts(found) == texts(ReferenceGenerator(rounded).complete(PROMPTS[:6], 8))
    assert engine.check.agrees
    assert engine.check.int8.positions == engine.check.positions > 6
    assert engine.check.int8.kl_divergence > 0


def test_token_ids_stop_texts_and_end_of_text(demo, engine):
    prompt = "The capital of France is"
    ids = demo.tokenizer.encode(prompt)
    assert texts(engine.complete([prompt, ids], 12)) == [" Paris.", " Paris."]
    assert texts(engine.complete([prompt], 12, ["."])) == [" Paris"]
    (on,) = engine.complete([prompt], 12, ignore_eos=True)
    assert len(on.ids) == 12
    assert on.text.startswith(" Paris.")


def test_a_prompt_that_is_too_long_is_told_or_cut(demo, engine):
    long, n_ctx = "The sun was warm. " * 80, demo.hparams["n_ctx"]
    told, good = engine.complete([long, "The opposite of hot is"], 4)
    assert isinstance(told, Reject)
    assert told.reason.endswith(f"so that one can follow within n_ctx = {n_ctx}")
    assert isinstance(good, Completion)
    (cut,) = engine.complete([long], 4, truncate=True)
    kept = demo.tokenizer.encode(long)[-(n_ctx - 4) :]
    assert cut.prompt_tokens == len(kept)
    assert cut.text == slowly(demo, demo.tokenizer.decode(kept), 4)


def test_logits_are_checked_over_all_calls(demo):
    generator = EngineGenerator(demo, threads=1, check_rows=5)
    generator.complete(PROMPTS, 3)
    assert generator.check.rows == 5
    generator.complete(PROMPTS[:3] * 4, 3)  # of which there are but three
    assert generator.check.rows == 8
    assert generator.check.agrees
    assert 8 <= generator.check.positions <= 24


def test_another_engine_than_the_reference_is_found_out(demo, monkeypatch):
    generator = EngineGenerator(demo, threads=1, check_rows=None)
    generator.complete(PROMPTS[:1], 1)  # the engine is made of the right weights
    damaged = demo.params | {"ln_f": {"g": demo.params["ln_f"]["g"] * 1.01, "b": 0.0}}
    monkeypatch.setattr(type(demo), "params", property(lambda _: damaged))
    generator.complete(PROMPTS[:4], 4)
    assert generator.check.offending_rows == 4
    assert all(
        any(line.startswith(f"'{prompt[:30]}") for line in generator.check.offending)
        for prompt in PROMPTS[:4]
    )


def test_nothing_is_asked_for(engine):
    assert engine.complete([], 5) == []
    assert texts(engine.complete(["a"], 0)) == [""]
    with pytest.raises(SettingsError, match="stop holds an empty text"):
        engine.complete(["a"], 1, [""])
