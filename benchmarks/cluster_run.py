"""A job on Ray beside the same job in one process: what it costs, and what kills cost it.

    python -m benchmarks.cluster_run overhead SCRATCH
    python -m benchmarks.cluster_run kills SCRATCH --rows 20000
    python -m benchmarks.cluster_run simulated SCRATCH --rows 24000

Each run is the command in a process of its own, with the bundled model, prompts of eight words of
which no two are alike, and a fixed number of new tokens. `overhead` runs one process with all
cores, and Ray with tasks of all cores and of one core, in turns, and tells the ratio of their
seconds and the SHA-256 of what they wrote. `kills` makes nodes of one core on this machine, and
kills a worker, a node and the driver. `simulated` puts runs on such nodes beside what the simulator
says of them, from the rates of short runs on the same nodes.
"""

import argparse
import hashlib
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.cluster_model import Found
from benchmarks.memory import short_rows
from benchmarks.simulated_cluster import predict
from runner.settings import available_threads

NEW_TOKENS = 16
TASK_NAME = "ray::run_task"  # what Ray calls a process while it has a task
STORE_BYTES = 100 << 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=["overhead", "kills", "simulated"])
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--part-rows", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    options.scratch.mkdir(parents=True, exist_ok=True)
    prompts = options.scratch / f"prompts-{options.rows}.parquet"
    if not prompts.exists():
        tables = [pa.table(columns) for columns in short_rows(options.rows)]
        pq.write_table(pa.concat_tables(tables), prompts)
    more = ["--part-rows", str(options.part_rows)] if options.part_rows else []
    run = Run(prompts, options.scratch, more)
    if options.what == "overhead":
        overhead(run, options.rounds)
    elif options.what == "kills":
        kills(run)
    else:
        simulated(run, options.rows)


class Run:
    """Runs of one job."""

    def __init__(self, prompts: Path, scratch: Path, more: list[str]) -> None:
        self._prompts = prompts
        self._scratch = scratch
        self._more = more

    def command(self, output: Path, *options: str) -> list[str]:
        fixed = ["--model", "demo", "--ignore-eos", "--max-new-tokens", str(NEW_TOKENS)]
        start = [sys.executable, "-m", "jobs.cli", "batch", str(self._prompts), str(output)]
        return [*start, *fixed, *self._more, *options]

    def output(self, name: str) -> Path:
        """Where a run is to write; nothing is there."""
        for left in self._scratch.glob(f"{name}.jsonl*"):
            subprocess.run(["rm", "-rf", str(left)], check=True)  # noqa: S607
        return self._scratch / f"{name}.jsonl"

    def whole(self, name: str, *options: str) -> dict[str, Any]:
        """A run from its start to its end."""
        output = self.output(name)
        start_s = time.perf_counter()
        subprocess.run(self.command(output, *options), check=True, stderr=subprocess.DEVNULL)
        return {"process_s": time.perf_counter() - start_s} | found(output)


def found(output: Path) -> dict[str, Any]:
    """What a finished output says of itself."""
    manifest = json.loads(Path(f"{output}.manifest.json").read_bytes())
    return {
        "job_s": manifest["elapsed_s"]["total"],
        "rows": manifest["counts"]["rows"],
        "tokens": manifest["counts"]["completion_tokens"],
        "parts": manifest["parts"]["count"],
        "cluster": manifest.get("cluster"),
        "sha256": hashlib.sha256(output.read_bytes()).hexdigest(),
    }


def overhead(run: Run, rounds: int) -> None:
    """One process and Ray on the same cores, in turns."""
    cores = available_threads()
    cases = {
        f"one process, {cores} threads": [],
        f"Ray, tasks of {cores} CPUs": ["--engine", "ray", "--cpus-per-task", str(cores)],
        "Ray, tasks of 1 CPU": ["--engine", "ray", "--cpus-per-task", "1"],
    }
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in cases}
    for _ in range(rounds):
        for n, (name, more) in enumerate(cases.items()):
            runs[name].append(run.whole(f"case{n}", *more))
    hashes = {one["sha256"] for several in runs.values() for one in several}
    base = {
        of: statistics.median(one[of] for one in next(iter(runs.values())))
        for of in ("job_s", "process_s")
    }
    print(
        f"{'':28}{'job s':>9}{'ratio':>7}{'process s':>11}{'ratio':>7}{'tokens/s':>10}{'parts':>7}"
    )
    for name, several in runs.items():
        job_s, process_s = (
            statistics.median(one[of] for one in several) for of in ("job_s", "process_s")
        )
        one = several[0]
        print(
            f"{name:28}{job_s:10.1f}{job_s / base['job_s']:10.3f}{process_s:10.1f}"
            f"{process_s / base['process_s']:10.3f}{one['tokens'] / job_s:10,.0f}{one['parts']:7}"
        )
    print(f"sha256 of all {rounds * len(cases)} outputs: {', '.join(sorted(hashes))}")
    print(json.dumps({name: [one["job_s"] for one in several] for name, several in runs.items()}))


def kills(run: Run) -> None:
    """A worker, a node and the driver, each killed in the middle of a job."""
    expected = run.whole("alone")
    print(f"{'one process':24}{expected['rows']:,} rows, sha256 {expected['sha256']}")
    for name, kill in {
        "a worker killed": kill_worker,
        "a node killed": kill_node,
        "the driver killed": kill_driver,
    }.items():
        output = run.output("killed")
        with nodes() as cluster:
            command = run.command(output, "--engine", "ray", "--ray-address", cluster.address)
            told = kill(cluster, command, Path(f"{output}.parts"))
        one = found(output)
        facts = one["cluster"]
        print(
            f"{name:24}{one['rows']:,} rows, sha256 {one['sha256']}\n{'':24}{told}"
            f"{facts['attempts']} starts, {facts['losses']} lost, {facts['failures']} failed, "
            f"{facts['spares']} spares; {expected['rows'] - one['rows']} rows lost, same bytes: "
            f"{one['sha256'] == expected['sha256']}"
        )


@contextmanager
def nodes() -> Iterator[Any]:
    """A cluster: a node without a core, for the driver, and one for each core of this machine."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "120")
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "object_store_memory": STORE_BYTES},
    )
    for _ in range(available_threads()):
        cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
    try:
        yield cluster
    finally:
        cluster.shutdown()


def committed(parts: Path) -> int:
    return len([*parts.glob("part-*.json")])


def until(is_so: Callable[[], bool], process: "subprocess.Popen[bytes]") -> None:
    while not is_so():
        if process.poll() is not None:
            raise RuntimeError("the job was over too soon; pass more --rows or fewer --part-rows")
        time.sleep(0.05)


def kill_worker(_: Any, command: list[str], parts: Path) -> str:
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    until(lambda: committed(parts) >= 2, process)
    running = tasks()
    running[0].kill()
    process.wait()
    return f"1 of {len(running)} workers killed; "


def tasks() -> list[psutil.Process]:
    """The processes that have a task."""
    return [p for p in psutil.process_iter() if TASK_NAME in " ".join(p.cmdline())]


def kill_node(cluster: Any, command: list[str], parts: Path) -> str:
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    until(lambda: committed(parts) >= 2, process)
    cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False)
    process.wait()
    return "1 node killed; "


def kill_driver(_: Any, command: list[str], parts: Path) -> str:
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    until(lambda: committed(parts) >= 3, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = committed(parts)
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return f"killed with {done} parts done; then "


class Rates(NamedTuple):
    """Of a slot while all others run, and of the driver; as `predict` takes them."""

    rows_per_s: float
    drain_s: float
    load_s: float
    start_s: float


def simulated(run: Run, n_rows: int) -> None:
    """Real runs on simulated nodes, and what the simulator says of them."""
    n_slots = available_threads()
    found = rates(run, n_slots)

    def said(part_rows: int, process_kills_s: list[float], node_kills_s: list[float]) -> Found:
        return predict(
            n_rows,
            part_rows,
            n_nodes=n_slots,
            slots=1,
            rows_per_s=found.rows_per_s,
            drain_s=found.drain_s,
            load_s=found.load_s,
            start_s=found.start_s,
            process_kills_s=process_kills_s,
            node_kills_s=node_kills_s,
        )

    print(", ".join(f"{name} {value:,.2f}" for name, value in found._asdict().items()))
    print(f"{'':44}{'real s':>8}{'simulated s':>13}{'real, simulated starts':>25}")
    for part_rows in (n_rows // 48, n_rows // 12, n_rows // 6):
        half_s = said(part_rows, [], []).wall_s / 2
        for name, process_kills_s, node_kills_s in (
            ("", [], []),
            (", a process killed", [half_s], []),
            (", a node killed", [], [half_s]),
        ):
            real_s, attempts = killed(run, part_rows, process_kills_s, node_kills_s)
            of_it = said(part_rows, process_kills_s, node_kills_s)
            told = f"parts of {part_rows:,} rows{name}"
            starts = f"{attempts}, {of_it.counts.attempts}"
            print(f"{told:44}{real_s:8.1f}{of_it.wall_s:13.1f}{starts:>25}", flush=True)


def rates(run: Run, n_slots: int) -> Rates:
    """From jobs of one part and of several for each slot."""
    few, many, several = 500, 2500, 6
    with nodes() as cluster:
        options = ["--engine", "ray", "--ray-address", cluster.address, "--check-rows", "0"]

        def took(n_parts: int, part_rows: int) -> float:
            rows = ["--limit", str(n_parts * n_slots * part_rows), "--part-rows", str(part_rows)]
            return float(run.whole("rates", *options, *rows)["process_s"])

        took(1, few)  # what is cached from now on
        few_s, many_s, several_s = took(1, few), took(1, many), took(several, few)
    rate = (many - few) / (many_s - few_s)
    part_s = (several_s - few_s) / (several - 1)
    # A process that takes the place of another one begins as a command does.
    load_s = run.whole("rates", "--limit", "1")["process_s"]
    drain_s = max(part_s - few / rate, 0.0)
    return Rates(rate, drain_s, load_s, max(few_s - part_s - load_s, 0.0))


def killed(
    run: Run, part_rows: int, process_kills_s: Sequence[float], node_kills_s: Sequence[float]
) -> tuple[float, int]:
    """A real run in which something is killed at a time: its seconds, and starts of parts."""
    output = run.output("killed")
    with nodes() as cluster:
        options = ["--engine", "ray", "--ray-address", cluster.address, "--check-rows", "0"]
        start_s = time.perf_counter()
        process = subprocess.Popen(
            run.command(output, *options, "--part-rows", str(part_rows)),
            stderr=subprocess.DEVNULL,
        )
        for at_s in [*process_kills_s, *node_kills_s]:
            time.sleep(max(at_s - (time.perf_counter() - start_s), 0.0))
            if process_kills_s:
                tasks()[0].kill()
            else:
                cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False)
        process.wait()
        real_s = time.perf_counter() - start_s
    return real_s, int(found(output)["cluster"]["attempts"])


if __name__ == "__main__":
    main()
