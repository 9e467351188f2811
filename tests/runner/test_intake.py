"""Rows in and out: order, repeated prompts, and what is remembered."""

import json
import random

import pytest

from runner import RunSettings, run
from runner import intake as module
from runner.checker import Checker
from runner.intake import Intake
from runner.invariance import InvarianceCheck
from runner.records import Completion, Reject, Request
from runner.sample import checked_rows, repeated_rows

NOBODY = InvarianceCheck(repeated_rows(0, 0, 0))


class Rows:
    def __init__(self, rows):
        self.rows = rows


def request(row, prompt, limit=None):
    return Request(row, f"row {row}", prompt, limit)


@pytest.fixture
def intake(demo):
    return Intake(
        RunSettings("in", "out", max_new_tokens=5),
        demo,
        Checker(demo, checked_rows(10, 0, 0)),
        NOBODY,
    )


def finish(intake, sequence, ids=(7, 8)):
    for token in ids:
        if sequence.finish_reason is None:
            sequence.append(token, -0.25)
    sequence.limit = len(sequence.ids)
    sequence.finish_reason = sequence.finish_reason or "length"
    intake.finish(sequence)


def test_the_same_prompt_and_limit_is_run_once(intake):
    rows = [request(0, "one"), request(1, "two"), request(2, "one"), request(3, "one", 2)]
    sequences = intake.open(Rows(rows))
    assert [s.prompt.row for s in sequences] == [0, 1, 3]
    assert intake.repeated_rows == 1
    assert not list(intake.ready())
    for sequence in sequences:
        finish(intake, sequence, ids=[10 + sequence.prompt.row, 1])
    ((_, results),) = intake.ready()
    assert [r.ids[0] for r in results] == [10, 11, 10, 13]
    # And in a later chunk, at once.
    assert intake.open(Rows([request(4, "two")])) == []
    ((_, results),) = intake.ready()
    assert results[0].ids[0] == 11
    assert intake.repeated_rows == 2
    assert intake.take_settled() == 5


def test_stop_texts_of_a_row_are_its_own(demo):
    settings = RunSettings("in", "out", max_new_tokens=5, stop=("job",))
    intake = Intake(settings, demo, Checker(demo, checked_rows(10, 0, 0)), NOBODY)
    stops = [None, ("job",), ("row",), ("row", "job"), (), ("row",)]
    rows = [Request(n, "", "one", None, stop) for n, stop in enumerate(stops)]
    assert [s.prompt.row for s in intake.open(Rows(rows))] == [0, 2, 3, 4]
    assert intake.repeated_rows == 2


def test_the_stop_text_of_a_row_ends_it(intake, demo):
    comma = demo.tokenizer.encode(",")
    rows = [Request(0, "", "one", None, (",",)), Request(1, "", "one", None)]
    for sequence in intake.open(Rows(rows)):
        for token in [*comma, *comma]:
            if sequence.finish_reason is None:
                sequence.append(token, -0.25)
        sequence.finish_reason = sequence.finish_reason or "length"
        intake.finish(sequence)
    ((_, results),) = intake.ready()
    assert [result.text for result in results] == ["", ",,"]


def test_a_row_that_is_checked_is_run_though_its_answer_is_known(demo):
    class SecondAndThird:
        rows = iter(range(4))

        def wants(self, *, usable):
            return next(self.rows) in (1, 2) and usable

    intake = Intake(RunSettings("in", "out"), demo, SecondAndThird(), NOBODY)
    sequences = intake.open(Rows([request(n, "one") for n in range(4)]))
    assert [(s.prompt.row, s.keep_logits) for s in sequences] == [(0, False), (1, True)]
    for sequence in sequences:
        finish(intake, sequence)
    ((_, results),) = intake.ready()
    assert len(results) == 4
    assert intake.repeated_rows == 2


def test_chunks_come_out_in_order_whatever_ends_first(intake):
    first = intake.open(Rows([request(0, "one"), request(1, "two")]))
    second = intake.open(Rows([request(2, "three")]))
    finish(intake, second[0])
    finish(intake, first[1])
    assert not list(intake.ready())
    assert intake.n_open == 2
    finish(intake, first[0])
    assert [len(results) for _, results in intake.ready()] == [2, 1]
    assert intake.n_open == 0


def test_a_row_that_asks_for_nothing_is_done(intake):
    assert intake.open(Rows([request(0, "one", 0), request(1, "one", 0)])) == []
    ((_, results),) = intake.ready()
    assert all(isinstance(r, Completion) and r.ids == [] for r in results)


def test_repeated_bad_rows_keep_their_own_places(intake):
    rows = [Reject(0, "a:1", "bad"), request(1, [9999]), request(2, [9999])]
    assert intake.open(Rows(rows)) == []
    ((_, results),) = intake.ready()
    assert [(r.row, r.where) for r in results] == [(0, "a:1"), (1, "row 1"), (2, "row 2")]


def test_what_was_not_asked_for_longest_is_forgotten_first(intake, monkeypatch):
    monkeypatch.setattr(module, "KNOWN_TOKENS", 3 * (module.ANSWER_TOKENS + 2))
    for row, text in enumerate(["a", "b", "c", "a", "d"]):
        for sequence in intake.open(Rows([request(row, text)])):
            finish(intake, sequence)
    assert intake.repeated_rows == 1
    assert intake.open(Rows([request(5, "a")])) == []  # asked for again before d came
    assert len(intake.open(Rows([request(6, "b")]))) == 1  # forgotten for d


def test_what_is_awaited_is_not_forgotten(intake, monkeypatch):
    monkeypatch.setattr(module, "KNOWN_TOKENS", 1)
    (waiting,) = intake.open(Rows([request(0, "a")]))
    (other,) = intake.open(Rows([request(1, "b")]))
    finish(intake, other)
    assert intake.open(Rows([request(2, "a")])) == []
    finish(intake, waiting)
    assert intake.n_open == 3
    assert len(list(intake.ready())) == 3


def test_answers_of_an_earlier_run_are_not_computed_again(demo):
    known = {0: Completion(" x", [5], 1, "length", -1.5), 2: Completion(" y", [6], 1, "stop", -2.5)}
    checker = Checker(demo, checked_rows(3, 1, next(s for s in range(99) if sample(s) == 2)))
    intake = Intake(RunSettings("in", "out"), demo, checker, NOBODY, dict(known))
    sequences = intake.open(Rows([request(n, text) for n, text in enumerate("abc")]))
    assert [s.prompt.row for s in sequences] == [1, 2]  # the last is to be checked
    finish(intake, sequences[0])
    assert intake.answers() == {0: known[0], 1: sequences[0].result()}
    finish(intake, sequences[1])
    ((_, results),) = intake.ready()
    assert results[0] is known[0]
    assert intake.answers() == {}


def sample(seed):
    return random.Random(seed).sample(range(3), 1)[0]


def test_repeated_rows_in_a_job(tmp_path):
    texts = ["The capital of France is", "The opposite of hot is", "The capital of France is"] * 700
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"prompt": t}) + "\n" for t in texts))
    settings = RunSettings(str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"))
    report = run(settings)
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["prompt"] for row in rows] == texts
    assert {row["prompt"]: row["completion"] for row in rows} == {
        "The capital of France is": " Paris.",
        "The opposite of hot is": " cold.",
    }
    # Eight rows were chosen to be checked; with the first of each prompt, both prompts are proven.
    assert 2096 <= report.repeated_rows <= 2098
    assert report.check.rows == 2


def test_a_prompt_that_is_run_again_and_again_counts_once(demo, monkeypatch):
    """Every row is to be run once more alone, so that each runs though its answer is known."""
    monkeypatch.setattr(module, "KNOWN_TOKENS", 3 * (module.ANSWER_TOKENS + 2))
    settings = RunSettings("in", "out", max_new_tokens=5)
    everybody = InvarianceCheck(repeated_rows(40, None, 0))
    intake = Intake(settings, demo, Checker(demo, checked_rows(40, 0, 0)), everybody)
    for row in range(0, 40, 2):
        waiting = [
            *intake.open(Rows([request(row, "a")])),
            *intake.open(Rows([request(row + 1, "a")])),
        ]
        for sequence in waiting:  # the first was superseded by the second
            finish(intake, sequence)
        assert len(intake._answers) == 1
        assert intake._known_tokens == module.ANSWER_TOKENS + 2
    assert sum(len(results) for _, results in intake.ready()) == 40
