"""The check: what it compares is what the engine used, and what it must catch it catches."""

import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from reference.checkpoint.weights import Checkpoint
from reference.tree import tree_map
from runner import ExitCode, RunSettings, run
from runner.checker import Checker
from runner.cli import cli
from runner.comparison import TOLERANCE, compare
from runner.engine import Engine
from runner.int8 import in_int8
from runner.sample import checked_rows

PROMPTS = ["The capital of France is", "The opposite of hot is", "Monday, Tuesday,", "3 + 4 ="]


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "in.jsonl"
    texts = [f"{n} {text}" for n in range(5) for text in PROMPTS]
    path.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    return str(path)


def disturbed(monkeypatch, disturb):
    """An engine whose logits go through `disturb` before anything is chosen from them."""
    original = Engine.decode

    def decode(self, tokens, past, *, with_logits):
        found = original(self, tokens, past, with_logits=True)
        logits = disturb(found.logits)
        return replace(found, tokens=logits.argmax(axis=-1), logits=logits)

    monkeypatch.setattr(Engine, "decode", decode)


def test_compare_tells_near_ties_from_disagreements():
    reference = np.zeros((4, 3), np.float32)
    reference[0] = [0, 5, 1]  # the same choice
    reference[1] = [5, 5.001, 0]  # a near tie: margin 0.001 under twice the tolerance
    reference[2] = [5, 0, 4]  # a clear choice
    reference[3] = [1, 2, 3]
    found = reference.copy()
    found[1] = [5.002, 5.001, 0]
    found[2] = [3, 0, 4]
    result = compare(found, reference)
    assert result.positions == 4
    assert result.top1_agreement == 2
    assert result.near_ties == 1
    assert result.disagreements == 1
    assert result.max_abs_diff == pytest.approx(2)
    assert result.mean_abs_diff == pytest.approx((0.002 + 2) / 12, rel=1e-3)
    assert result.tolerance == pytest.approx(TOLERANCE * reference.std())
    assert not result.agrees


def test_a_nan_never_agrees():
    reference = np.arange(12, dtype=np.float32).reshape(2, 6)
    found = reference.copy()
    found[0, 0] = np.nan
    assert compare(reference, reference).agrees
    assert not compare(found, reference).agrees


def test_the_rows_are_chosen_by_the_seed_and_replaced_where_bad(demo):
    def chosen(seed, usable=lambda row: True, n=100, count=10):
        checker = Checker(demo, checked_rows(n, count, seed))
        return [row for row in range(n) if checker.wants(usable=usable(row))]

    assert chosen(1) == chosen(1) != chosen(2)
    assert len(chosen(1)) == 10
    assert len(chosen(1, count=None)) == 100
    assert chosen(1, count=0) == []
    odd = chosen(1, usable=lambda row: row % 2)
    assert all(row % 2 for row in odd)
    assert len(odd) >= 8


@pytest.mark.parametrize("seed", [0, 1])
def test_a_good_job_agrees(tmp_path, prompts, seed):
    report = run(RunSettings(prompts, str(tmp_path / "o.jsonl"), check_rows=None, seed=seed))
    assert report.exit_code == ExitCode.DONE
    assert report.check.rows == 20
    assert report.check.agrees
    assert report.check.top1_agreement == report.check.positions
    # Every generated position, end-of-text included.
    rows = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    stops = sum(row["finish_reason"] == "stop" for row in rows)
    assert report.check.positions == report.completion_tokens + stops
    # Measured: 1e-5 on logits of spread 3. Anything near the tolerance would be news.
    assert 0 < report.check.max_abs_diff < report.check.tolerance / 10


@pytest.mark.parametrize("output", ["out.jsonl", "out.parquet"])
def test_wrong_logits_exit_with_4_and_mark_the_output(tmp_path, prompts, monkeypatch, output):
    disturbed(monkeypatch, lambda logits: logits + np.linspace(0, 0.1, logits.shape[1], dtype="f4"))
    path = tmp_path / output
    result = CliRunner().invoke(cli, ["batch", prompts, str(path), "--check-rows", "3"])
    assert result.exit_code == 4
    assert "check: FAILED: 3 rows" in result.stderr
    assert result.stderr.count(f"{prompts}:") == 3
    assert "logits differ by 0.1 (tolerance" in result.stderr
    manifest = json.loads((tmp_path / f"{output}.manifest.json").read_text())
    assert manifest["check"]["agrees"] is False
    assert manifest["check"]["offending_rows"] == 3
    if output.endswith("parquet"):
        footer = json.loads(pq.read_metadata(path).metadata[b"picobatch"])
        assert footer | {"file": manifest["file"]} == manifest
    shown = CliRunner().invoke(cli, ["inspect", str(path)])
    assert "check        FAILED" in shown.stdout


def test_a_wrong_choice_is_a_disagreement(tmp_path, prompts, monkeypatch):
    """Small everywhere but at one token: the choice itself is wrong."""

    def promote(logits):
        logits = logits.copy()
        logits[:, 100] = logits.max(axis=1) + 1
        return logits

    disturbed(monkeypatch, promote)
    report = run(RunSettings(prompts, str(tmp_path / "o.jsonl"), max_new_tokens=2))
    assert report.exit_code == ExitCode.DISAGREES
    assert report.check.disagreements > 0


def test_weights_that_are_not_the_references_are_caught(tmp_path, prompts, demo, monkeypatch):
    """The engine computes with weights rounded to eight bits; the reference does not."""

    def rounded(path, array):
        scale = np.abs(array).max() / 127
        return (np.round(array / scale) * scale).astype(np.float32)

    params = tree_map(rounded, demo.params)
    worse = replace(demo, checkpoint=Checkpoint.in_memory(demo.hparams, params))
    original = Engine.__init__
    monkeypatch.setattr(Engine, "__init__", lambda s, _, threads, **o: original(s, worse, threads))
    report = run(RunSettings(prompts, str(tmp_path / "o.jsonl")))
    assert report.exit_code == ExitCode.DISAGREES


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_logits_are_compared_while_rows_grow_where_there_is_no_room(
    tmp_path, prompts, monkeypatch, demo, dtype
):
    settings = RunSettings(prompts, "", dtype=dtype, check_rows=None, batch_size=4, ignore_eos=True)
    whole = run(replace(settings, output=str(tmp_path / "whole.jsonl"))).check
    original, held = Checker.make_room, []

    def make_room(self, running):
        self._most_bytes = 10 * 4 * demo.hparams["n_vocab"]
        original(self, running)
        held.append(sum(len(sequence.logits) for sequence in running))

    monkeypatch.setattr(Checker, "make_room", make_room)
    parts = run(replace(settings, output=str(tmp_path / "parts.jsonl"))).check
    assert 7 <= max(held) <= 10
    assert parts.agrees
    assert (
        (parts.rows, parts.positions)
        == (whole.rows, whole.positions)
        == (20, 20 * settings.max_new_tokens)
    )
    assert parts.top1_agreement + parts.near_ties == parts.positions
    if dtype == "float32":  # in int8 single roundings fall otherwise when the reference begins anew
        assert parts.mean_abs_diff == pytest.approx(whole.mean_abs_diff, rel=0.1)


def test_one_bad_stretch_makes_a_bad_row(tmp_path, prompts, monkeypatch):
    """And is the one that is named."""
    steps = iter(range(1000))
    disturbed(monkeypatch, lambda x: x * 1.1 if next(steps) == 2 else x)
    original = Checker.make_room

    def make_room(self, running):
        self._most_bytes = 0
        original(self, running)

    monkeypatch.setattr(Checker, "make_room", make_room)
    settings = RunSettings(prompts, str(tmp_path / "o.jsonl"), limit=1, max_new_tokens=5)
    report = run(replace(settings, ignore_eos=True, check_rows=1)).check
    assert report.positions == 5
    assert report.offending_rows == 1
    found = float(report.offending[0].split("differ by ")[1].split()[0])
    assert found == pytest.approx(report.max_abs_diff, rel=0.01)
    assert "0 of 5 choices differ" in report.offending[0]


def test_no_check_is_said(tmp_path, prompts):
    report = run(RunSettings(prompts, str(tmp_path / "o.jsonl"), check_rows=0))
    assert report.exit_code == ExitCode.DONE
    assert "no rows were compared with the reference" in report.summary()


def test_bad_rows_and_a_failed_check_exit_with_4(tmp_path, monkeypatch):
    (tmp_path / "in.jsonl").write_text('{"prompt": null}\n{"prompt": "one"}\n')
    disturbed(monkeypatch, lambda logits: logits * 1.1)
    report = run(RunSettings(str(tmp_path / "in.jsonl"), str(tmp_path / "o.jsonl")))
    assert report.bad_rows == 1
    assert report.exit_code == ExitCode.DISAGREES


def test_many_offending_rows_are_counted_and_some_named(tmp_path, prompts, monkeypatch):
    disturbed(monkeypatch, lambda logits: logits * 2)
    report = run(RunSettings(prompts, str(tmp_path / "o.jsonl"), check_rows=None))
    assert report.check.offending_rows == 20
    assert len(report.check.offending) == 10
    assert "and 10 rows more" in report.summary()


def test_int8_is_checked_against_int8_and_its_loss_is_said(tmp_path, prompts):
    report = run(RunSettings(prompts, str(tmp_path / "o.jsonl"), dtype="int8", check_rows=None))
    assert report.exit_code == ExitCode.DONE
    loss = report.check.int8
    assert loss.positions == report.check.positions
    # Measured: 2 % of the spread on such prompts, and the choice of float32 nearly always.
    assert 0.005 < loss.rms_in_std < 0.05
    assert loss.top1_agreement > 0.9
    assert 0 < loss.kl_divergence < 0.05
    assert "int8: at" in report.summary()
    assert report.provenance["check"]["int8"]["rms_in_std"] == loss.rms_in_std


@pytest.mark.parametrize("fault", ["half as fine", "one scale for all columns"])
def test_another_way_of_rounding_is_caught(tmp_path, prompts, demo, monkeypatch, fault):
    """The engine computes with weights that were rounded otherwise than the reference's."""
    from reference import int8

    original = Engine.__init__

    def coarse(w, *, unsigned):
        if fault == "one scale for all columns":
            scale = np.full(w.shape[1], np.abs(w).max() / 127, np.float32)
        else:
            scale = np.abs(w).max(axis=0) / np.float32(63)
        q = np.rint(w / scale)
        q = (q + int8.ZERO).astype(np.uint8) if unsigned else q.astype(np.int8)
        return int8.Int8Matrix(q=np.ascontiguousarray(q), scale=scale)

    def init(self, model, threads, **_):
        with monkeypatch.context() as patch:
            patch.setattr(int8, "quantize_matrix", coarse)
            worse = in_int8(demo)
        original(self, worse, threads)

    monkeypatch.setattr(Engine, "__init__", init)
    report = run(RunSettings(prompts, str(tmp_path / "o.jsonl"), dtype="int8"))
    assert report.exit_code == ExitCode.DISAGREES
