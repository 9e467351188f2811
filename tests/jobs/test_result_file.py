"""results.json and the files of rows: what was written comes back; what was not gives a message."""

import contextlib
import copy
import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.gate import judge
from jobs.result_file import as_bytes, as_document, from_document, read_results
from jobs.results import BadRow, Metric, RowResult
from jobs.rows_file import read_rows, write_rows
from jobs.run_folder import read_run, write_run
from runner.errors import InputError, OutputError
from tests.jobs.nights import result, row, spec, task


def judged():
    before = result(t=task([row(n, 1) for n in range(9)]))
    now = result(t=task([row(n, n > 5) for n in range(9)]), u=task([row(0, None)]))
    now.tasks["t"].bad_rows.append(BadRow("d:3", "no text"))
    now.tasks["t"].details = {"tokens": 9, "deep": [{"a": None}]}
    now.failed = {"v": "no such file"}
    now.gate = judge(spec(), now, before).as_dict()
    now.exit_code = 5
    return now


DOCUMENT = json.loads(as_bytes(judged()))


def test_it_comes_back(tmp_path):
    written = judged()
    folder = write_run(written, tmp_path)
    assert read_run(folder) == written


def test_it_is_json_for_everybody(tmp_path):
    """NaN and infinity are none in JSON: null, which comes back as NaN."""
    found = result(t=task([row(0, 1)], Metric("x", math.inf, math.nan, 1, True)))
    found.check["max_abs_diff"] = math.nan
    found.tasks["t"].details = {"half a letter": "\udcff", "all": [math.inf, (1, 2)]}

    def refuse(name):
        raise AssertionError(name)

    data = as_bytes(found)
    told = json.loads(data.decode(), parse_constant=refuse)
    assert told["tasks"]["t"]["metrics"]["x"]["value"] is None
    assert told["tasks"]["t"]["details"] == {"half a letter": "\udcff", "all": [None, [1, 2]]}
    (tmp_path / "results.json").write_bytes(data)
    read, n_rows = read_results(tmp_path / "results.json")
    x = read.tasks["t"].metrics[-1]
    assert math.isnan(x.value)
    assert x.stderr is None
    assert n_rows == {"t": 1}


def places(found, path=()):
    """All places in a value."""
    yield path
    keys = range(len(found)) if isinstance(found, list) else found
    for key in keys if isinstance(found, (dict, list)) else ():
        yield from places(found[key], (*path, key))


PLACES = [*places(DOCUMENT)]
JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=5),
        st.sampled_from(["mean", "2026-03-01", "../x", "failed", "\udcff", 10**400]),
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(st.sampled_from(PLACES), JSON, st.sampled_from(["set", "remove", "add"]))
def test_a_foreign_file_is_read_or_refused_with_a_message(path, value, how):
    found = copy.deepcopy(DOCUMENT)
    at = found
    for key in path[:-1]:
        at = at[key]
    if not path:
        found = value
    elif how == "set":
        at[path[-1]] = value
    elif how == "remove":
        del at[path[-1]]
    elif isinstance(at, dict):
        at[value if isinstance(value, str) else "more"] = value
    said = None
    try:
        read, n_rows = from_document(found, "runs/r1/results.json")
    except InputError as e:
        said = str(e)
    if said is not None:
        assert said.startswith("runs/r1/results.json: ")
        assert "expected" in said
        assert len(said) < 500
    else:
        # What was taken can be judged and written again.
        judge(spec(), read, read)
        as_bytes(read)
        assert n_rows.keys() == read.tasks.keys()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", r"is \[\]; expected an object"),
        (b'{"schema": 2}', '"schema" is 2; this version reads 1'),
        (b'{"schema": 1}', "the file has no 'run'"),
        (b'{"a":' * 200 + b"1" + b"}" * 200, "expected an object"),
    ],
)
def test_damaged_files(tmp_path, data, said):
    (tmp_path / "results.json").write_bytes(data)
    with pytest.raises(InputError, match=f"results.json: .*{said}.*Copy its folder again"):
        read_results(tmp_path / "results.json")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"run": "../up"}, "run is '../up'"),
        ({"started": "2026-03-01T03:00:00"}, "started is '2026"),
        ({"started": 3}, "started is 3"),
        ({"exit_code": -1}, "exit_code is -1"),
        ({"gate": {"verdict": "fine"}}, "gate.verdict is 'fine'"),
        ({"failed": {"v": 1}}, "failed"),
        ({"tasks": {"../x": DOCUMENT["tasks"]["t"]}}, "a task is called '../x'"),
        ({"tasks": {"t": []}}, r"tasks.t is \[\]"),
    ],
)
def test_what_it_cannot_be_is_named(change, said):
    with pytest.raises(InputError, match=said):
        from_document(DOCUMENT | change, "r.json")


def test_no_file_and_a_folder(tmp_path):
    for name in ("none", "."):
        with pytest.raises(InputError, match="expected the results that `runner eval` wrote"):
            read_results(tmp_path / name)


texts = st.text(st.characters(codec="utf-8"), max_size=20)
values = st.dictionaries(
    st.sampled_from(["acc", "loglikelihood", "größe", "a b"]), st.floats(allow_nan=False)
)
made_rows = st.lists(
    st.builds(RowResult, texts, texts, texts, texts, st.none() | st.booleans(), values), max_size=5
)


@given(made_rows)
def test_rows_come_back(tmp_path_factory, rows):
    file = tmp_path_factory.mktemp("rows") / "t.parquet"
    write_rows(rows, file)
    assert read_rows(file) == rows
    table = pq.read_table(file)  # as everybody reads it
    assert table.column_names[:5] == ["id", "prompt", "expected", "answer", "correct"]


def test_a_value_with_the_name_of_a_column_is_refused(tmp_path):
    rows = [RowResult("1", "", "", "", None, {"prompt": 1.0})]
    with pytest.raises(OutputError, match="'prompt'.*Rename"):
        write_rows(rows, tmp_path / "t.parquet")


GOOD = {
    "id": ["1"],
    "prompt": ["p"],
    "expected": ["e"],
    "answer": ["a"],
    "correct": pa.array([True]),
    "acc": [1.0],
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"id": [1]}, "column 'id' is of type int64; expected string"),
        ({"id": pa.array([None], pa.string())}, "column 'id' holds null"),
        ({"correct": ["yes"]}, "column 'correct' is of type string; expected bool"),
        ({"acc": ["1"]}, "column 'acc' is of type string; expected double"),
        ({"acc": [[1.0]]}, "column 'acc' is of type list"),
        ({"answer": None}, "has the columns"),
    ],
)
def test_foreign_rows(tmp_path, change, said):
    columns = {name: column for name, column in (GOOD | change).items() if column is not None}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    with pytest.raises(InputError, match=f"t.parquet: .*{said}.*evaluate again"):
        read_rows(tmp_path / "t.parquet")


def test_rows_whose_text_is_no_text(tmp_path):
    raw = pa.array([b"\xff"], pa.binary()).cast(pa.string(), safe=False)
    pq.write_table(pa.table(GOOD | {"prompt": raw}), tmp_path / "t.parquet")
    with pytest.raises(InputError, match="not UTF-8|not readable"):
        read_rows(tmp_path / "t.parquet")


def test_damaged_rows(tmp_path):
    """Any byte may have changed: a message, or the same rows."""
    file = tmp_path / "t.parquet"
    rows = [row(n, n % 2) for n in range(50)]
    write_rows(rows, file)
    data = file.read_bytes()
    rng = np.random.default_rng(0)
    for place in [*rng.integers(0, len(data), 150), *range(len(data) - 12, len(data))]:
        bad = bytearray(data)
        bad[place] ^= 1 << int(rng.integers(8))
        file.write_bytes(bad)
        with contextlib.suppress(InputError):
            read_rows(file)
    for cut in (0, 3, len(data) // 2, len(data) - 1):
        file.write_bytes(data[:cut])
        with pytest.raises(InputError):
            read_rows(file)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "rows/t.parquet").unlink(), "no such file"),
        (lambda folder: write_rows([row(0, 1)], folder / "rows/t.parquet"), "not the 9 rows"),
        (
            lambda folder: write_rows(
                [RowResult(str(n), "", "", "", None, {}) for n in range(9)],
                folder / "rows/t.parquet",
            ),
            "not the 9 rows",
        ),
    ],
)
def test_rows_that_are_not_of_the_results(tmp_path, damage, said):
    folder = write_run(judged(), tmp_path)
    damage(folder)
    with pytest.raises(InputError, match=said):
        read_run(folder)


def test_the_document_is_the_contract():
    found = as_document(judged())
    assert {*found} == {
        "schema",
        "run",
        "job",
        "started",
        "elapsed_s",
        "model",
        "tasks",
        "failed",
        "check",
        "gate",
        "environment",
        "exit_code",
    }
    assert found["started"] == "2026-03-01T03:00:00+00:00"
    assert found["tasks"]["t"]["rows"] == 9
    assert {*found["tasks"]["t"]["metrics"]["bits"]} == {
        "value",
        "stderr",
        "n",
        "higher_is_better",
        "of",
        "per",
        "scale",
    }
