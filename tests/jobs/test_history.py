"""A history: files of runs, read back by us, pandas and DuckDB; whoever writes, dies or meddles."""

import datetime as dt
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import history
from jobs.gate import judge
from jobs.results import Metric
from runner.errors import InputError, OutputError
from tests.jobs.nights import result, row, spec, task

ROOT = Path(__file__).parents[2]
START = dt.datetime(2026, 3, 1, 3, tzinfo=dt.UTC)
# The contract, in order.
COLUMNS = [
    *("run", "job", "started", "task", "metric", "value", "stderr", "n", "higher_is_better"),
    *("verdict", "before", "model", "weights_sha256", "dtype", "elapsed_s", "exit_code"),
    *("picobatch", "onnxruntime", "processor", "commit"),
]


def night(n, job="demo", correct=1):
    found = result(
        f"run-{n:03}", job, START + dt.timedelta(days=n), t=task([row(0, 1), row(1, correct)])
    )
    found.gate = judge(spec(), found, night(0) if n else None).as_dict()
    return found


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "history"


def runs(folder):
    return list(dict.fromkeys(history.read(str(folder)).column("run").to_pylist()))


def test_no_history_yet(folder):
    assert len(history.read(str(folder))) == 0
    assert history.read(str(folder)).column_names == COLUMNS


def test_runs_come_back_in_order(folder):
    for n in (2, 0, 1):
        assert history.append(night(n), str(folder)).path.endswith(f"/demo-run-{n:03}.parquet")
    found = history.read(str(folder))
    assert found.column("run").to_pylist() == [f"run-{n:03}" for n in range(3) for _ in range(3)]
    first = found.to_pylist()[3]
    assert first == {
        "run": "run-001",
        "job": "demo",
        "started": START + dt.timedelta(days=1),
        "task": "t",
        "metric": "acc",
        "value": 1.0,
        "stderr": 0.0,
        "n": 2,
        "higher_is_better": True,
        "verdict": "same",
        "before": 1.0,
        "model": "demo",
        "weights_sha256": "ab" * 32,
        "dtype": "float32",
        "elapsed_s": 1.5,
        "exit_code": 0,
        "picobatch": "0.1",
        "onnxruntime": "1.31",
        "processor": "p",
        "commit": None,
    }


def test_what_fails_is_kept_and_what_is_missing_has_a_row(folder):
    before = result(t=task([row(n, 1) for n in range(30)]), u=task([row(0, 1)]))
    now = result(
        t=task([row(n, n > 20) for n in range(30)], Metric("x", float("nan"), None, 1, True))
    )
    of = spec(thresholds={"acc": (0.9, None)}, tasks=("t", "u"))
    now.gate = judge(of, now, before).as_dict()
    history.append(now, str(folder))
    found = {(r["task"], r["metric"]): r for r in history.read(str(folder)).to_pylist()}
    assert found["t", "acc"]["verdict"] == "regression"
    assert found["t", "acc"]["before"] == 1.0
    assert found["u", "acc"]["verdict"] == "missing"
    assert found["u", "acc"]["value"] is None
    assert found["u", "acc"]["before"] == 1.0
    assert np.isnan(found["t", "x"]["value"])
    assert len(found) == 4 + 3


def test_others_read_the_folder_as_it_is(folder):
    import duckdb
    import pandas as pd

    history.append(night(0), str(folder))
    history.append(night(1), str(folder))
    (folder / ".demo-run-002.parquet.tmp").write_bytes(b"half")  # of a run that died
    ours = history.read(str(folder))
    read = pd.read_parquet(folder).sort_values("started", kind="stable")
    assert list(read.columns) == COLUMNS
    for name in ("run", "task", "metric", "verdict"):
        assert [None if pd.isna(v) else v for v in read[name]] == ours.column(name).to_pylist()
    assert read["value"].tolist() == ours.column("value").to_pylist()
    assert str(read["started"].dtype) == "datetime64[us, UTC]"
    query = f"""
        select run, task, metric, value, before, epoch(started), exit_code, verdict
        from '{folder}/*.parquet' order by started, run
    """
    with duckdb.connect() as connection:
        rows = connection.sql(query).fetchall()
    names = ("run", "task", "metric", "value", "before", "started", "exit_code", "verdict")
    expected = [
        tuple(r[name] if name != "started" else r[name].timestamp() for name in names)
        for r in ours.to_pylist()
    ]
    assert sorted(rows, key=repr) == sorted(expected, key=repr)


def write(folder, name, **columns):
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), folder / name)


OLD = {
    "run": ["old"],
    "job": ["demo"],
    "started": [START - dt.timedelta(days=9)],
    "task": ["t"],
    "metric": ["acc"],
}


def test_files_of_other_versions(folder):
    history.append(night(0), str(folder))
    write(
        folder,
        "old.parquet",
        **OLD,
        value=pa.array([0.5], pa.float32()),
        n=pa.array([3], pa.int32()),
    )
    write(folder, "new.parquet", **OLD | {"run": ["new"]}, value=[0.25], colour=["red"])
    found = history.read(str(folder)).to_pylist()
    assert [r["run"] for r in found[:2]] == ["new", "old"]
    assert [r["value"] for r in found[:2]] == [0.25, 0.5]
    assert found[1]["n"] == 3
    assert found[1]["exit_code"] is None
    assert "colour" not in found[0]


def test_what_is_no_run_is_passed_over_and_said(folder, capsys):
    history.append(night(0), str(folder))
    (folder / "README.md").write_text("x")
    (folder / "_tmp.parquet").write_text("x")
    (folder / ".x.parquet").write_text("x")
    (folder / "sub.parquet").mkdir()
    assert runs(folder) == ["run-000"]
    assert capsys.readouterr().err == ""
    (folder / "empty.parquet").write_bytes(b"")
    (folder / "text.parquet").write_text("no\x1b[31m Parquet")
    write(folder, "foreign.parquet", a=[1])
    write(folder, "null.parquet", **OLD | {"task": pa.array([None], pa.string())})
    write(folder, "type.parquet", **OLD, value=["many"])
    write(folder, "when.parquet", **OLD | {"started": ["yesterday"]})
    raw = pa.array([b"\xff"], pa.binary()).cast(pa.string(), safe=False)
    write(folder, "bytes.parquet", **OLD | {"metric": raw})
    data = bytearray((folder / "demo-run-000.parquet").read_bytes())
    (folder / "cut.parquet").write_bytes(data[:-30])
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe.parquet")  # whose opening would wait
    assert runs(folder) == ["run-000"]
    said = capsys.readouterr().err
    for name in ("empty", "text", "foreign", "null", "type", "when", "bytes", "cut", "pipe"):
        assert f"{folder}/{name}.parquet: passed over, no history of a run (" in said
    assert "\x1b" not in said


def test_any_byte_may_have_changed(folder, capsys):
    history.append(night(0), str(folder))
    file = folder / "demo-run-000.parquet"
    data = file.read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(data), 150):
        bad = bytearray(data)
        bad[place] ^= 1 << int(rng.integers(8))
        file.write_bytes(bad)
        assert history.read(str(folder)).column_names == COLUMNS


def test_a_copy_counts_once(folder):
    history.append(night(0), str(folder))
    history.append(night(1), str(folder))
    shutil.copy(folder / "demo-run-000.parquet", folder / "demo-run-000 (1).parquet")
    merged = history.read(str(folder))
    pq.write_table(merged, folder / "all.parquet")  # by somebody who likes one file
    assert history.read(str(folder)) == merged
    assert len(merged) == 6


def test_a_run_is_added_once(folder):
    history.append(night(0), str(folder))
    with pytest.raises(OutputError, match="demo-run-000.parquet: File exists"):
        history.append(night(0, correct=0), str(folder))
    assert history.read(str(folder)).column("value")[0].as_py() == 1.0
    assert [path.name for path in folder.iterdir()] == ["demo-run-000.parquet"]


def test_where_it_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file/.*demo-run-000.parquet: "):
        history.append(night(0), str(tmp_path / "file" / "history"))
    with pytest.raises(OutputError, match="names no file"):
        history.append(night(0, job="../up"), str(tmp_path))
    with pytest.raises(InputError, match="file: Not a directory"):
        history.read(str(tmp_path / "file"))


def test_half_a_file_has_no_name_that_anybody_reads(folder, monkeypatch, capsys):
    def half(table, file):
        file.write_bytes(b"PAR1")
        assert list(folder.glob("*.parquet")) == list(folder.glob(".*.parquet")) == []
        assert runs(folder) == []
        write_whole(table, file)

    write_whole = pq.write_table
    monkeypatch.setattr(pq, "write_table", half)
    history.append(night(0), str(folder))
    assert runs(folder) == ["run-000"]
    assert capsys.readouterr().err == ""


WRITER = """
import sys
sys.path.insert(0, ".")
from jobs import history
from tests.jobs.test_history import night
folder, first, step = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
nights = range(first, 999, step)[: int(sys.argv[4])]
history.append(night(nights[0]), folder)  # which takes longer, since libraries begin their work
print("ready", flush=True)
sys.stdin.readline()
for n in nights[1:]:
    history.append(night(n), folder)
"""


def writer(folder, first, step, count):
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, folder, str(first), str(step), str(count)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
    )
    process.stdout.readline()
    return process


def test_writers_and_readers_at_once(folder):
    processes = [writer(folder, n, 2, 30) for n in range(2)]
    for process in processes:
        process.stdin.write(b"\n")
        process.stdin.flush()
    while any(process.poll() is None for process in processes):
        found = history.read(str(folder))
        assert len(found) == 3 * len(set(found.column("run").to_pylist()))  # runs are whole
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    assert runs(folder) == [f"run-{n:03}" for n in range(60)]


def test_killed_at_any_instant(folder, capsys):
    rng = random.Random(0)
    for n in range(4):
        process = writer(folder, n, 4, 190)
        process.stdin.write(b"\n")
        process.stdin.flush()
        time.sleep(rng.uniform(0.0, 0.1))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        found = history.read(str(folder))
        assert len(found) == 3 * len(set(found.column("run").to_pylist()))
    assert capsys.readouterr().err == ""  # nothing was seen that is not whole
    assert len(found) > 4 * 3  # more than what came before
    history.append(night(998), str(folder))
    assert runs(folder)[-1] == "run-998"
