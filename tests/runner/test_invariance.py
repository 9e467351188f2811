"""The check that company does not show: it agrees where that is so, and must be able to fail."""

import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from runner.batch_size import BatchSize
from runner.cli import cli
from runner.engine import Engine
from runner.generate import RunningSequence
from runner.int8 import in_int8
from runner.invariance import InvarianceCheck, InvarianceReport, alone, differences
from runner.records import Completion, FinishReason, Prompt, Reject
from runner.sample import repeated_rows
from runner.scheduler import Scheduler

TEXTS = ["The capital of France is", "3 + 4 =", "", "Monday, Tuesday,", "é 日", "3 + 4 = 7 and"]
LIMITS = [5, 1, 12, 3, 9, 7]


def sequences(demo, *, stop=()):
    for row, (text, limit) in enumerate(zip(TEXTS, LIMITS, strict=True)):
        ids = demo.tokenizer.encode(text) or [demo.tokenizer.eos_id]
        prompt = Prompt(row, f"in.jsonl:{row + 1}", ids, limit)
        yield RunningSequence(
            prompt, demo.tokenizer, stop, demo.tokenizer.eos_id, 256, keep_logits=row == 1
        )


def job(engine, demo, check, *, stop=(), most=1 << 28):
    """All rows together, and those that are wanted kept."""
    running = list(sequences(demo, stop=stop))
    for sequence in running:
        check.wants(sequence.prompt.row)
    scheduler = Scheduler(engine, BatchSize(4), most)
    scheduler.add(running)
    while scheduler.n_waiting or scheduler.n_running:
        for sequence in scheduler.step():
            check.keep(sequence)


@pytest.fixture(scope="module", params=["float32", "int8"])
def models(request, demo):
    return demo if request.param == "float32" else in_int8(demo)


@pytest.fixture
def engine(models):
    return Engine(models, threads=2)


@pytest.mark.parametrize("stop", [(), ("e", " the")])
def test_a_job_agrees_with_its_rows_alone(engine, models, demo, stop):
    check = InvarianceCheck(repeated_rows(6, None, 0))
    job(engine, demo, check, stop=stop)
    report = check.run(engine, Engine(models, threads=1))
    assert report == InvarianceReport(rows=6, threads=[2, 1])
    assert report.agrees
    assert report.summary() == (
        "invariance: ok: 6 rows alone gave the same bits, with 2 and with 1 threads"
    )
    assert json.loads(json.dumps(report.as_dict()))["agrees"] is True


def test_company_that_matters_is_caught(engine, demo, monkeypatch):
    """An engine whose log-probabilities depend on how many rows a step has, in their last bit."""
    original = Engine.decode

    def decode(self, tokens, past, *, with_logits=False):
        found = original(self, tokens, past, with_logits=with_logits)
        if len(tokens) == 1:
            return found
        return replace(found, logprobs=np.nextafter(found.logprobs, np.float32(0)))

    monkeypatch.setattr(Engine, "decode", decode)
    check = InvarianceCheck(repeated_rows(6, None, 0))
    job(engine, demo, check)
    report = check.run(engine)
    assert not report.agrees
    assert report.differing_rows >= 2  # a sum of many can round to the same
    assert "FAILED" in report.summary()
    assert "in.jsonl:2: logprob -" in report.summary()


def test_company_that_changes_a_choice_is_caught(engine, demo, monkeypatch):
    original = Engine.decode

    def decode(self, tokens, past, *, with_logits=False):
        found = original(self, tokens, past, with_logits=with_logits)
        chosen = np.where(past == 9, 7, found.tokens) if len(tokens) > 1 else found.tokens
        return replace(found, tokens=chosen)

    monkeypatch.setattr(Engine, "decode", decode)
    check = InvarianceCheck(repeated_rows(6, None, 0))
    job(engine, demo, check)
    report = check.run(engine)
    assert 0 < report.differing_rows < 6
    assert "completion_ids from" in report.differing[0]


def test_threads_that_matter_are_caught(engine, models, demo, monkeypatch):
    other = Engine(models, threads=1)
    monkeypatch.setattr(
        other,
        "decode",
        lambda *given, **named: replace(
            found := Engine.decode(other, *given, **named), logprobs=found.logprobs * 2
        ),
    )
    check = InvarianceCheck(repeated_rows(6, 1, 0))
    job(engine, demo, check)
    (row,) = check.run(engine, other).differing
    assert row.endswith("alone with 1 threads")
    assert "alone with 2 threads" not in row


FINE = Completion(" Paris", [5, 6], 3, FinishReason.LENGTH, float(np.float32(-1.25)))


def test_results_are_compared_to_the_last_bit():
    assert list(differences(FINE, replace(FINE))) == []
    last_bit = float(np.nextafter(np.float32(-1.25), np.float32(0)))
    assert list(differences(replace(FINE, logprob=last_bit), FINE)) == [
        "logprob -1.24999988 (0xbf9fffff), but -1.25 (0xbfa00000)"
    ]
    zeros = replace(FINE, logprob=0.0), replace(FINE, logprob=-0.0)
    assert len(list(differences(*zeros))) == 1
    nan = replace(FINE, logprob=float("nan"))
    assert list(differences(nan, nan)) == []
    assert list(differences(replace(FINE, ids=[5]), FINE)) == [
        "completion_ids from 1 on [], but [6]"
    ]
    assert list(differences(replace(FINE, text="x"), FINE)) == ["text 'x', but ' Paris'"]
    stopped = replace(FINE, finish_reason=FinishReason.STOP)
    assert len(list(differences(stopped, FINE))) == 1
    reject = Reject(0, "in.jsonl:1", "generated a token")
    assert list(differences(reject, FINE)) == ["error generated a token, but a completion"]
    assert list(differences(reject, reject)) == []


def test_rows_are_chosen_by_the_seed_and_replaced_where_nothing_is_generated():
    def chosen(seed, usable=lambda row: True, n=100, count=10):
        check = InvarianceCheck(repeated_rows(n, count, seed))
        return [row for row in range(n) if check.wants(row, usable=usable(row))]

    assert chosen(1) == chosen(1) != chosen(2)
    assert len(chosen(1)) == 10
    assert chosen(1, count=None) == chosen(3, count=100) == list(range(100))
    assert chosen(1, count=0) == []
    odd = chosen(1, usable=lambda row: row % 2)
    assert all(row % 2 for row in odd)
    assert len(odd) >= 8
    assert chosen(1, usable=lambda row: row >= 99) == [99]


def test_only_wanted_rows_are_kept(demo):
    check = InvarianceCheck(repeated_rows(6, 2, 0))
    running = list(sequences(demo))
    wanted = [s.prompt.row for s in running if check.wants(s.prompt.row)]
    for sequence in running:
        sequence.ids, sequence.finish_reason = [1], FinishReason.LENGTH
        check.keep(sequence)
    assert sorted(s.prompt.row for s, _ in check._kept) == wanted
    assert len(wanted) == 2


def test_a_wanted_row_that_never_came_is_our_own_bug(engine):
    check = InvarianceCheck(repeated_rows(3, None, 0))
    assert check.wants(0)
    with pytest.raises(AssertionError, match=r"rows \[0\] were wanted and never kept"):
        check.run(engine)


def test_a_report_names_some_rows_and_counts_the_others():
    report = InvarianceReport(threads=[2])
    assert report.summary() == "invariance: no rows were run again"
    for n in range(12):
        report.add(f"in.jsonl:{n}", ["text 'a', but 'b' alone"] if n else [])
    assert not report.agrees
    lines = report.summary().splitlines()
    assert lines[0] == "invariance: FAILED: 11 of 12 rows alone gave others"
    assert lines[1] == "invariance: in.jsonl:1: text 'a', but 'b' alone"
    assert lines[-1] == "invariance: and 1 rows more"
    one = InvarianceReport(threads=[2])
    one.add("in.jsonl:1", [])
    assert one.summary() == "invariance: ok: 1 row alone gave the same bits"


@pytest.mark.parametrize("output", ["out.parquet", "out.jsonl"])
def test_a_job_runs_some_rows_again(tmp_path, output):
    rows = [{"prompt": f"{n % 9} two three"} for n in range(60)] + [{"prompt": 7}] * 30
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["batch", str(tmp_path / "in.jsonl"), str(tmp_path / output), "--max-new-tokens=3"]
    result = CliRunner().invoke(cli, [*command, "--check-invariance=90", "--part-rows=20"])
    assert result.exit_code == 3
    # Those that share an answer, too; where a chosen row is bad, none is left to stand in for it.
    assert "invariance: ok: 60 rows alone gave the same bits" in result.stderr
    manifest = json.loads((tmp_path / f"{output}.manifest.json").read_text())
    assert manifest["invariance"]["rows"] == 60


def test_a_job_whose_rows_are_others_alone_is_marked(tmp_path, monkeypatch):
    (tmp_path / "in.jsonl").write_text('{"prompt": "one"}\n{"prompt": "two"}\n')

    def otherwise(engine, sequence):
        found = alone(engine, sequence)
        return replace(found, logprob=float(np.nextafter(np.float32(found.logprob), 0)))

    monkeypatch.setattr("runner.invariance.alone", otherwise)
    command = ["batch", str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl")]
    result = CliRunner().invoke(cli, [*command, "--check-invariance=1", "--max-new-tokens=2"])
    assert result.exit_code == 4
    assert "invariance: FAILED: 1 of 1 row alone gave others" in result.stderr
