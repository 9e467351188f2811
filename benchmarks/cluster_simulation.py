"""The tables of docs/scale.md: what a large job takes on a cluster, by simulation.

    python -m benchmarks.cluster_simulation --measure RATES.json
    python -m benchmarks.cluster_simulation RATES.json --write docs/scale.md

The first takes a few minutes and wants the machine for itself; the second reads what it wrote.
`simulated_cluster.py` has the model, `cluster_rates.py` what is measured.
"""

import argparse
import json
import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.cluster_model import Found, Nodes, Rows, Slot, Store
from benchmarks.simulated_cluster import HOUR_S, simulate
from runner.cluster.dispatch import Rules
from runner.job_folder import READERS
from runner.output import FETCHED_AHEAD

N_ROWS = 10**9
CORES = 32  # of a node
PART_ROWS = (128, 256, 512, 1024, 2048, 4096, 8192)
EACH = (8, 16, 32)  # parts for a slot
CHOSEN_ROWS = 2048  # of a part, where the question is another one
OBJECT_BYTES = 97 << 30  # docs/storage.md
LIST_KEYS = 1000  # that a page of a listing has

# Nothing of this can be measured on one machine; each is an assumption.
LATENCY_S = 0.03  # of a request
NODE_BYTES_PER_S = 100e6  # of a node, from and to the store
DRIVER_BYTES_PER_S = 500e6
JOINING_S = 180.0  # until all nodes are there
NOTICED_S = 30.0  # until the driver hears that a node went away
REPLACED_S = 180.0  # until another is there
USUAL_DEATHS = 0.001  # of a node an hour
ROW_SPREAD = 0.7  # of a row's work, by its mean
# Counted against a server (`tests/runner/test_task_requests.py`, docs/storage.md): of a task; of a
# part that is done when a job goes on, and when it ends.
TASK_REQUESTS, KNOWN_REQUESTS, JOIN_REQUESTS = 19, 2, 3

LENGTHS = (0.93, 1.0, 1.08)
MOST_ROUNDS = 160  # of a slot
FEW_LOSSES = {"no node lost": 0.0, "10 % of nodes an hour": 0.1}
LOSSES = {"no node lost": 0.0, "1 % of nodes an hour": 0.01, "10 % of nodes an hour": 0.1}
STORE = Store(LATENCY_S, TASK_REQUESTS, NODE_BYTES_PER_S)
ROWS = Rows(spread=ROW_SPREAD)


def nodes_of(n: int, slots: int, **more: Any) -> Nodes:
    """Nodes that are all there at the start."""
    return replace(Nodes(n, slots, 0.0, 0.0, REPLACED_S, NOTICED_S), **more)


def slot_of(rates: dict[str, Any], name: str) -> Slot:
    found = rates["slots"][name]
    return Slot(*(found[key] for key in ("rows_per_s", "drain_s", "load_s", "first_load_s")))


def better(rates: dict[str, Any], dtype: str) -> tuple[str, Slot, int]:
    """One or two threads for a slot: whichever does more on a node; and the slots of a node."""
    name, threads = max(
        (
            (name, threads)
            for threads in (1, 2)
            if (name := f"124M {dtype} {threads}") in rates["slots"]
        ),
        key=lambda one: rates["slots"][one[0]]["rows_per_s"] / one[1],
    )
    return name, slot_of(rates, name), CORES // threads


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines) + "\n"


def shown_s(seconds: float) -> str:
    if seconds >= 48 * HOUR_S:
        return f"{seconds / HOUR_S / 24:.1f} days"
    if seconds >= 1.5 * HOUR_S:
        return f"{seconds / HOUR_S:.1f} h"
    if seconds >= 100:
        return f"{seconds / 60:.0f} min"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def in_whole_rounds(n_rows: int, part_rows: int, n_slots: int) -> int:
    """Rows of a part, fewer than wanted where that makes as many parts for each slot."""
    rounds = math.ceil(n_rows / (n_slots * part_rows))
    return math.ceil(n_rows / (n_slots * rounds))


@dataclass
class Tried:
    """A job of some hours on a few nodes, in three lengths: what is left of a round weighs less.

    Attributes
    ----------
    over : float
        By how much it takes longer than its rows alone, had all slots nothing else to do; the mean.
    found : list of Found
        One of each length.
    """

    over: float
    found: list[Found]

    @classmethod
    def of(
        cls,
        hours: float,
        part_rows: int,
        slot: Slot,
        nodes: Nodes,
        rows: Rows = ROWS,
        rules: Rules | None = None,
        deaths_per_hour: float = 0.0,
        *,
        are_whole: bool = False,
    ) -> "Tried":
        """Try; `are_whole` makes parts a little smaller, so that each slot has as many."""
        n_deaths = round(hours * nodes.n * deaths_per_hour)
        kills_s = [hours * HOUR_S * (n + 0.5) / n_deaths for n in range(n_deaths)]
        power = nodes.n * nodes.slots * sum(share * speed for share, speed in nodes.kinds)
        rows_per_s = slot.rows_per_s * power
        found = [
            simulate(
                n,
                in_whole_rounds(n, part_rows, nodes.n * nodes.slots) if are_whole else part_rows,
                slot,
                nodes,
                STORE,
                rows,
                rules,
                node_kills_s=kills_s,
            )
            for n in (int(hours * HOUR_S * rows_per_s * length) for length in LENGTHS)
        ]
        return cls(mean(f.wall_s * rows_per_s / f.rows - 1 for f in found), found)

    def __str__(self) -> str:
        return f"{self.over:.1%}"


def measured(rates: dict[str, Any]) -> Iterator[str]:
    rows = [
        [
            name,
            found["slots"],
            f"{found['rows_per_s']:.2f}",
            *(f"{found[key]:.2f} s" for key in ("drain_s", "first_load_s", "load_s")),
            f"{found['rss_bytes'] / 2**20:,.0f} MiB",
        ]
        for name, found in rates["slots"].items()
    ]
    header = ["model, dtype, threads", "at once", "rows/s of each", "a part more"]
    yield "### A slot\n"
    yield table([*header, "first load", "later", "memory"], rows)


def how_long(rates: dict[str, Any]) -> Iterator[str]:
    """Of few nodes from two jobs that are shorter, in a straight line: rounds are alike."""
    rows = []
    for dtype in ("float32", "int8"):
        name, slot, slots = better(rates, dtype)
        for n, rounds in ((10, 30), (100, 12), (1000, None)):
            part_rows = in_whole_rounds(N_ROWS, CHOSEN_ROWS, n * slots)
            nodes = nodes_of(n, slots, joining_s=JOINING_S, deaths_per_hour=USUAL_DEATHS)
            if rounds is None:
                wall_s = simulate(N_ROWS, part_rows, slot, nodes, STORE, ROWS).wall_s
            else:
                some = rounds * n * slots * part_rows
                one, two = (
                    simulate(k * some, part_rows, slot, nodes, STORE, ROWS).wall_s for k in (1, 2)
                )
                wall_s = two + (two - one) * (N_ROWS / some - 2)
            alone_s = N_ROWS / slot.rows_per_s / n / slots
            rows.append(
                [
                    name,
                    f"{n:,} of {slots} slots",
                    shown_s(wall_s),
                    f"{N_ROWS / wall_s:,.0f}",
                    f"{wall_s / alone_s - 1:.1%}",
                ]
            )
    yield f"### {N_ROWS:,} rows in parts of about {CHOSEN_ROWS:,}\n"
    yield table(["", "nodes", "time", "rows/s", "over the rows alone"], rows)


def part_sizes(rates: dict[str, Any]) -> Iterator[str]:
    """On ten nodes: more have the same shares, as long as the driver keeps up."""
    name, slot, slots = better(rates, "float32")
    nodes = nodes_of(10, slots)
    for hours, losses in ((1, FEW_LOSSES), (10, LOSSES)):
        rows = []
        for part_rows in PART_ROWS:
            part_s = slot.drain_s + part_rows / slot.rows_per_s
            if hours * HOUR_S / part_s > MOST_ROUNDS:
                continue
            tried = [
                Tried.of(hours, part_rows, slot, nodes, deaths_per_hour=deaths)
                for deaths in losses.values()
            ]
            whole = Tried.of(hours, part_rows, slot, nodes, are_whole=True)
            each = f"{hours * HOUR_S / part_s:.0f}"
            rows.append([f"{part_rows:,}", shown_s(part_s), each, *map(str, [whole, *tried])])
        yield f"### Rows of a part: a job of {hours} h, {name}\n"
        yield table(["rows", "takes", "for a slot", "whole rounds", *losses], rows)


def deaths(rates: dict[str, Any]) -> Iterator[str]:
    name, slot, slots = better(rates, "float32")
    n, kills = 10, 5
    n_rows = int(HOUR_S * slot.rows_per_s * slots * n)
    rows = []
    for part_rows in PART_ROWS[1::2]:
        nodes = nodes_of(n, slots)
        at_s = [500.0 + 401.0 * k for k in range(kills)]
        found = simulate(n_rows, part_rows, slot, nodes, STORE, ROWS, node_kills_s=at_s)
        without = simulate(n_rows, part_rows, slot, nodes, STORE, ROWS)
        rows.append(
            [
                f"{part_rows:,}",
                shown_s(slot.drain_s + part_rows / slot.rows_per_s),
                f"{found.counts.losses / kills:.0f}",
                shown_s(found.lost_s / kills / slots),
                shown_s((found.wall_s - without.wall_s) / kills * n),
            ]
        )
    yield f"### A node that goes away, {name}, {slots} slots\n"
    yield table(
        [
            "rows of a part",
            "takes",
            "parts again",
            "time of the node lost",
            "the job loses, of one node",
        ],
        rows,
    )


def stragglers(rates: dict[str, Any]) -> Iterator[str]:
    name, slot, slots = better(rates, "float32")
    sizes = [int(HOUR_S * slot.rows_per_s * max(LENGTHS) / each) + 1 for each in EACH]
    in_16 = sizes[EACH.index(16)]
    rows = []
    for kinds, what in (
        (((1.0, 1.0),), "all nodes alike"),
        (((0.1, 0.3), (0.9, 1.0)), "one in 10 takes 3.3 times as long"),
        (((0.1, 0.1), (0.9, 1.0)), "one in 10 takes 10 times as long"),
        (((0.5, 0.6), (0.5, 1.0)), "two kinds of CPU, 1 : 0.6"),
    ):
        nodes = nodes_of(10, slots, kinds=kinds)
        cells = [what]
        for part_rows, spare_after in ((in_16, 0), *((n, 1.5) for n in sizes)):
            rules = Rules(spare_after=spare_after)
            tried = Tried.of(1, part_rows, slot, nodes, rules=rules, are_whole=True)
            cells.append(str(tried))
        rows.append(cells)
    header = ["no spares, 16", *(f"spares, {n}" for n in EACH)]
    yield f"### Slow nodes: a job of 1 h, {name}, by parts for a slot\n"
    yield table(["ten nodes", *header], rows)
    rows = []
    for spread in (0.3, 1.0):
        cells = [f"{spread:.0%}"]
        for part_rows, known in ((in_16, True), *((n, False) for n in sizes)):
            work = Rows(ROW_SPREAD, spread, known)
            cells.append(
                str(Tried.of(1, part_rows, slot, nodes_of(10, slots), work, are_whole=True))
            )
        rows.append(cells)
    yield "### Parts of as many rows, and other work\n"
    header = ["by their work, the longest first, 16", *(f"by their rows, {n}" for n in EACH)]
    yield table(["spread", *header], rows)


def requests(rates: dict[str, Any]) -> Iterator[str]:
    driver = rates["driver"]
    rows = []
    for part_rows in (256, 2048, 16384):
        n = N_ROWS // part_rows
        pages = math.ceil(2 * n / LIST_KEYS)
        rows.append(
            [
                f"{n:,}",
                f"{n * TASK_REQUESTS:,}",
                f"{pages:,} ({shown_s(pages * LATENCY_S)})",
                shown_s(2 * n * LATENCY_S),
                shown_s(n * KNOWN_REQUESTS * LATENCY_S / READERS),
                shown_s(n * JOIN_REQUESTS * LATENCY_S / FETCHED_AHEAD),
                f"{n * driver['driver_bytes_per_part'] / 2**20:,.0f} MiB",
            ]
        )
    yield f"### Parts of {N_ROWS:,} rows, in the store and in the driver\n"
    yield table(
        [
            "parts",
            "requests of tasks",
            "pages to list",
            "a HEAD each",
            f"their records, {READERS} at a time",
            f"requests of the end, {FETCHED_AHEAD} at a time",
            "driver's memory",
        ],
        rows,
    )
    bytes_, read_s = (driver[f"manifest_{key}_per_file"] for key in ("bytes", "read_s"))
    rows = [
        [f"{n:,}", f"{n * bytes_ / 1e3:,.1f} kB", f"{n * read_s * 1e3:,.1f} ms"]
        for n in (1, 1000, 100_000)
    ]
    yield "### `job.json`, which each task reads\n"
    yield table(["input files", "bytes", "reading it"], rows)


def driver_limits(rates: dict[str, Any]) -> Iterator[str]:
    driver = rates["driver"]
    in_bytes = N_ROWS * driver["row_in_bytes"]
    out_bytes = N_ROWS * driver["row_out_bytes"]
    yield f"### The driver's own time for {N_ROWS:,} rows\n"
    network = "through the network, assumed"
    rows = [
        ["reading JSONL for its rows", f"{in_bytes / 1e9:.0f} GB", "scan_bytes_per_s"],
        [
            "the same for a hash alone, as of Parquet",
            f"{in_bytes / 1e9:.0f} GB",
            "hash_bytes_per_s",
        ],
    ]
    cells = [
        [what, size, f"{driver[key] / 1e6:,.0f} MB/s", shown_s(in_bytes / driver[key])]
        for what, size, key in rows
    ]
    for kind, row_bytes in (("jsonl", "row_out_bytes"), ("parquet", "parquet_row_out_bytes")):
        n_bytes = N_ROWS * driver[row_bytes]
        rate = driver[f"join_{kind}_rows_per_s"]
        cells.append(
            [
                f"joining {kind}",
                f"{n_bytes / 1e9:.0f} GB",
                f"{rate * driver[row_bytes] / 1e6:,.0f} MB/s",
                shown_s(N_ROWS / rate),
            ]
        )
        seconds = n_bytes / driver["hash_bytes_per_s"]
        cells.append(
            [
                f"hashes of {kind}: parts and output",
                f"2 x {n_bytes / 1e9:.0f} GB",
                "",
                shown_s(2 * seconds),
            ]
        )
        seconds = 2 * n_bytes / DRIVER_BYTES_PER_S
        cells.append([f"parts here, {kind} there", network, "500 MB/s", shown_s(seconds)])
    yield table(["", "", "rate", "time"], cells)
    yield (
        f"Objects of at most 97 GiB: {math.ceil(out_bytes / OBJECT_BYTES)} shards of JSONL at "
        "least.\n"
    )
    name, slot, slots = better(rates, "float32")
    part_s = slot.drain_s + CHOSEN_ROWS / slot.rows_per_s
    yield (
        f"The loop takes {driver['dispatch_parts_per_s']:,.0f} parts/s; 1,000 nodes of {slots} "
        f"slots ({name}) end {1000 * slots / part_s:,.0f}.\n"
    )
    rows_ = []
    for files in (1, 100, 10_000):
        half = in_bytes / files / 2
        rows_.append(
            [f"{files:,}", f"{half / 1e6:,.0f} MB", shown_s(half / driver["skip_bytes_per_s"])]
        )
    yield "### Compressed JSONL before a part's first row\n"
    yield table(["input files", "read over, on average", "time of the slot"], rows_)


def written(document: str, found: dict[str, str]) -> str:
    """A document with its tables made anew: each between `<!-- NAME -->` and `<!-- end -->`."""
    for name, text in found.items():
        before, marker, rest = document.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition("<!-- end -->\n")
        if end:
            document = f"{before}{marker}{text}{end}{after}"
    return document


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rates", type=Path, help="rates of a machine, as JSON")
    parser.add_argument("--measure", action="store_true", help="measure them here, and end")
    parser.add_argument("--write", type=Path, help="a document whose tables are to be made anew")
    args = parser.parse_args()
    if args.measure:
        from benchmarks.cluster_rates import measure

        with tempfile.TemporaryDirectory(prefix="picobatch-rates-") as folder:
            args.rates.write_text(json.dumps(measure(Path(folder)), indent=1) + "\n")
        return
    rates, found = json.loads(args.rates.read_text()), {}
    for part in (measured, how_long, part_sizes, deaths, stragglers, requests, driver_limits):
        found[part.__name__] = text = "\n".join(part(rates))
        print(text, flush=True)
    if args.write:
        args.write.write_text(written(args.write.read_text(), found))


if __name__ == "__main__":
    main()
