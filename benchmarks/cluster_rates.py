"""Rates of this machine for the simulator of clusters: of a slot, and of the driver.

    python -m benchmarks.cluster_simulation --measure RATES.json

A slot is a process that does parts one after another, by the very function that a Ray task calls:
as many run at once as keep all cores busy. The driver is what stays in one process. Model: random
weights of GPT-2 124M's shapes, and the bundled one. Rows: prompts of lognormal lengths, 64 tokens
on average (less for the bundled model), and geometric numbers of new tokens, 40 on average and 128
at most.
"""

import json
import multiprocessing
import os
import platform
import shutil
import sys
import tempfile
import time
import tracemalloc
from collections import deque
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import NormalDist, mean, median
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.cluster_model import Nodes, Slot, Store
from benchmarks.random_checkpoint import write_huggingface
from benchmarks.simulated_cluster import simulate
from reference import HParams
from runner.clock import Clock
from runner.cluster.dispatch import Dispatch
from runner.cluster.part_task import PartsOnNodes, PartTask, do_part
from runner.cluster.tasks import Attempt, Begun, Ended
from runner.folder_access import open_folder
from runner.inputs import input_files
from runner.job_folder import file_hash
from runner.join import join
from runner.jsonl import scan_jsonl
from runner.lines import numbered_lines
from runner.output import open_output
from runner.parts import Part, PartRecord, Plan
from runner.places import Place
from runner.planner import plan_job
from runner.process import Samples
from runner.sealed import seal, unseal
from runner.settings import RunSettings

SHAPES = HParams(n_vocab=50257, n_ctx=1024, n_embd=768, n_head=12, n_layer=12)
DEMO = Path(__file__).parent.parent / "reference" / "demo"  # for its vocabulary too
NEW_TOKENS, GEOMETRIC_MEAN, MOST_NEW_TOKENS = 40, 42, 128  # the mean, and that before the cut
MOST_PROMPT = {"124M": 230, "demo": 128}
BATCH_SIZE = 64  # what 124M's shapes find for themselves, given time
PART_ROWS = {"124M": (64, 144), "demo": (1024, 4096)}
WORDS = "the of in on under capital river city year song red blue tree sea sun moon stone".split()


def measure(scratch: Path) -> dict[str, Any]:
    """All rates; takes some minutes."""
    os.environ["PICOBATCH_CACHE_DIR"] = str(scratch / "cache-driver")
    model = scratch / "124M"
    model.mkdir()
    write_huggingface(model, SHAPES, seed=0)
    for name in ("vocab.json", "merges.txt"):
        shutil.copyfile(DEMO / name, model / name)
    slots: dict[str, Any] = {}
    for dtype in ("float32", "int8"):
        for threads in (1, 2):
            name = f"124M {dtype} {threads}"
            slots[name] = slot_rates(scratch, str(model), "124M", dtype, threads)
            print(f"{name}: {slots[name]}", file=sys.stderr, flush=True)
    slots["demo float32 1"] = slot_rates(scratch, "demo", "demo", "float32", 1)
    return {
        "machine": {
            "cpu": platform.machine(),
            "cores": os.cpu_count(),
            "load_before": round(os.getloadavg()[0], 1),
        },
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "onnxruntime": onnxruntime.__version__,
            "pyarrow": pa.__version__,
        },
        "slots": slots,
        "driver": driver_rates(scratch / "driver"),
    }


def slot_rates(scratch: Path, model: str, size: str, dtype: str, threads: int) -> dict[str, float]:
    """Of slots that keep all cores busy, the mean: seconds of a part are drain + rows / rate."""
    n_slots = max((os.cpu_count() or 1) // threads, 1)
    few, many = PART_ROWS[size]
    rows_of_slot = 2 + few + many
    folder = Path(tempfile.mkdtemp(dir=scratch))
    source = folder / "in.jsonl"
    rng = np.random.default_rng(0)
    with source.open("w") as stream:
        for n_rows in [1, 1, few, many] * n_slots:
            for row in _rows(n_rows, MOST_PROMPT[size], rng):
                stream.write(json.dumps(row) + "\n")
    settings = RunSettings(
        str(source),
        str(folder / "out.jsonl"),
        model=model,
        ignore_eos=True,
        dtype=dtype,
        threads=threads,
        batch_size=BATCH_SIZE if size == "124M" else None,
        check_rows=0,
    )
    with input_files(settings.input) as files, open_output(settings, files) as output:
        job, _ = plan_job(settings, files, Clock())
        output.begin(job.key, job.plan, job.schema)
        shared = PartsOnNodes(job, *output.shared())
        cache = folder / "cache"
        first_load_s, _ = _run_slots(shared, cache, n_slots, rows_of_slot, [])
        load_s, told = _run_slots(shared, cache, n_slots, rows_of_slot, [few, many])
    (few_s, few_cpu_s), (many_s, many_cpu_s) = (
        (mean(t[n]["wall_s"] for t in told), mean(t[n]["cpu_s"] for t in told)) for n in (1, 2)
    )
    rate = (many - few) / (many_s - few_s)
    return {
        "rows_per_s": round(rate, 3),
        "drain_s": round(max(few_s - few / rate, 0.0), 3),
        "first_load_s": round(first_load_s - told[0][0]["wall_s"], 2),
        "load_s": round(load_s - told[0][0]["wall_s"], 2),
        "rss_bytes": max(t[-1]["rss_bytes"] for t in told),
        "slots": n_slots,
        "few_s": round(few_s, 3),
        "few_cpu_s": round(few_cpu_s, 3),
        "many_s": round(many_s, 3),
        "many_cpu_s": round(many_cpu_s, 3),
    }


def _rows(n: int, most_prompt: int, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Each part has the same distributions, without luck: quantiles in any order."""
    shares = (np.arange(n) + 0.5) / n
    normal = [NormalDist().inv_cdf(share) for share in shares]
    lengths = np.clip(np.exp(3.95 + 0.7 * np.array(normal)), 8, most_prompt).astype(int)
    new_tokens = np.ceil(np.log1p(-shares) / np.log1p(-1 / GEOMETRIC_MEAN)).clip(1, MOST_NEW_TOKENS)
    for length, n_new in zip(rng.permutation(lengths), rng.permutation(new_tokens), strict=True):
        prompt = rng.integers(0, 2000, int(length)).tolist()
        yield {"prompt": prompt, "max_new_tokens": int(n_new)}


def _run_slots(
    shared: PartsOnNodes, cache: Path, n_slots: int, rows_of_slot: int, sizes: list[int]
) -> tuple[float, list[list[dict[str, float]]]]:
    """Start slots; once all have the model, do parts: seconds until then, what each part took."""
    context = multiprocessing.get_context("spawn")
    start_s, slots = time.perf_counter(), []
    for n in range(n_slots):
        ours, theirs = context.Pipe()
        task = (shared, cache, n * rows_of_slot, sizes, theirs)
        slots.append((ours, context.Process(target=be_slot, args=task)))
        slots[-1][1].start()
        theirs.close()  # so that the end of a slot is seen
    ready_s = []
    for pipe, _ in slots:
        pipe.recv()
        ready_s.append(time.perf_counter() - start_s)
    for pipe, _ in slots:
        pipe.send("go")
    found = [pipe.recv() for pipe, _ in slots]
    for _, process in slots:
        process.join()
    return mean(ready_s), found


def be_slot(
    shared: PartsOnNodes, cache: Path, first_row: int, sizes: list[int], pipe: Connection
) -> None:
    """Do parts as a task does them: one row to load the model, then, when told to, all sizes."""
    os.environ["PICOBATCH_CACHE_DIR"] = str(cache)
    threads = shared.job.settings.threads
    here: Any = SimpleNamespace(share=threads / (os.cpu_count() or 1), tell=lambda _: None)
    row = first_row

    def do(n_rows: int) -> dict[str, float]:
        nonlocal row
        start_s, start_cpu_s = time.perf_counter(), time.process_time()
        part = Part(row, range(row, row + n_rows))
        samples = Samples.of(shared.job.settings, n_rows)
        do_part(shared, PartTask(part, samples), here)
        row += n_rows
        return {
            "wall_s": time.perf_counter() - start_s,
            "cpu_s": time.process_time() - start_cpu_s,
            "rss_bytes": psutil.Process().memory_info().rss,
        }

    do(1)
    pipe.send("ready")
    pipe.recv()
    pipe.send([do(n_rows) for n_rows in (1, *sizes)])


def _median_s(function: Callable[[], object], times: int = 5) -> float:
    seconds = []
    for _ in range(times):
        start_s = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start_s)
    return median(seconds)


def driver_rates(folder: Path) -> dict[str, float]:
    """What the one process takes that plans, counts and joins."""
    folder.mkdir()
    return {
        **_input_rates(folder),
        **_join_rates(folder),
        **_commit_rates(folder),
        **_plan_rates(),
    }


def _input_rates(folder: Path) -> dict[str, float]:
    n_rows, path = 200_000, folder / "in.jsonl"
    rng = np.random.default_rng(0)
    words = np.array(WORDS)[rng.integers(0, len(WORDS), (n_rows, 12))]
    with path.open("w") as stream:
        for n, some in enumerate(words.tolist()):
            stream.write(json.dumps({"id": n, "prompt": " ".join(some)}) + "\n")
    place, n_bytes = Place.local(path), path.stat().st_size
    scan_s = _median_s(lambda: scan_jsonl([place], "in", None, "prompt", typed=False), 3)
    skip_s = _median_s(lambda: sum(1 for _ in numbered_lines(place)), 3)
    hash_s = _median_s(lambda: file_hash(place))
    return {
        "row_in_bytes": n_bytes / n_rows,
        "scan_bytes_per_s": n_bytes / scan_s,
        "skip_bytes_per_s": n_bytes / skip_s,
        "hash_bytes_per_s": n_bytes / hash_s,
    }


def _join_rates(folder: Path) -> dict[str, float]:
    line = json.dumps(
        {
            "id": 1_234_567,
            "prompt": " ".join(WORDS[:12]),
            "completion": " ".join(WORDS * 2),
            "completion_ids": list(range(1000, 1000 + NEW_TOKENS)),
            "finish_reason": "length",
            "logprob": -81.123456,
            "prompt_tokens": 64,
            "error": None,
        }
    )
    part_rows, parts = 16384, []
    for n in range(8):
        parts.append(Place.local(folder / f"part-{n}.jsonl"))
        Path(parts[-1].path).write_text((line + "\n") * part_rows)
    joined = folder / "joined.jsonl"
    jsonl_s = _median_s(lambda: join(parts, joined, None, {}), 3)
    rng = np.random.default_rng(0)
    tables = []
    for n in range(8):
        columns = {
            "id": range(n * part_rows, (n + 1) * part_rows),
            "completion": [" ".join(rng.choice(WORDS, 30)) for _ in range(part_rows)],
            "completion_ids": rng.integers(0, 50257, (part_rows, NEW_TOKENS)).tolist(),
            "logprob": rng.standard_normal(part_rows),
        }
        tables.append(Place.local(folder / f"part-{n}.parquet"))
        pq.write_table(table := pa.table(columns), tables[-1].path, compression="zstd")
    parquet = folder / "joined.parquet"
    parquet_s = _median_s(lambda: join(tables, parquet, table.schema, {}), 3)
    return {
        "row_out_bytes": len(line) + 1,
        "join_jsonl_rows_per_s": 8 * part_rows / jsonl_s,
        "join_parquet_rows_per_s": 8 * part_rows / parquet_s,
        "parquet_row_out_bytes": parquet.stat().st_size / (8 * part_rows),
    }


def _commit_rates(folder: Path) -> dict[str, float]:
    """On this machine's disk: parts of 1 MB, each with its record."""
    plan = Plan(range(50 * 1024), 1024)
    with open_folder(Place.local(folder / "out.jsonl"), ".jsonl") as job:
        job.begin({"input": []}, 1024, overwrite=False)

        def commit(part: Part) -> float:
            job.staged_part(part).write_bytes(b"x" * (1 << 20))
            start_s = time.perf_counter()
            job.commit(part, PartRecord(rows=1024, processor="AMD EPYC (avx2 avx512f)"))
            return time.perf_counter() - start_s

        seconds = [commit(part) for part in plan.parts]
        start_s = time.perf_counter()
        job.records(plan.parts)
        known_s = time.perf_counter() - start_s
        sizes = {name: n or 0 for name, n in job.place.listing().items() if name.endswith(".json")}
        job.dismiss()
    return {
        "commit_s": median(seconds),
        "record_bytes": max(n for name, n in sizes.items() if name.startswith("part-")),
        "record_s": known_s / len(plan.parts),
    }


def _plan_rates() -> dict[str, float]:
    """The manifest by the number of inputs; memory and time of the loop by the number of parts."""
    n_files, n_parts = 10_000, 50_000
    files = [
        {"name": f"s3://bucket/prompts/{n:05}.jsonl", "bytes": 7_500_000, "sha256": "0" * 64}
        for n in range(n_files)
    ]
    manifest = seal({"key": {"input": files}, "part_rows": 1024})
    read_s = _median_s(lambda: unseal(manifest), 3)
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    plan = Plan(range(n_parts * 1024), 1024)
    kept = (
        plan.parts,
        {n: PartRecord(rows=1024, processor="x" * 40 + str(n)) for n in range(n_parts)},
        Dispatch(_Instant(100, 32), dict.fromkeys(range(n_parts), 1024.0)),
    )
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del kept
    dispatch = Dispatch(_Instant(100, 32), dict.fromkeys(range(n_parts), 1024.0))
    start_s = time.perf_counter()
    n_done = sum(1 for _ in dispatch.run())
    loop_s = time.perf_counter() - start_s
    start_s = time.perf_counter()
    simulate(n_parts * 1024, 1024, Slot(5.0, 1.0), Nodes(100, 32), Store())
    return {
        "manifest_bytes_per_file": len(manifest) / n_files,
        "manifest_read_s_per_file": read_s / n_files,
        "driver_bytes_per_part": (after - before) / n_parts,
        "dispatch_parts_per_s": n_done / loop_s,
        "simulated_parts_per_s": n_parts / (time.perf_counter() - start_s),
    }


class _Instant:
    """A cluster that takes no time of its own: each task ends in its turn."""

    def __init__(self, n_nodes: int, n_slots: int) -> None:
        self._nodes = {f"node-{n}": n_slots for n in range(n_nodes)}
        self._running: deque[Attempt] = deque()
        self._begun: dict[Attempt, Begun] = {}
        self._told: Attempt | None = None
        self._clock_s = 0.0

    def now_s(self) -> float:
        return self._clock_s

    def nodes(self) -> dict[str, int]:
        return self._nodes

    def begun(self) -> dict[Attempt, Begun]:
        return self._begun

    def start(self, attempt: Attempt, avoided: object) -> None:  # noqa: ARG002
        self._running.append(attempt)
        self._begun[attempt] = Begun("node-0", self._clock_s)

    def wait(self, most_s: float) -> list[Ended]:  # noqa: ARG002
        self._clock_s += 0.01
        if self._told is not None:
            del self._begun[self._told]
        self._told = self._running.popleft()
        return [Ended(self._told)]

    def cancel(self, attempt: Attempt) -> None:
        """Nothing is late here, and nothing fails."""
