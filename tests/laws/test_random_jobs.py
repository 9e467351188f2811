"""Any job, cut, mixed and squeezed in any way: what a row gets is what it got at first."""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner import ExitCode, RunSettings, process, run

WORDS = [
    "one",
    "two",
    "three",
    "Anna",
    "hot",
    "cold",
    "The",
    "capital",
    "of",
    "is",
    *"3+4=.é日",
    "Monday,",
    "red",
]
texts = st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)


@st.composite
def jobs(draw):
    """Rows and the settings that say what each is to get."""
    header = " ".join(draw(st.lists(st.sampled_from(WORDS), min_size=10, max_size=60)))
    pool = draw(st.lists(texts, min_size=1, max_size=8))
    limits = st.one_of(st.none(), st.integers(0, 7))
    row = st.tuples(st.sampled_from(pool), st.sampled_from(["", header, 9 * header]), limits)
    rows = [
        {"n": n, "prompt": f"{before}{text}", "max_new_tokens": limit}
        for n, (text, before, limit) in enumerate(draw(st.lists(row, min_size=2, max_size=24)))
    ]
    asked = {
        "max_new_tokens": draw(st.integers(1, 6)),
        "stop": tuple(draw(st.lists(st.sampled_from([" the", "e", ".", "\n"]), max_size=2))),
        "ignore_eos": draw(st.booleans()),
        "truncate_prompt": draw(st.sampled_from([None, "left"])),
    }
    return rows, asked


@st.composite
def ways(draw, n_rows):
    """What must not matter: which rows there are, in which order, and how they are run."""
    order = draw(st.permutations(range(n_rows)))[: draw(st.integers(1, n_rows))]
    how = {
        "batch_size": draw(st.sampled_from([None, 1, 2, 3, 7, 16])),
        "threads": draw(st.integers(1, 4)),
        "check_rows": draw(st.sampled_from([0, 0, 3])),
        "profiled": draw(st.booleans()),
    }
    return order, draw(st.sampled_from([256, 300, 700, 100_000])), how


def complete(rows, most_tokens, **options):
    """The rows that a job gives, by their number."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        source, output = Path(folder) / "in.jsonl", Path(folder) / "out.jsonl"
        source.write_text("".join(json.dumps(row) + "\n" for row in rows))
        room = lambda hparams, token_bytes, memory, share: most_tokens * token_bytes
        patch.setattr(process, "cache_bytes", room)
        report = run(RunSettings(str(source), str(output), **options))
        assert report.exit_code in (ExitCode.DONE, ExitCode.BAD_ROWS)
        found = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["n"] for row in found] == [row["n"] for row in rows]
    return {row["n"]: row for row in found}


@pytest.mark.parametrize("dtype", ["float32", "int8"])
@settings(max_examples=10)
@given(job=jobs(), data=st.data())
def test_a_row_gets_the_same_in_any_job(dtype, job, data):
    rows, asked = job
    expected = complete(rows, 1 << 20, dtype=dtype, batch_size=1, threads=1, check_rows=0, **asked)
    for _ in range(2):
        order, most_tokens, how = data.draw(ways(len(rows)))
        some = [rows[n] for n in order]
        found = complete(some, most_tokens, dtype=dtype, **how, **asked)
        assert found == {row["n"]: expected[row["n"]] for row in some}
