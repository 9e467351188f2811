"""The tables of docs/scale.md, from rates that nobody measured."""

import pytest

from benchmarks import cluster_simulation
from benchmarks.cluster_model import Slot
from benchmarks.cluster_simulation import Tried, nodes_of, shown_s

SLOT = {
    "rows_per_s": 0.5,
    "drain_s": 1.0,
    "first_load_s": 4.0,
    "load_s": 2.0,
    "rss_bytes": 1 << 30,
    "slots": 2,
}
RATES = {
    "slots": {f"124M {dtype} {n}": SLOT for dtype in ("float32", "int8") for n in (1, 2)},
    "driver": {
        "row_in_bytes": 85.0,
        "row_out_bytes": 600.0,
        "parquet_row_out_bytes": 130.0,
        "scan_bytes_per_s": 2e7,
        "skip_bytes_per_s": 2e8,
        "hash_bytes_per_s": 6e8,
        "join_jsonl_rows_per_s": 2e6,
        "join_parquet_rows_per_s": 3e5,
        "manifest_bytes_per_file": 166.0,
        "manifest_read_s_per_file": 3e-6,
        "driver_bytes_per_part": 1100.0,
        "dispatch_parts_per_s": 5e4,
    },
}


@pytest.mark.parametrize("name", ["measured", "deaths", "requests", "driver_limits"])
def test_tables_are_tables(name):
    texts = list(getattr(cluster_simulation, name)(RATES))
    lines = [line for text in texts for line in text.splitlines() if line.startswith("|")]
    assert len(lines) >= 4
    assert texts[0].startswith("### ")


def test_a_job_takes_longer_than_its_rows_alone_by_what_was_put_in():
    tried = Tried.of(1.0, 4000, Slot(40.0, 10.0), nodes_of(1, 2))
    assert 0.1 < tried.over < 0.2  # 10 s of 110 s, some requests, and the end
    assert len(tried.found) == 3


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (12, "12 s"), (600, "10 min"), (7200, "2.0 h"), (864_000, "10.0 days")],
)
def test_times_are_short(seconds, text):
    assert shown_s(seconds) == text
