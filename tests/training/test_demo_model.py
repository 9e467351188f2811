"""The bundled model and its text: what its card promises."""

import json
import subprocess
import sys
from pathlib import Path

from runner import ExitCode, RunSettings, run
from training import evaluate

ROOT = Path(__file__).parents[2]
FACTS = ROOT / "jobs" / "facts.jsonl"


def test_at_least_95_percent_of_the_seen_facts(tmp_path):
    output = tmp_path / "facts.parquet"
    report = run(RunSettings(str(FACTS), str(output), max_new_tokens=12, check_rows=16))
    assert report.exit_code == ExitCode.DONE
    marks = evaluate.mark(evaluate.read(output))
    assert marks.total[True].count > 2000
    assert marks.total[False].count > 500
    assert marks.total[True].share >= 0.95
    # Unseen ones are really harder: the held-out facts did not leak into the training text.
    assert marks.total[False].share < marks.total[True].share


def test_the_sample_prompts_are_answered(tmp_path):
    output = tmp_path / "prompts.jsonl"
    report = run(RunSettings(str(ROOT / "jobs" / "prompts.jsonl"), str(output)))
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert report.exit_code == ExitCode.DONE
    assert len(rows) == 24
    for row in rows:
        assert row["finish_reason"] == "stop"
        assert row["completion"].endswith(".")


def test_the_facts_follow_from_the_seed_alone(tmp_path):
    """In another process, with another hash seed."""
    made = tmp_path / "facts.jsonl"
    subprocess.run(
        [sys.executable, "-m", "training.corpus", "--out", str(made)],
        cwd=ROOT,
        env={"PYTHONHASHSEED": "7", "PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
    )
    assert made.read_bytes() == FACTS.read_bytes()


def test_each_prompt_has_one_answer_and_unseen_means_unseen():
    from training.corpus import build

    corpus = build()
    answers = {fact.prompt: fact.answer for fact in corpus.facts}
    assert len(answers) == len(corpus.facts)
    trained = set(corpus.documents)
    for fact in corpus.facts:
        assert ((fact.prompt, fact.answer) in trained) == fact.seen
