"""What was found night after night: a folder of Parquet files, one for each run.

Not SQLite or DuckDB: both lock one file, which network file systems do badly and object stores not
at all, and a process that dies may leave it to be mended. Here a run makes a file of its own, under
a temporary name that it loses when it is whole. Runs share nothing, so they cannot hurt each other,
wherever the folder lies; and pandas, DuckDB and others read the folder as it is.
"""

import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from reference.progress import say
from runner.errors import InputError, OutputError
from runner.messages import cut, printable
from runner.places import Place, explained, place_of
from runner.store_errors import StoreError

from .gate import by_metric
from .result_file import is_file_name
from .results import EvalResult

SCHEMA = pa.schema(
    [
        pa.field("run", pa.string(), nullable=False),
        pa.field("job", pa.string(), nullable=False),
        pa.field("started", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("task", pa.string(), nullable=False),
        pa.field("metric", pa.string(), nullable=False),
        ("value", pa.float64()),  # null of a metric that is missing
        ("stderr", pa.float64()),
        ("n", pa.int64()),
        ("higher_is_better", pa.bool_()),
        ("verdict", pa.string()),
        ("before", pa.float64()),
        ("model", pa.string()),
        ("weights_sha256", pa.string()),
        ("dtype", pa.string()),
        ("elapsed_s", pa.float64()),
        ("exit_code", pa.int64()),
        ("picobatch", pa.string()),
        ("onnxruntime", pa.string()),
        ("processor", pa.string()),
        ("commit", pa.string()),
    ]
)
SUFFIX = ".parquet"
STAGED = ".tmp"  # how a name ends that is no Parquet file yet; and it begins with a dot
MOST_BYTES = 1 << 26
OF_ENVIRONMENT = ("picobatch", "onnxruntime", "processor", "commit")


def append(result: EvalResult, history: str) -> Place:
    """Add a run to a history.

    Parameters
    ----------
    result : EvalResult
        With its gate and exit code.
    history : str
        A folder, or an address of an object store; made where it is missing.

    Returns
    -------
    Place
        The run's file.

    Raises
    ------
    OutputError
        Where it cannot be written, or the run is there already.
    """
    name = f"{result.job['name']}-{result.run}{SUFFIX}"
    if not is_file_name(name):
        raise OutputError(f"{printable(name)!r}: names no file; expected one. Rename the job.")
    place = place_of(history) / name
    with explained(place, OutputError), _staged(place) as part:
        pq.write_table(run_table(result), part)
        place.put_new(part)
    return place


@contextmanager
def _staged(place: Place) -> Iterator[Path]:
    """Where the file is written first: on the same disk, or where it is uploaded from."""
    if not place.is_local:
        with tempfile.TemporaryDirectory(prefix="picobatch-") as folder:
            yield Path(folder) / "run"
        return
    target = Path(place.path)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}{STAGED}")
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)


def run_table(result: EvalResult) -> pa.Table:
    """A run as rows of a history: one for each metric, missing ones included."""
    common = {
        "run": result.run,
        "job": result.job["name"],
        "started": result.started,
        "model": result.model["name"],
        "weights_sha256": result.model["weights_sha256"],
        "dtype": result.model["dtype"],
        "elapsed_s": result.elapsed_s,
        "exit_code": int(result.exit_code),
        **{name: result.environment.get(name) for name in OF_ENVIRONMENT},
    }
    found = {
        metric: {"verdict": told["verdict"], "before": told["before"]}
        for metric, told in by_metric(result.gate).items()
    }
    rows = [
        {
            "task": task,
            "metric": metric.name,
            "value": metric.value,
            "stderr": metric.stderr,
            "n": metric.n,
            "higher_is_better": metric.higher_is_better,
            **found.pop((task, metric.name), {}),
        }
        for task, of_task in result.tasks.items()
        for metric in of_task.metrics
    ]
    rows += [{"task": task, "metric": metric, **told} for (task, metric), told in found.items()]
    return pa.Table.from_pylist([common | row for row in rows], SCHEMA)


def read(history: str) -> pa.Table:
    """All runs of a history, the oldest first.

    What is no file of a run is passed over, and said; columns that its version did not write are
    null.

    Parameters
    ----------
    history : str
        A folder, or an address of an object store; there may be none yet.

    Raises
    ------
    InputError
        Where it cannot be read now.
    """
    place = place_of(history)
    tables: list[pa.Table] = []
    with explained(place, InputError):
        for name, n_bytes in sorted(place.listing().items()):
            if n_bytes is None or name.startswith((".", "_")) or not name.endswith(SUFFIX):
                continue
            try:
                tables.append(_read(place / name, n_bytes))
            except FileNotFoundError:
                continue  # removed meanwhile
            except StoreError:
                raise  # it may be fine
            except (pa.ArrowException, OSError, ValueError, MemoryError) as e:
                said = cut(str(e).split("\n", maxsplit=1)[0])
                say(printable(f"{place.name}/{name}: passed over, no history of a run ({said})"))
    return _without_repetitions(pa.concat_tables(tables or [SCHEMA.empty_table()]))


def _read(file: Place, n_bytes: int) -> pa.Table:
    """A file of whatever version, with the columns that this one knows.

    Raises
    ------
    ValueError, ArrowException
        Where it holds no runs.
    """
    if not 0 < n_bytes <= MOST_BYTES:  # a pipe has none
        raise ValueError(f"{n_bytes:,} bytes")
    source = pq.ParquetFile(io.BytesIO(file.read_bytes()), page_checksum_verification=True)
    present = [name for name in SCHEMA.names if name in source.schema_arrow.names]
    table = source.read(columns=present)
    columns = []
    for wanted in SCHEMA:
        if wanted.name not in present:
            if not wanted.nullable:
                raise ValueError(f"no column {wanted.name!r}")
            columns.append(pa.nulls(len(table), wanted.type))
            continue
        column = table.column(wanted.name).cast(wanted.type)
        if column.null_count and not wanted.nullable:
            raise ValueError(f"null in {wanted.name!r}")
        columns.append(column)
    table = pa.table(columns, SCHEMA)
    table.validate(full=True)
    return table


def _without_repetitions(table: pa.Table) -> pa.Table:
    """In order of time, and each figure once, wherever a file was copied to another name."""
    table = table.take(pc.sort_indices(table, [(name, "ascending") for name in ("started", "run")]))
    names = ("job", "run", "task", "metric")
    keys = zip(*(table.column(name).to_pylist() for name in names), strict=True)
    first = {key: n for n, key in reversed([*enumerate(keys)])}
    return table.take(pa.array(sorted(first.values()), pa.int64()))
