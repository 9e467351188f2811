"""Marks completions: ``python -m training.evaluate COMPLETIONS.parquet`` (or ``.jsonl``).

The file has the columns kind, seen, prompt, answer and completion.  A completion is right if it is
the answer, character by character.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass
class Score:
    right: int = 0
    count: int = 0

    def add(self, right: bool) -> None:
        self.right += right
        self.count += 1

    @property
    def share(self) -> float:
        return self.right / self.count if self.count else 1.0

    def __str__(self) -> str:
        return f"{self.right}/{self.count} {100 * self.share:.1f} %" if self.count else "-"


@dataclass
class Marks:
    """Scores by kind, then by ``seen``; and the totals by ``seen``."""

    kinds: dict[str, dict[bool, Score]] = field(default_factory=dict)
    total: dict[bool, Score] = field(default_factory=lambda: {True: Score(), False: Score()})
    wrong: list[dict[str, Any]] = field(default_factory=list)

    def table(self) -> list[tuple[str, str, str]]:
        """Lines of kind, score on the seen, score on the unseen; the last one is the total."""
        scores = [*sorted(self.kinds.items()), ("all", self.total)]
        return [(kind, str(by_seen[True]), str(by_seen[False])) for kind, by_seen in scores]


def mark(rows: Iterable[dict[str, Any]]) -> Marks:
    marks = Marks()
    for row in rows:
        seen, right = bool(row["seen"]), row["completion"] == row["answer"]
        marks.kinds.setdefault(row["kind"], {True: Score(), False: Score()})[seen].add(right)
        marks.total[seen].add(right)
        if not right:
            marks.wrong.append(row)
    return marks


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".jsonl":
        lines = path.read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in lines if line.strip()]
    import pyarrow.parquet  # noqa: PLC0415  # only this format needs it

    columns = ["kind", "seen", "prompt", "answer", "completion"]
    rows: list[dict[str, Any]] = pyarrow.parquet.read_table(path, columns=columns).to_pylist()
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description="Mark a file of completions by kind.")
    parser.add_argument("completions", type=Path)
    parser.add_argument("--min-seen", type=float, default=0.0, help="fail below this seen share")
    parser.add_argument("--wrong", type=int, default=0, help="print up to this many wrong ones")
    args = parser.parse_args()
    marks = mark(read(args.completions))
    print(f"{'kind':<18}{'seen':>20}{'unseen':>20}")
    for kind, seen, unseen in marks.table():
        print(f"{kind:<18}{seen:>20}{unseen:>20}")
    for row in marks.wrong[: args.wrong]:
        print(f"{row['prompt']!r}: {row['completion']!r}, not {row['answer']!r}")
    return int(marks.total[True].share < args.min_seen)


if __name__ == "__main__":
    raise SystemExit(main())
