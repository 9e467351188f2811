import io
import sys

import runner.progress as module
from runner.progress import Progress


def figures():
    return {
        "prefill_tokens_per_s": 4000.0,
        "decode_tokens_per_s": 1234.5,
        "running": 3,
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
        "generating: 2 of 10 rows, 5 tokens/s (prefill 4,000, decode 1,234), 3 running, 5 MiB, "
        "48 s left",
        "generating: 4 of 10 rows, 5 tokens/s (prefill 4,000, decode 1,234), 3 running, 5 MiB, "
        "36 s left",
    ]


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
