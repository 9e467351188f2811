"""What a job keeps does not grow with its rows."""

import gc
import json
import os
import random
import shutil
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.memory import HPARAMS, WORDS, write_huggingface
from reference.models import DEMO_DIR
from runner import RunSettings, intake, jsonl_source, parquet_source, run, writer
from runner.intake import Intake
from runner.join import join
from runner.places import Place
from runner.progress import Progress
from runner.writer import ParquetRows

N_ROWS = 12_000
LOOK_ROWS = 200
PART_ROWS = 256
ROW_BLOCKS = 0.4  # of Python's memory: the least object that is kept of each row takes one
ROW_BYTES = 10  # of Arrow's


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """One block, 32 wide: the rows are what costs."""
    folder = tmp_path_factory.mktemp("model")
    write_huggingface(folder, HPARAMS, 0)
    for name in ("vocab.json", "merges.txt"):
        shutil.copyfile(DEMO_DIR / name, folder / name)
    return folder


@pytest.fixture(autouse=True)
def small_stores(monkeypatch):
    """What is kept up to a limit reaches it within the smaller job."""
    monkeypatch.setattr(intake, "KNOWN_TOKENS", 1 << 14)
    monkeypatch.setattr(writer, "ROW_GROUP_ROWS", 1 << 11)
    for source in (jsonl_source, parquet_source):
        monkeypatch.setattr(source, "CHUNK_ROWS", 128)


def write_rows(path, n, repeated):
    rng = random.Random(0)
    prompts = [" ".join(rng.choices(WORDS, k=1 if repeated else 6)) for _ in range(n)]
    if path.suffix == ".parquet":
        table = pa.table({"id": range(n), "prompt": prompts})
        pages = {"data_page_size": 1 << 12, "dictionary_pagesize_limit": 1 << 12}
        pq.write_table(table, path, row_group_size=n, **pages)
    else:
        rows = ({"id": i, "prompt": prompt} for i, prompt in enumerate(prompts))
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


class Held:
    """What a job holds, looked at whenever some more rows are done."""

    def __init__(self, do):
        self.rows, self.blocks, self.arrow = [], [], []
        done, advance = 0, Progress.advance

        def looked(progress, rows, tokens):
            nonlocal done
            if done // LOOK_ROWS != (done := done + rows) // LOOK_ROWS:
                gc.collect()
                self.rows.append(done)
                self.blocks.append(sys.getallocatedblocks())
                self.arrow.append(pa.total_allocated_bytes())
            advance(progress, rows, tokens)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Progress, "advance", looked)
            gc.collect()
            gc.freeze()  # what is there already need not be looked through again and again
            try:
                do()
            finally:
                gc.unfreeze()

    def grown(self, found):
        """For each row: how much the least of the end is above the least of the middle."""
        third = len(found) // 3
        middle, end = slice(third, 2 * third), slice(2 * third, None)
        n_rows = self.rows[-1] - self.rows[2 * third - 1]
        return (min(found[end]) - min(found[middle])) / n_rows


def job(folder, model, name, repeated=False, **options):
    """Does a job, and looks at it."""
    source = write_rows(folder / f"in{name}", N_ROWS, repeated)
    settings = RunSettings(
        str(source),
        str(folder / f"out{name}"),
        model=str(model),
        max_new_tokens=1,
        threads=1,
        batch_size=64,
        part_rows=PART_ROWS,
        **options,
    )
    return Held(lambda: run(settings))


@pytest.mark.parametrize("name", [".jsonl", ".parquet"])
@pytest.mark.parametrize(
    ("repeated", "options"),
    [(False, {}), (True, {"check_rows": None})],
    ids=["distinct", "repeated-checked"],
)
def test_a_job(tmp_path, model, name, repeated, options):
    held = job(tmp_path, model, name, repeated, **options)
    assert held.rows[-1] == N_ROWS
    assert held.grown(held.blocks) < ROW_BLOCKS
    assert held.grown(held.arrow) < ROW_BYTES


@pytest.mark.parametrize("kept", ["rows", "answers"])
def test_what_grows_is_seen(tmp_path, model, monkeypatch, kept):
    """A number for each row, and answers that are not forgotten."""
    if kept == "rows":
        numbers, settle = [], Intake._settle

        def keep(self, opened, place, result):
            numbers.append(1000 + len(numbers))
            settle(self, opened, place, result)

        monkeypatch.setattr(Intake, "_settle", keep)
    else:
        monkeypatch.setattr(Intake, "_forget", lambda self: None)
    held = job(tmp_path, model, ".jsonl")
    assert held.grown(held.blocks) > 2 * ROW_BLOCKS


def test_a_row_group_of_long_rows_is_joined_in_pieces(tmp_path, monkeypatch):
    """32 MB in one row group: Arrow's batch of 1024 rows would be all of it."""
    table = pa.table({"text": [os.urandom(1 << 19).hex() for _ in range(32)]})
    source = tmp_path / "in.parquet"
    pq.write_table(table, source, use_dictionary=False, write_batch_size=1)
    held, write = [], ParquetRows.write

    def looked(rows, batch):
        held.append(pa.total_allocated_bytes() - before)
        write(rows, batch)

    monkeypatch.setattr(ParquetRows, "write", looked)
    before = pa.total_allocated_bytes()
    join([Place.local(source)], tmp_path / "out.parquet", table.schema, {})
    assert held[0] < 16 << 20
    assert pq.read_table(tmp_path / "out.parquet").equals(table)
