"""What jobs leave behind: a folder of parts, shards, and requests with their responses."""

import contextlib
import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

from runner import run
from runner.errors import InterruptedJobError
from runner.interrupts import Interrupts
from runner.provenance import FOOTER_KEY
from runner.sealed import unseal

from . import seeds

JOB = {"max_new_tokens": 2, "part_rows": 2, "batch_size": 1}
OUTPUT, PARTS = "o.jsonl", "o.jsonl.parts"
SHARDS = 2
STEPS = 4  # after which the job is stopped: a part and some answers are there

BODY = {"model": "gpt2", "prompt": "the", "temperature": 0}
LINE = {"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": BODY}
BODIES: tuple[dict[str, Any], ...] = (
    {"max_tokens": 1},
    {"max_tokens": 2, "stop": ["t", "\n", "\u00e9"], "n": 1, "seed": 7, "user": "u"},
    {"prompt": ["the"], "stop": "h", "max_tokens": 1, "logit_bias": {}, "top_p": 1.0},
    {"prompt": [[4, 5]], "max_tokens": 1, "echo": False, "frequency_penalty": 0},
    {"temperature": 1, "stop": None, "logprobs": 3},
)
REQUESTS = b"".join(
    json.dumps(LINE | {"custom_id": f"r-{n}", "body": BODY | body}).encode() + b"\n"
    for n, body in enumerate(BODIES)
)


@cache
def requests_dir() -> Path:
    folder = seeds.ROOT / "requests"
    folder.mkdir()
    (folder / "requests.jsonl").write_bytes(REQUESTS)
    return folder


@cache
def interrupted_dir() -> Path:
    """A job that was stopped on its way: `in.jsonl` and the folder `PARTS`."""
    folder = seeds.ROOT / "interrupted"
    folder.mkdir()
    (folder / "in.jsonl").write_bytes(seeds.PROMPTS)
    told = [None] * STEPS + [InterruptedJobError("stopped", 2)]
    with (
        mock.patch.object(Interrupts, "check", side_effect=told),
        contextlib.suppress(InterruptedJobError),
    ):
        run(seeds.settings(folder / "in.jsonl", folder / OUTPUT, **JOB))
    left = {path.name for path in (folder / PARTS).iterdir()}
    assert {"job.json", "part-00000.json", "answers.json"} <= left, left
    return folder


@cache
def part_file() -> str:
    """The name of the file of the part that this job did."""
    (found,) = (interrupted_dir() / PARTS).glob("part-00000-*.jsonl")
    return found.name


def sealed_files() -> dict[str, Any]:
    """The content of the JSON files of a job that was stopped."""
    folder = interrupted_dir() / PARTS
    return {path.name: unseal(path.read_bytes()) for path in sorted(folder.glob("*.json"))}


@cache
def answers() -> bytes:
    """What that job kept of rows whose part was not done."""
    return (interrupted_dir() / PARTS / "answers.json").read_bytes()


@cache
def finished() -> bytes:
    """What that job writes where nothing stops it."""
    folder = Path(shutil.copytree(interrupted_dir(), seeds.ROOT / "not-interrupted"))
    shutil.rmtree(folder / PARTS)
    run(seeds.settings(folder / "in.jsonl", folder / OUTPUT, **JOB))
    return (folder / OUTPUT).read_bytes()


@cache
def job_shards_dir() -> Path:
    """All shards of a job, in both formats, not merged."""
    folder = seeds.ROOT / "job-shards"
    folder.mkdir()
    (folder / "in.jsonl").write_bytes(seeds.PROMPTS)
    for suffix in (".jsonl", ".parquet"):
        for n in range(SHARDS):
            shard = {"shard": (n, SHARDS)}
            run(seeds.settings(folder / "in.jsonl", folder / f"o{suffix}", **JOB, **shard))
    return folder


def shard(n: int, suffix: str = ".jsonl") -> str:
    return f"o-{n:05}-of-{SHARDS:05}{suffix}"


@cache
def resumed_dir() -> Path:
    """Finished outputs of one job, in both formats."""
    folder = seeds.ROOT / "resumed"
    folder.mkdir()
    (folder / "in.jsonl").write_bytes(seeds.PROMPTS)
    for output in ("o.jsonl", "o.parquet"):
        run(seeds.settings(folder / "in.jsonl", folder / output, **JOB))
    return folder


def footer_of(path: Path) -> bytes:
    import pyarrow.parquet as pq

    return bytes(pq.read_metadata(path).metadata[FOOTER_KEY.encode()])
