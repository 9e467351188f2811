"""The record of what a number format costs, and what happens where it is too much."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
from click.testing import CliRunner

from exporter import export
from exporter.variants import VARIANTS
from reference import gpt2
from reference.int8 import Int8Matrix, each_linear, quantize_whole
from runner.cli import cli
from runner.parity import DEFAULT_TEXT, ParityMeter, Passage, parity_record
from runner.trial import DisagreementError

TEXT = "The capital of France is Paris. The opposite of hot is cold. " * 3


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return path


def softmax(x):
    return np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)


def test_the_record_of_an_export_computed_again(demo, tmp_path, text):
    """By onnxruntime on the forward graph, and the formulas as they stand in a textbook."""

    def verify(package, model):
        return parity_record(package, model, text)

    package = export(demo, tmp_path / "x", dtypes=["float32", "int8"], verify=verify)
    ids = np.array(demo.tokenizer.encode(TEXT))
    assert 20 < len(ids) < 256
    exact = gpt2(ids[:-1], **demo.params, n_head=4).astype(float)
    padded = np.zeros((1, 256), np.int64)
    padded[0, : len(ids) - 1] = ids[:-1]
    for dtype in ("float32", "int8"):
        record = package.variant(dtype)["parity"]["record"]
        session = onnxruntime.InferenceSession(str(package.graph_path("forward", dtype)))
        logits = session.run(None, {"input_ids": padded})[0][0, : len(ids) - 1].astype(float)
        p, q = softmax(exact), softmax(logits)
        kl = (p * np.log(p / q)).sum(axis=-1)
        rows = np.arange(len(ids) - 1)
        perplexities = [np.exp(-np.log(x[rows, ids[1:]]).mean()) for x in (p, q)]
        expected = {
            "positions": len(ids) - 1,
            "max_abs_diff": np.abs(logits - exact).max(),
            "mean_abs_diff": np.abs(logits - exact).mean(),
            "top1_agreement": (logits.argmax(-1) == exact.argmax(-1)).mean(),
            "reference_perplexity": perplexities[0],
            "perplexity": perplexities[1],
            "kl_mean": kl.mean(),
            "kl_p99": np.percentile(kl, 99),
        }
        # The graph with past rounds as the forward graph does, if in another order.
        loose = {"rel": 0.02, "abs": 2e-5} if dtype == "float32" else {"rel": 0.2}
        for name, value in expected.items():
            assert record[name] == pytest.approx(value, **loose), name
        assert record["text_sha256"] == hashlib.sha256(TEXT.encode()).hexdigest()
        change = record["perplexity"] / record["reference_perplexity"] - 1
        assert record["perplexity_change"] == pytest.approx(change)
        assert record["agrees"]


@pytest.mark.parametrize("n_ctx", [1, 7, 256])
def test_a_text_longer_than_the_context_is_cut(demo, tmp_path, text, n_ctx):
    def verify(package, model):
        return parity_record(package, model, text)

    package = export(demo, tmp_path / "x", n_ctx=n_ctx, verify=verify)
    record = package.variant("float32")["parity"]["record"]
    assert record["positions"] == len(demo.tokenizer.encode(TEXT)) - 1


def coarse(params):
    """Four bits where there should be eight."""

    def matrix(w):
        return Int8Matrix(q=(w["q"] // 16 * 16 + 8).astype(np.uint8), scale=w["scale"])

    rounded = quantize_whole(params)
    return {**rounded, "blocks": each_linear(rounded, lambda _, w: matrix(w))}


def one_scale(params):
    """One scale for a whole matrix, as simple schemes have it."""

    def matrix(w):
        whole = (w["q"].astype(float) - 128) * w["scale"]
        scale = np.float32(np.abs(whole).max() / 7)
        return Int8Matrix(
            q=(np.rint(whole / scale) + 128).astype(np.uint8), scale=np.full_like(w["scale"], scale)
        )

    rounded = quantize_whole(params)
    return {**rounded, "blocks": each_linear(rounded, lambda _, w: matrix(w))}


@pytest.mark.parametrize("scheme", [coarse, one_scale])
def test_a_format_that_costs_too_much_is_not_written(demo, tmp_path, monkeypatch, scheme):
    monkeypatch.setitem(VARIANTS, "int8", replace(VARIANTS["int8"], rounded=scheme))
    result = CliRunner().invoke(cli, ["export", "demo", str(tmp_path / "x"), "--dtype", "int8"])
    assert result.exit_code == 4
    assert "demo in int8 is not what it is in float32; nothing was written" in result.stderr
    assert "(tolerance 0.1)" in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_graph_that_computes_another_format_is_not_written(demo, tmp_path, monkeypatch):
    """What is stored is right, what is computed is not."""
    from exporter import targets

    monkeypatch.setattr(targets, "LIMIT", 160)  # more than find room in 8 bits
    with pytest.raises(DisagreementError, match=r"int8 (is not what it is|disagrees)"):
        export(demo, tmp_path / "x", dtypes=["int8"], n_ctx=16, verify=parity_record)
    assert not list(tmp_path.iterdir())


def test_not_a_number_never_agrees():
    meter = ParityMeter("float32", "x", "", slice(None))
    logits = np.zeros((2, 5), np.float32)
    meter.add(Passage(np.arange(2), np.arange(2), logits), np.full_like(logits, np.nan))
    record = meter.record()
    assert not record.agrees
    assert np.isnan(record.max_abs_diff)


def test_a_perplexity_beyond_all_numbers_is_still_json():
    meter = ParityMeter("float32", "x", "", slice(None))
    logits = np.array([[0, 1e4], [0, 1e4]], np.float32)
    meter.add(Passage(np.zeros(2, int), np.zeros(2, int), logits), logits)
    found = json.loads(json.dumps(meter.record().as_dict(), allow_nan=False))
    assert found["agrees"]
    assert found["perplexity"] > 1e300


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "No such file"), (b"\xff\xfe", "can't decode"), (b"", "0 tokens; expected two")],
)
def test_a_text_that_is_none(demo, tmp_path, text, content, message):
    text.unlink() if content is None else text.write_bytes(content)
    result = CliRunner().invoke(
        cli, ["export", "demo", str(tmp_path / "x"), "--text", str(text), "--n-ctx", "8"]
    )
    assert result.exit_code == 1
    assert message in result.stderr
    assert not (tmp_path / "x").exists()


def test_the_page_that_comes_with_us_is_long_enough(demo):
    assert 400 < len(demo.tokenizer.encode(DEFAULT_TEXT.read_text())) <= 1024
