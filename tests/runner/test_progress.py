import io
import json
import sys

import pytest

import runner.progress as module
from runner.errors import OutputError
from runner.progress import Progress


def figures():
    return {
        "prefill_tokens_per_s": 4000.0,
        "decode_tokens_per_s": 1234.5,
        "running": 3,
        "occupancy": 0.954,
        "memory_bytes": 5 << 20,
    }


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_plain_lines_every_few_seconds_where_there_is_no_terminal(monkeypatch, capsys):
    now_s = iter(range(100, 200, 6))
    monkeypatch.setattr(module.time, "monotonic", lambda: next(now_s))
    with Progress(10, figures) as progress:
        for _ in range(4):
            progress.advance(1, 30)
    assert capsys.readouterr().err.splitlines() == [
        "generating: 2 of 10 rows, 5 tokens/s (prefill 4,000, decode 1,234), 3 rows running, "
        "95% occupied, 5 MiB, "
        "48 s left",
        "generating: 4 of 10 rows, 5 tokens/s (prefill 4,000, decode 1,234), 3 rows running, "
        "95% occupied, 5 MiB, "
        "36 s left",
    ]


def test_where_nothing_is_done_nobody_knows_how_long_it_takes(monkeypatch, capsys):
    now_s = iter(range(100, 200, 20))
    monkeypatch.setattr(module.time, "monotonic", lambda: next(now_s))
    with Progress(400, figures) as progress:
        progress.advance(0, 0)
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("generating: 0 of 400 rows, ")
    assert line.endswith("5 MiB")


def test_a_bar_on_a_terminal(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    now_s = iter(range(100, 200, 2))
    monkeypatch.setattr(module.time, "monotonic", lambda: next(now_s))
    with Progress(3, figures) as progress:
        progress._bar.mininterval = 0
        progress.advance(3, 30)
    assert "generating" in terminal.getvalue()
    assert "tokens/s" in terminal.getvalue()


def test_metrics_are_lines_of_json_every_few_seconds_and_at_the_end(tmp_path, monkeypatch, capsys):
    now_s = iter(range(100, 200, 3))
    monkeypatch.setattr(module.time, "monotonic", lambda: next(now_s))
    path = tmp_path / "metrics.jsonl"
    with Progress(10, figures, str(path)) as progress:
        for _ in range(4):
            progress.advance(2, 30)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["elapsed_s"], line["rows"]) for line in lines] == [(6, 4), (12, 8), (15, 8)]
    assert lines[0] == {
        "elapsed_s": 6,
        "rows": 4,
        "n_rows": 10,
        "left_s": 9,
        "completion_tokens": 60,
        **figures(),
    }
    capsys.readouterr()


def test_metrics_that_cannot_be_written(tmp_path):
    with pytest.raises(OutputError, match=r"missing/m.jsonl: No such file .* Check the path"):
        Progress(10, figures, str(tmp_path / "missing" / "m.jsonl"))
