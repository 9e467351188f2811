"""Of a model with much weight one copy is kept in the form that it is computed with."""

import weakref
from pathlib import Path

from click.testing import CliRunner

from jobs import evaluate, generator
from jobs.cli import cli
from runner import engine_scorer

SAMPLES = Path(__file__).parents[2] / "jobs" / "samples"
JOB = f"""
check_rows = 0
[tasks.words]
kind = "last_word"
data = "{SAMPLES}/lambada.jsonl"
format = "lambada"
limit = 4
[tasks.facts]
kind = "greedy"
data = "{SAMPLES}/facts.jsonl"
max_new_tokens = 4
limit = 4
[tasks.choices]
kind = "multiple_choice"
data = "{SAMPLES}/blimp.jsonl"
format = "blimp"
limit = 4
"""


def test_scoring_and_generating_take_turns(tmp_path, monkeypatch):
    alive, most = weakref.WeakSet(), []

    def counted(engine):
        class Counted(engine):
            def __init__(self, *args, **more):
                super().__init__(*args, **more)
                alive.add(self)
                most.append(len(alive))

        return Counted

    monkeypatch.setattr(engine_scorer, "ScoreEngine", counted(engine_scorer.ScoreEngine))
    monkeypatch.setattr(generator, "Engine", counted(generator.Engine))
    (tmp_path / "job.toml").write_text(JOB)
    for is_large, expected in ((True, [1, 1, 1]), (False, [1, 2])):
        most.clear()
        monkeypatch.setattr(evaluate, "is_large", lambda _, is_large=is_large: is_large)
        asked = ["eval", str(tmp_path / "job.toml"), "--no-report"]
        done = CliRunner().invoke(cli, asked, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        assert most == expected
