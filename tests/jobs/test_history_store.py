"""A history in an object store: as on a disk, whatever happens on the way."""

import pytest

from jobs import history
from runner.errors import InputError, OutputError
from tests.jobs.test_history import COLUMNS, night
from tests.runner.conftest import moto, store  # noqa: F401 - fixtures
from tests.stores import BUCKET, BUSY, FOR_EVER

HERE = f"s3://{BUCKET}/nightly/history"
FILE = "nightly/history/demo-run-000.parquet"


def test_runs_come_back(store):  # noqa: F811 - the fixture
    assert history.read(HERE).column_names == COLUMNS
    for n in (1, 0):
        history.append(night(n), HERE)
    found = history.read(HERE)
    assert found.column("run").to_pylist() == [f"run-{n:03}" for n in (0, 1) for _ in range(3)]
    with pytest.raises(OutputError, match=r"demo-run-000.parquet: File exists"):
        history.append(night(0), HERE)


def test_what_cannot_be_read_now_is_not_left_out(store, capsys):  # noqa: F811
    """Else a trend would have a gap, and nobody would know."""
    history.append(night(0), HERE)
    history.append(night(1), HERE)
    store.plan("GET", FILE, BUSY, FOR_EVER)
    with pytest.raises(InputError, match="the store is busy"):
        history.read(HERE)
    assert store.n_faults > 0
    store.faults.clear()
    assert len(history.read(HERE)) == 6
    with store.straight.open_output_stream(f"{BUCKET}/nightly/history/x.parquet") as stream:
        stream.write(b"no Parquet")
    assert len(history.read(HERE)) == 6
    assert "x.parquet: passed over, no history of a run" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_run_that_cannot_be_written_leaves_nothing(store, method):  # noqa: F811
    history.append(night(1), HERE)
    store.plan(method, FILE, BUSY, FOR_EVER)
    with pytest.raises(OutputError, match="the store is busy"):
        history.append(night(0), HERE)
    assert store.n_faults > 0
    assert set(history.read(HERE).column("run").to_pylist()) == {"run-001"}


def test_no_bucket(store):  # noqa: F811
    with pytest.raises(OutputError, match="no such bucket"):
        history.append(night(0), "s3://no-such/x")
