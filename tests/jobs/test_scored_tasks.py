"""Tasks that score given text: what they say of each row, and of rows that have no score.

Their figures are held to the harness' in `test_lm_eval.py`.
"""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from jobs.language_model import LanguageModel
from jobs.results import SCALES, weighted_mean
from jobs.task_spec import TaskSpec
from jobs.tasks import KINDS
from reference import Tokenizer
from runner.score import ReferenceScorer, Scored


class Told:
    """Gives each token of a continuation the log-probability that a test has for it."""

    def __init__(self, of_token):
        self.of_token = of_token

    def score(self, wanted):
        return [
            Scored(np.array([self.of_token(t) for t in w.tokens]), np.array(w.tokens) * 0 + 5)
            for w in wanted
        ]


@pytest.fixture(scope="module")
def model(demo):
    return LanguageModel(demo, ReferenceScorer(demo))


def told(demo, of_token):
    return LanguageModel(demo, Told(of_token))


def run(model, folder, kind, rows, form=None, **options):
    (folder / "a.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    spec = TaskSpec("t", kind, ("a.jsonl",), form, options=options, folder=folder)
    return KINDS[kind].run(KINDS[kind].checked(spec), model)


def figures(result):
    return {metric.name: metric.value for metric in result.metrics}


def test_a_last_word_that_is_known(model, tmp_path):
    rows = [
        {"text": "The capital city of Germany is called Berlin"},
        {"text": "The capital city of Germany is called Nutmeg"},
    ]
    result = run(model, tmp_path, "last_word", rows, "lambada")
    right, wrong = result.rows
    assert (right.prompt, right.expected, right.answer, right.correct) == (
        "The capital city of Germany is called",
        " Berlin",
        " Berlin",
        True,
    )
    assert wrong.correct is False
    assert wrong.answer.startswith(" Berlin"[:2])
    assert figures(result)["acc"] == 0.5


def test_the_papers_rule_asks_for_the_last_token(demo, model, tmp_path):
    text = "The capital city of Germany is called Bern"
    ids = demo.tokenizer.encode(text)
    result = run(model, tmp_path, "last_word", [{"text": text}, {"text": "A"}], rule="paper")
    row = result.rows[0]
    assert row.prompt + row.expected == text
    assert row.expected == demo.tokenizer.decode(ids[-1:])
    (score,) = model.loglikelihood_tokens([(ids[:-1], ids[-1:])])
    assert row.values["loglikelihood"] == score.loglikelihood
    by_word = run(model, tmp_path, "last_word", [{"text": text}]).rows[0]
    assert by_word.expected == " Bern"
    assert by_word.values["loglikelihood"] < row.values["loglikelihood"]
    assert result.rows[1].prompt == ""  # a text of one token, after end-of-text


@pytest.mark.parametrize("rule", ["harness", "paper"])
def test_without_end_of_text_a_first_token_has_no_score(demo, tmp_path, rule):
    bare = {text: place for text, place in demo.tokenizer.vocab.items() if "|" not in text}
    tokenizer = Tokenizer(bare | {"|": demo.tokenizer.vocab["|"]}, demo.tokenizer.merges)
    assert tokenizer.eos_id is None
    rows = [{"text": "A"}, {"text": "One, two"}]
    like = told(replace(demo, tokenizer=tokenizer), lambda _: -1.0)
    result = run(like, tmp_path, "last_word", rows, rule=rule)
    assert [row.prompt for row in result.rows] == ["One,"]
    assert [bad.where for bad in result.bad_rows] == [f"{tmp_path}/a.jsonl:1"]
    assert "no end-of-text token" in result.bad_rows[0].reason


def test_choices_by_probability_and_per_character(demo, tmp_path):
    # Each token costs 1: the short choice is likelier, the long one per character.
    choices = ["x y z", "the capital city of Germany is called Berlin"]
    lengths = [len(demo.tokenizer.encode(f" {choice}")) for choice in choices]
    rows = [{"context": "a", "choices": choices, "label": 0}]
    result = run(told(demo, lambda _: -1.0), tmp_path, "multiple_choice", rows)
    row = result.rows[0]
    assert lengths[0] < lengths[1]
    assert lengths[0] / len(choices[0]) > lengths[1] / len(choices[1])
    assert figures(result) == {"acc": 1.0, "acc_norm": 0.0}
    assert (row.answer, row.expected, row.correct) == ("x y z", "x y z", True)
    odds = math.exp(lengths[0] - lengths[1])
    assert row.values["probability"] == pytest.approx(1 / (1 + odds), rel=1e-12)
    assert (row.values["chosen"], row.values["label"]) == (0.0, 0.0)


def test_the_space_before_a_choice_is_not_among_its_characters(demo, tmp_path):
    choices = ["b", "1 2 3 4 5"]
    assert [len(demo.tokenizer.encode(f" {choice}")) for choice in choices] == [1, 5]
    rows = [{"context": "a", "choices": choices, "label": 1}]
    result = run(told(demo, lambda _: -1.0), tmp_path, "multiple_choice", rows)
    assert figures(result)["acc_norm"] == 1.0  # 5/9 against 1; with the space 5/10 against 1/2


def test_the_first_of_equal_choices_is_taken(demo, tmp_path):
    rows = [{"context": "a", "choices": ["b", "b", "b"], "label": label} for label in range(3)]
    result = run(told(demo, lambda _: -1.0), tmp_path, "multiple_choice", rows)
    assert [row.values["acc"] for row in result.rows] == [1.0, 0.0, 0.0]
    assert [row.values["acc_norm"] for row in result.rows] == [1.0, 0.0, 0.0]
    assert result.rows[0].values["probability"] == pytest.approx(1 / 3)


def test_perplexity_is_per_token_word_and_byte(demo, tmp_path):
    texts = ["One two three.", "Überall vier."]
    counts = [len(demo.tokenizer.encode(text)) for text in texts]
    rows = [{"text": text} for text in texts]
    result = run(told(demo, lambda _: -2.0), tmp_path, "perplexity", rows)
    total = 2.0 * sum(counts)
    n_bytes = len("".join(texts).encode())
    assert figures(result) == pytest.approx(
        {
            "token_perplexity": math.exp(2.0),
            "word_perplexity": math.exp(total / 5),
            "byte_perplexity": math.exp(total / n_bytes),
            "bits_per_byte": total / n_bytes / math.log(2),
        }
    )
    assert all(metric.stderr is None for metric in result.metrics)


@pytest.mark.parametrize("kind", ["perplexity", "last_word", "multiple_choice"])
def test_metrics_follow_from_rows(model, tmp_path, kind):
    """What the gate computes anew from the rows of two runs."""
    rows = [
        {"text": "One, two, three", "context": "One,", "choices": ["two", "six"], "label": 0},
        {"text": "The sun is out", "context": "The", "choices": ["sun", "nus"], "label": 1},
    ]
    result = run(model, tmp_path, kind, rows)
    assert {metric.name for metric in result.metrics} == set(KINDS[kind].metrics)
    for metric in result.metrics:
        found = SCALES[metric.scale](weighted_mean(result.rows, metric.of, metric.per))
        assert metric.value == found
        assert metric.n == 2


@pytest.mark.parametrize(
    ("kind", "bad", "reason"),
    [
        ("perplexity", {"text": ""}, "an empty text"),
        ("last_word", {"text": "\n word"}, "white space only"),
        ("last_word", {"text": "a " + "b" * 900}, "expected at most n_ctx = 256"),
        ("multiple_choice", {"context": " ", "choices": ["a", "b"], "label": 0}, "white space"),
    ],
)
def test_what_has_no_score_is_a_bad_row(model, tmp_path, kind, bad, reason):
    good = {"text": "One, two, three", "context": "One,", "choices": ["two", "six"], "label": 0}
    result = run(model, tmp_path, kind, [good, bad])
    assert [row.where for row in result.bad_rows] == [f"{tmp_path}/a.jsonl:2"]
    assert reason in result.bad_rows[0].reason
    assert {metric.n for metric in result.metrics} == {1}


def test_without_a_good_row_there_is_no_metric(model, tmp_path):
    result = run(model, tmp_path, "perplexity", [{"text": ""}])
    assert (result.metrics, result.rows, len(result.bad_rows)) == ([], [], 1)
