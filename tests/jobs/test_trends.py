"""How metrics went, as text; and the simulated nights, whose story is known."""

import datetime as dt

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import nights
from jobs import history
from jobs.run_folder import read_run
from jobs.trends import BARS, sparkline, trends

START = dt.datetime(2026, 3, 1, 3, tzinfo=dt.UTC)


def table(*rows):
    base = {
        "run": "r",
        "job": "demo",
        "started": START,
        "task": "t",
        "metric": "acc",
        "exit_code": 0,
    }
    made = []
    for n, row in enumerate(rows):
        when = {"run": f"r{n}", "started": START + dt.timedelta(days=n)}
        made.append(base | when | {"model": "m", "dtype": "float32"} | row)
    return pa.Table.from_pylist(made, history.SCHEMA)


def cells(text, metric="acc"):
    in_table = [line.split() for line in text.splitlines() if ": " not in line]
    (line,) = [line for line in in_table if metric in line[:2]]
    return line


def test_no_runs():
    assert trends(history.SCHEMA.empty_table(), 30) == ""


def test_one_run():
    text = trends(table({"value": 0.5}), 30)
    assert text.splitlines()[0] == "demo: 1 run, 2026-03-01 to 2026-03-01; m, float32"
    assert cells(text) == ["t", "acc", "0.5", "▄"]


def test_what_changed_and_when():
    values = [0.5, 0.5, 0.7, 0.6, 0.6]
    rows = [{"value": v, "before": 0.5, "verdict": "worse"} for v in values]
    for n, row in enumerate(rows):
        row |= {"weights_sha256": "a" * 64 if n < 3 else "b" * 64, "onnxruntime": "1.31"}
    text = trends(table(*rows), 30)
    assert cells(text) == ["t", "acc", "0.6", "▁▁█▅▅", "0", "+0.1", "2026-03-04", "worse"]
    assert cells(text, "weights") == ["weights", "···▲·", "2026-03-04"]
    assert f"2026-03-04: weights changed, {'a' * 40}... to {'b' * 40}..." in text
    assert "onnxruntime" not in text
    assert "exit code" not in text


def test_the_last_runs_only():
    rows = [{"value": float(n)} for n in range(9)]
    text = trends(table(*rows), 3)
    assert text.startswith("demo: the last 3 of 9 runs, 2026-03-07 to 2026-03-09")
    assert cells(text)[2:5] == ["8", "▁▅█", "+1"]


def test_failures_gaps_and_what_is_gone():
    rows = [
        {"value": 1.0},
        {"value": None, "verdict": "missing", "exit_code": 5},
        {"value": float("nan"), "verdict": "regression", "exit_code": 5},
        {"value": 0.5, "verdict": "regression", "before": 1.0, "exit_code": 5},
        {"metric": "other", "value": 1.0},
    ]
    text = trends(table(*rows[:4]), 30)
    assert cells(text) == ["t", "acc", "0.5", "█··▁", "-0.5", "2026-03-04", "REGRESSION"]
    assert cells(text, "code")[-1] == "·555"
    assert cells(trends(table(*rows), 30))[-1] == "gone"


def test_jobs_apart_and_names_harmless():
    text = trends(table({"value": 1.0, "job": "b\x1b[2J"}, {"value": 2.0, "job": "a\nb"}), 30)
    assert [line for line in text.splitlines() if ": 1 run" in line] == [
        "a\\nb: 1 run, 2026-03-02 to 2026-03-02; m, float32",
        "b\\x1b[2J: 1 run, 2026-03-01 to 2026-03-01; m, float32",
    ]


@given(st.lists(st.none() | st.floats(allow_nan=False, allow_infinity=False), max_size=30))
def test_sparklines_are_in_the_order_of_the_values(values):
    line = sparkline(values)
    assert len(line) == len(values)
    drawn = [(v, BARS.index(c)) for v, c in zip(values, line, strict=True) if v is not None]
    assert all(c == "·" for v, c in zip(values, line, strict=True) if v is None)
    ordered = [bar for _, bar in sorted(drawn)]
    assert ordered == sorted(ordered)
    if len({*ordered}) > 1:
        assert (ordered[0], ordered[-1]) == (0, len(BARS) - 1)


def test_rounding_is_flat():
    assert sparkline([40.0, 40.0001, 39.9999]) == "▄▄▄"
    assert sparkline([40.0, 41.0]) == "▁█"


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nights")
    return folder, nights.simulate(folder, 46, seed=3)


def test_simulated_nights_fail_where_the_model_is_damaged(simulated):
    _, found = simulated
    failed = [n for n, result in enumerate(found, 1) if result.exit_code]
    assert failed == [nights.DAMAGED, nights.DAMAGED + 1, nights.MENDED - 1]
    of_rounding = found[nights.NEW_RUNTIME - 1].gate["findings"]
    assert {f["verdict"] for f in of_rounding if f["task"] != "speed"} == {"same"}
    assert any(f["difference"] for f in of_rounding if f["metric"] == "perplexity")


def test_simulated_nights_are_kept_and_drawn(simulated):
    folder, found = simulated
    text = trends(history.read(str(folder / "history")), 46)
    head = "simulated-nights: 46 runs, 2026-01-01 to 2026-02-15; simulated, float32"
    assert text.startswith(head)
    assert cells(text, "perplexity")[3] == "▁" * 40 + "███" + "▁▁▁"
    assert cells(text, "weights")[1] == "·" * 40 + "▲··▲··"
    assert cells(text, "onnxruntime")[1] == "·" * 19 + "▲" + "·" * 26
    assert "2026-01-20: onnxruntime changed, simulated 1 to simulated 2" in text
    runs = sorted((folder / "runs").iterdir())
    assert [read_run(run) for run in runs[::20]] == found[::20]


def test_simulated_nights_say_that_they_are():
    result = nights.evaluate(1, seed=0)
    told = [*result.environment.values(), *result.job.values(), result.model["name"]]
    assert all("simulated" in str(value) for value in told if value is not None)
    assert all("simulated" in row.prompt for task in result.tasks.values() for row in task.rows)
    assert nights.evaluate(7, seed=1) == nights.evaluate(7, seed=1)
