"""A job that is started anew writes the same bytes, whatever was kept from the last time."""

import json
import os
import subprocess
import sys

import pytest

from runner import RunSettings, run

TEXTS = [
    "The capital of France is",
    "",
    "3 + 4 =",
    "Monday, Tuesday,",
    30 * "Anna has a red ball. ",
]


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_a_job_in_another_process_writes_the_same_bytes(tmp_path, dtype):
    """With graphs and rounded weights from the cache, made anew, and where nothing can be kept."""
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    rows = [{"n": n, "prompt": f"{n} {text}"} for n in range(4) for text in TEXTS]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run(RunSettings(str(source), str(output), dtype=dtype, max_new_tokens=9, check_rows=0))
    expected = output.read_bytes()
    (tmp_path / "file").touch()
    caches = (os.environ["PICOBATCH_CACHE_DIR"], tmp_path / "new", tmp_path / "file" / "none")
    for n, cache in enumerate(caches):
        again = tmp_path / f"{n}.jsonl"
        command = [sys.executable, "-m", "runner.cli", "batch", source, again, "--dtype", dtype]
        command += ["--max-new-tokens", "9", "--threads", str(n + 1), "--check-rows", "2"]
        environment = os.environ | {"PICOBATCH_CACHE_DIR": str(cache), "PYTHONHASHSEED": str(n)}
        subprocess.run(list(map(str, command)), env=environment, check=True, capture_output=True)
        assert again.read_bytes() == expected
