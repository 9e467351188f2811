"""Memory of whole jobs: does it grow with the rows?

    python -m benchmarks.memory SCRATCH
    python -m benchmarks.memory SCRATCH --only "short rows" --scale 0.1
    python -m benchmarks.memory_plot SCRATCH/memory.json docs/memory.png

Each case is a real `runner batch` (or `runner merge`) in a process of its own. Every 100 ms the
resident memory of that process and all of its children is added up, pages of mapped files and
libraries included. The model is a tiny one with random weights, so that the rows are what costs:
reading, tokenizing, keeping them in order, writing and joining. No two short prompts are alike.
"""

import argparse
import contextlib
import gzip
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.random_checkpoint import write_huggingface
from reference import HParams

SAMPLED_S = 0.1
LOOKS = 10  # for new children: after so many samples
MILESTONES = (100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)  # rows whose peak is told
HPARAMS = HParams(n_vocab=2304, n_ctx=1024, n_embd=32, n_head=1, n_layer=1)
DEMO = Path(__file__).parent.parent / "reference" / "demo"  # for its vocabulary
MADE_ROWS = 50_000  # at a time
WORDS = (
    "the a of in on under France capital river city long year song number people red blue green "
    "house tree sea sun moon star one two three four five six seven eight nine ten north south "
    "east west spring summer autumn winter bread water stone iron gold silver copper glass paper "
    "table window door road bridge"
).split()
TEXT_BYTES = 1 << 20  # of a long row's column that is only passed through
PROMPT_BYTES = 1 << 16  # of its prompt, of which the end is kept

Rows = Iterator[dict[str, list[Any]]]  # columns of some rows


def short_rows(n: int) -> Rows:
    """Prompts of eight words, each another."""
    rng = np.random.default_rng(0)
    words = np.array(WORDS)
    for start in range(0, n, MADE_ROWS):
        ids = list(range(start, min(start + MADE_ROWS, n)))
        drawn = words[rng.integers(0, len(words), (len(ids), 7))].tolist()
        yield {
            "id": ids,
            "prompt": [f"{' '.join(w)} {i}" for i, w in zip(ids, drawn, strict=True)],
        }


def long_rows(n: int) -> Rows:
    """Prompts that fill n_ctx and more, each beside a text of a MiB."""
    rng = np.random.default_rng(0)
    words = np.array(WORDS)
    for i in range(n):
        text = " ".join(words[rng.integers(0, len(words), TEXT_BYTES // 4)].tolist())
        yield {"id": [i], "prompt": [text[-PROMPT_BYTES:]], "document": [text[:TEXT_BYTES]]}


def write_jsonl(path: Path, rows: Rows) -> None:
    with path.open("wb") as file, contextlib.ExitStack() as stack:
        stream: Any = file
        if path.suffix == ".gz":
            stream = stack.enter_context(gzip.GzipFile(fileobj=file, mode="wb", compresslevel=1))
        for columns in rows:
            values = zip(*columns.values(), strict=True)
            lines = (dict(zip(columns, row, strict=True)) for row in values)
            stream.write("".join(json.dumps(line) + "\n" for line in lines).encode())


def write_row_group(path: Path, rows: Rows) -> None:
    """All rows in one row group."""
    table = pa.concat_tables([pa.table(columns) for columns in rows])
    pq.write_table(table, path, row_group_size=max(len(table), 1))


@dataclass
class Watched:
    """What a process took while it ran.

    Attributes
    ----------
    seconds, rss_bytes : list
        One of each for every sample.
    rows : list of (float, int)
        Seconds, and rows that were done then.
    """

    seconds: list[float] = field(default_factory=list)
    rss_bytes: list[int] = field(default_factory=list)
    rows: list[tuple[float, int]] = field(default_factory=list)

    @property
    def peak_bytes(self) -> int:
        return max(self.rss_bytes)

    def peak_at(self, n_rows: int) -> int | None:
        """The highest until so many rows were done."""
        end = next((s for s, done in self.rows if done >= n_rows), None)
        if end is None:
            return None
        return max(rss for s, rss in zip(self.seconds, self.rss_bytes, strict=True) if s <= end)

    def median_between(self, start: float, stop: float) -> int:
        """The median of a stretch of its time, told in shares of all of it."""
        n = len(self.rss_bytes)
        return int(np.median(self.rss_bytes[int(start * n) : max(int(stop * n), 1)]))


def watch(command: list[str], metrics: Path, kill_at: int | None = None) -> Watched:
    """Run a command and look at it every 100 ms; at so many rows, kill it."""
    metrics.write_text("")
    found, told = Watched(), 0
    start_s = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        tree = Tree(process.pid)
        while process.poll() is None:
            now_s = time.perf_counter() - start_s
            if rss := tree.rss():
                found.seconds.append(round(now_s, 3))
                found.rss_bytes.append(rss)
            if metrics.stat().st_size != told:
                text = metrics.read_text()
                told = len(text)
                rows = json.loads(text.splitlines()[-1])["rows"] if text.endswith("\n") else 0
                found.rows.append((round(now_s, 3), rows))
                if kill_at is not None and rows >= kill_at:
                    process.send_signal(signal.SIGKILL)
            time.sleep(SAMPLED_S)
        said = process.stderr.read().decode() if process.stderr else ""
    if process.returncode != (0 if kill_at is None else -signal.SIGKILL):
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}\n{said}")
    return found


class Tree:
    """A process and all of its children, which are looked for every second."""

    def __init__(self, pid: int) -> None:
        self._processes = [psutil.Process(pid)]
        self._looks = 0

    def rss(self) -> int:
        """Resident memory of all of them; 0 where they are gone."""
        if self._looks % LOOKS == 0:
            with contextlib.suppress(psutil.NoSuchProcess):
                self._processes[1:] = self._processes[0].children(recursive=True)
        self._looks += 1
        total = 0
        for process in self._processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                total += int(process.memory_info().rss)
        return total


@dataclass
class Bench:
    """Where files lie, and the command."""

    scratch: Path
    scale: float

    def __post_init__(self) -> None:
        self.model = self.scratch / "model"
        if not self.model.exists():
            self.model.mkdir(parents=True)
            write_huggingface(self.model, HPARAMS, 0)
            for name in ("vocab.json", "merges.txt"):
                shutil.copyfile(DEMO / name, self.model / name)

    def n(self, n_rows: int) -> int:
        return max(int(n_rows * self.scale), 8)

    def made(self, name: str, write: Callable[[Path, Rows], None], rows: Rows) -> Path:
        """An input, made unless it is there."""
        path = self.scratch / name
        if not path.exists():
            staged = self.scratch / f"making-{name}"
            write(staged, rows)
            staged.replace(path)
        return path

    def batch(self, source: Path, output: Path, *more: str, kill_at: int | None = None) -> Watched:
        metrics = self.scratch / "metrics.jsonl"
        command = [sys.executable, "-m", "runner.cli", "batch", str(source), str(output)]
        command += ["--model", str(self.model), "--metrics", str(metrics), *more]
        return watch(command, metrics, kill_at)

    def removed(self, *paths: Path) -> int:
        """The size of files that were looked at, which are not kept."""
        n_bytes = sum(path.stat().st_size for path in paths)
        for path in paths:
            path.unlink()
            path.with_name(f"{path.name}.manifest.json").unlink()
        return n_bytes


@dataclass
class Case:
    """One line of the table."""

    rows: int
    source: Path
    output_bytes: int
    watched: Watched


SHORT = ("--max-new-tokens", "1", "--threads", "1")
LONG = ("--max-new-tokens", "16", "--truncate-prompt", "left", "--threads", "1")


def short_jsonl(bench: Bench, n_rows: int = 10_000_000, *more: str) -> Case:
    n = bench.n(n_rows)
    source = bench.made(f"short-{n}.jsonl", write_jsonl, short_rows(n))
    output = bench.scratch / "out.jsonl"
    watched = bench.batch(source, output, *SHORT, *more)
    return Case(n, source, bench.removed(output), watched)


def checked(bench: Bench) -> Case:
    return short_jsonl(bench, 300_000, "--check-rows", "all")


def row_group(bench: Bench) -> Case:
    n = bench.n(1_000_000)
    source = bench.made(f"group-{n}.parquet", write_row_group, short_rows(n))
    output = bench.scratch / "out.parquet"
    watched = bench.batch(source, output, *SHORT)
    return Case(n, source, bench.removed(output), watched)


def compressed(bench: Bench) -> Case:
    n = bench.n(1_000_000)
    source = bench.made(f"short-{n}.jsonl.gz", write_jsonl, short_rows(n))
    output = bench.scratch / "out.parquet"
    watched = bench.batch(source, output, *SHORT)
    return Case(n, source, bench.removed(output), watched)


def long_jsonl(bench: Bench) -> Case:
    n = bench.n(1_000)
    source = bench.made(f"long-{n}.jsonl", write_jsonl, long_rows(n))
    output = bench.scratch / "out.jsonl"
    watched = bench.batch(source, output, *LONG)
    return Case(n, source, bench.removed(output), watched)


def long_parquet(bench: Bench) -> Case:
    n = bench.n(1_000)
    source = bench.made(f"long-{n}.parquet", write_row_group, long_rows(n))
    output = bench.scratch / "out.parquet"
    watched = bench.batch(source, output, *LONG)
    return Case(n, source, bench.removed(output), watched)


def resumed(bench: Bench) -> Case:
    """Killed when half of the rows are done, and run again; what is looked at is the second run."""
    n = bench.n(1_000_000)
    source = bench.made(f"short-{n}.jsonl", write_jsonl, short_rows(n))
    output = bench.scratch / "out.jsonl"
    bench.batch(source, output, *SHORT, kill_at=n // 2)
    watched = bench.batch(source, output, *SHORT)
    return Case(n, source, bench.removed(output), watched)


def merged(bench: Bench) -> Case:
    """Four shards, joined; what is looked at is `runner merge`."""
    n = bench.n(1_000_000)
    source = bench.made(f"group-{n}.parquet", write_row_group, short_rows(n))
    output = bench.scratch / "merged.parquet"
    for shard in range(4):
        bench.batch(source, output, *SHORT, "--shard", f"{shard}/4")
    command = [sys.executable, "-m", "runner.cli", "merge", str(output)]
    watched = watch(command, bench.scratch / "metrics.jsonl")
    bench.removed(*bench.scratch.glob("merged-*.parquet"))
    return Case(n, source, bench.removed(output), watched)


CASES: dict[str, Callable[[Bench], Case]] = {
    "short rows": short_jsonl,
    "all rows checked": checked,
    "one row group": row_group,
    "gzip to Parquet": compressed,
    "long rows": long_jsonl,
    "long rows, Parquet": long_parquet,
    "killed and resumed": resumed,
    "four shards merged": merged,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--only", nargs="*", choices=CASES, help="cases; by default all")
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of rows")
    args = parser.parse_args()
    bench = Bench(args.scratch, args.scale)
    kept = args.scratch / "memory.json"
    samples: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    print(f"{'':20} {'rows':>11} {'input':>9} {'output':>9} {'time':>9} {'peak':>9} {'late':>6}")
    figures: dict[str, dict[str, Any]] = {}
    for name, case in CASES.items():
        if args.only and name not in args.only:
            continue
        found = case(bench)
        w = found.watched
        # Of the second half, how much more its end takes than its beginning.
        late = w.median_between(0.8, 0.95) / w.median_between(0.5, 0.65)
        figures[name] = {
            "rows": found.rows,
            "input_bytes": found.source.stat().st_size,
            "output_bytes": found.output_bytes,
            "elapsed_s": w.seconds[-1],
            "peak_bytes": w.peak_bytes,
            "late_ratio": round(late, 3),
            "peak_at_rows": {n: peak for n in MILESTONES if (peak := w.peak_at(n))},
        }
        f = figures[name]
        print(
            f"{name:20} {found.rows:11,} {f['input_bytes'] / 1e6:6,.0f} MB "
            f"{found.output_bytes / 1e6:6,.0f} MB {w.seconds[-1]:7,.0f} s "
            f"{w.peak_bytes / 2**20:5,.0f} MiB {late:6.2f}",
            flush=True,
        )
        samples[name] = {**figures[name], "seconds": w.seconds, "rss_bytes": w.rss_bytes}
        kept.write_text(json.dumps(samples))
    machine = {"cpu": platform.machine(), "cores": os.cpu_count()}
    versions = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "onnxruntime": onnxruntime.__version__,
        "pyarrow": pa.__version__,
    }
    print(json.dumps({"figures": figures, "machine": machine, "versions": versions}))


if __name__ == "__main__":
    main()
