"""The samples of the job files: made by the seed alone, and neither too easy nor too hard."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "jobs" / "samples"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("samples")
    subprocess.run(
        [sys.executable, "-m", "training.samples", "--out", str(folder)],
        cwd=ROOT,
        env={"PYTHONHASHSEED": "7", "PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
    )
    return folder


def test_the_samples_follow_from_the_seed_alone(made):
    names = sorted(path.name for path in made.iterdir())
    assert names == [
        "blimp.jsonl", "cbt.jsonl", "facts.jsonl", "hellaswag.jsonl", "lambada.jsonl", "text.txt",
        "wikitext.jsonl",
    ]  # fmt: skip
    for name in names:
        assert (made / name).read_bytes() == (SAMPLES / name).read_bytes(), name


def rows(name):
    return [json.loads(line) for line in (SAMPLES / f"{name}.jsonl").read_text().splitlines()]


def test_each_question_has_its_answer_once():
    for row in rows("hellaswag"):
        assert len(set(row["endings"])) == 4
        assert row["ctx"] == f"{row['ctx_a']} {row['ctx_b']}"
        assert row["label"] in "0123"
    for row in rows("cbt"):
        assert len(set(row["options"])) == 10
        assert row["answer"] in row["options"]
        assert row["question"].count("XXXXX") == 1
    for row in rows("blimp"):
        assert row["sentence_good"] != row["sentence_bad"]


def test_rows_are_no_repetition():
    for name in ("lambada", "hellaswag", "blimp", "cbt", "wikitext", "facts"):
        lines = [json.dumps(row) for row in rows(name)]
        assert len(set(lines)) == len(lines), name


def test_pages_are_longer_than_the_context_too(demo):
    n_ctx = demo.hparams["n_ctx"]
    lengths = [len(demo.tokenizer.encode(row["page"])) for row in rows("wikitext")]
    assert min(lengths) < n_ctx < 2 * n_ctx < max(lengths)


def test_the_blessed_completions_are_this_models(demo):
    """Where the model is made anew: `runner batch` on `facts.jsonl`, with 12 new tokens."""
    blessed = SAMPLES / "completions.jsonl"
    manifest = json.loads(Path(f"{blessed}.manifest.json").read_text())
    assert manifest["model"]["weights_sha256"] == demo.weights_sha256
    assert manifest["settings"]["max_new_tokens"] == 12
    assert manifest["check"]["agrees"]
    prompts = [(row["prompt"], row["answer"]) for row in rows("facts")]
    assert [(row["prompt"], row["answer"]) for row in rows("completions")] == prompts
