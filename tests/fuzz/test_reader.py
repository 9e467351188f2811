"""Faults in the reader that fuzzing found, each with the smallest input that showed it."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reference import PicobatchError
from runner import run
from tests.fuzz import seeds

ROOT = Path(__file__).parents[2]
LIMITED = """
import resource, sys
from runner import run
from tests.fuzz import seeds
seeds.huggingface_dir(), seeds.completions_dir()
with open("/proc/self/status") as status:
    (size,) = [int(line.split()[1]) << 10 for line in status if line.startswith("VmSize")]
resource.setrlimit(resource.RLIMIT_AS, (size + (400 << 20),) * 2)
print(run(seeds.settings(sys.argv[1], sys.argv[1] + ".o.jsonl")).first_bad_row)
"""


def test_a_column_whose_name_is_no_text(tmp_path):
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"prompt": ["a"], "surprise": ["b"]}), path, store_schema=False)
    path.write_bytes(path.read_bytes().replace(b"surprise", b"surpr\x80se"))
    with pytest.raises(PicobatchError, match="not readable as Parquet"):
        run(seeds.settings(path, tmp_path / "o.jsonl"))


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited as Linux does it")
def test_a_line_that_never_ends(tmp_path):
    """A megabyte that unpacks into a gigabyte of one line."""
    path = tmp_path / "in.jsonl.gz"
    members = (gzip.compress(b'{"prompt": "'), *[gzip.compress(b"a" * (1 << 20))] * (1 << 10))
    path.write_bytes(b"".join(members))
    command = [sys.executable, "-c", LIMITED, str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]
    assert "in.jsonl.gz:1: longer than 64 MiB" in done.stdout


def test_a_prompt_column_that_is_no_unicode(tmp_path):
    """As `--prompt-column` is where the command line has a byte that is no UTF-8."""
    (tmp_path / "in.jsonl").write_text(json.dumps({"\udcff": "in"}))
    with pytest.raises(PicobatchError, match="is not Unicode text"):
        run(seeds.settings(tmp_path / "in.jsonl", tmp_path / "o.parquet", prompt_column="\udcff"))


DEPTHS = (100, 300, 450, 600, 800, 900, *range(920, 1000, 7))


@pytest.mark.parametrize(
    ("where", "output"),
    [
        ("prompt", "o.jsonl"),
        ("prompt", "o.parquet"),
        ("other", "o.jsonl"),
        ("other", "o.parquet"),
        ("max_new_tokens", "o.jsonl"),
    ],
)
def test_nesting_of_any_depth(tmp_path, where, output):
    """Python reads JSON to some depth, and what follows must be able to hold it."""
    for depth in DEPTHS:
        for before, after in (("[", "]"), ('{"a":', "}")):
            deep = before * depth + '"\\ud800"' + after * depth
            (tmp_path / "in.jsonl").write_text(
                f'{{"prompt": "in", "{where}": {deep}}}\n{json.dumps({"prompt": "in"})}\n'
            )
            try:
                run(seeds.settings(tmp_path / "in.jsonl", tmp_path / output))
            except PicobatchError as e:
                told = str(e)
                assert len(told) < 1000
