"""Paths, addresses and options as a command gets them: from anywhere, with anything in them."""

import json
import os
import random
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import unquote

from click.testing import CliRunner

from reference import PicobatchError
from runner.cli import cli
from runner.inputs import WILDCARDS, input_files
from runner.output import check_place
from runner.places import READ_ONLY, place_of, scheme_of

from . import mutate, seeds
from .law import BreachError, harmless

SECRET = "Sup3rS3cr3t"
SUFFIX = re.compile(r"\.(parquet|(jsonl|ndjson)(\.gz|\.zst)?)\Z", re.IGNORECASE)
NOWHERE = "http://127.0.0.1:9"  # refuses at once
ENVIRONMENT = {
    "AWS_ENDPOINT_URL": NOWHERE,
    "AWS_MAX_ATTEMPTS": "1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_REGION": "here",
    "PICOBATCH_TIMEOUT_S": "1",
    "CLOUD_STORAGE_EMULATOR_ENDPOINT": NOWHERE,
}
PATHS = (
    "in.jsonl",
    "sub",
    "sub/*.jsonl",
    "*/[a-c]*.jsonl",
    "**/**/**",
    "**/a*.jsonl",
    "a/../in.jsonl",
    "sub/../sub/a.jsonl",
    "[in.jsonl",
    "in[!x].jsonl",
    "file:in.jsonl",
    "file://localhost/a%00b.jsonl",
    "file:///in%2f..%2fin.jsonl",
    "s3://bucket/key.jsonl",
    "s3://bucket/folder/*.jsonl?region=here",
    "s3://*/a",
    "gs://anonymous@bucket/key?retry_limit_seconds=1",
    "https://host.invalid/a.jsonl",
    "ftp://user:pass@host.invalid/a.jsonl",
    "\u00e9\u4e2d.jsonl",
    "-",
)
URI = {"scheme": "s3", "user": "KEY", "bucket": "bucket", "key": "a/b.jsonl", "option": "region"}
OPTIONS = {
    "output": "o.jsonl",
    "--shard": "0/2",
    "--column-prefix": "p_",
    "--prompt-column": "prompt",
    "--metrics": "metrics.jsonl",
    "--stop": "the",
    "--part-rows": "2",
    "--limit": "4",
    "--seed": "1",
    "--memory": "8G",
    "--check-rows": "1",
    "--check-invariance": "1",
    "--batch-size": "2",
    "--max-new-tokens": "1",
    "--format": "rows",
}


@cache
def names_dir() -> Path:
    """Files that paths may mean."""
    folder = seeds.ROOT / "names"
    (folder / "sub" / "deep").mkdir(parents=True)
    (folder / "o").mkdir()
    for name in ("in.jsonl", "sub/a.jsonl", "sub/deep/b.jsonl", "[in.jsonl", ".hidden.jsonl"):
        (folder / name).write_bytes(seeds.PROMPTS)
    shutil.copy(seeds.completions_dir() / "in.parquet", folder / "sub" / "c.parquet")
    return folder


@contextmanager
def within(folder: Path) -> Iterator[None]:
    """Paths are meant from a folder, and no store is reached."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        with mock.patch.dict(os.environ, ENVIRONMENT):
            yield
    finally:
        os.chdir(before)


# Places.


def change_path(rng: random.Random, data: bytes) -> bytes:
    """A path that has something of another one in it, or other bytes."""
    if rng.randrange(3):
        return mutate.change_bytes(rng, data)
    words = (*PATHS, *mutate.PATHS, *mutate.ESCAPES, "**", "*", "[", "%00", "?", "@", "://", "x=")
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice(words).encode(errors="replace") + data[at:]


def resolve(folder: Path, name: str) -> None:
    """What a path or an address stands for, as an input and as an output."""
    data = (folder / name).read_bytes()
    text, secret = _uri(data) if name == "uri" else (data.decode(errors="surrogateescape"), False)
    try:
        with within(folder):
            _resolve(text)
    except PicobatchError as e:
        if secret and SECRET in str(e):
            raise BreachError(f"a secret is told: {text!r:.300}: {e}") from e
        raise


def _uri(data: bytes) -> tuple[str, bool]:
    """An address of its parts, with secrets, and whether they can be told from the rest."""
    try:
        parts = {key: str(value) for key, value in json.loads(data).items()}
        user, rest = f"{parts['user']}:{SECRET}", f"{parts['bucket']}/{parts['key']}"
        text = f"{parts['scheme']}://{user}@{rest}?{parts['option']}={SECRET}"
    except (ValueError, LookupError, AttributeError, RecursionError):
        return data.decode(errors="surrogateescape"), False
    scheme, hidden = scheme_of(text), parts["user"] + parts["bucket"]
    known = scheme in ("s3", "gs") and parts["option"] not in ("scheme", "endpoint_override")
    return text, known and not any(c in hidden for c in "/?#@:") and "?" not in parts["key"]


def _resolve(text: str) -> None:
    place = place_of(text)  # which asks nobody
    scheme = scheme_of(text)
    if scheme in READ_ONLY or scheme == "gs" or "endpoint" in unquote(text).lower():
        return
    if text == "-":
        return
    refused = []
    try:
        check_place(place, [])
    except PicobatchError as e:
        refused.append(e)
    if place.is_local and not WILDCARDS.isdisjoint(place.path):
        plain = place.path.split("/")
        if place.path.startswith("/") or ".." in plain:  # all of this machine
            return
    if place.is_local and not _is_here(place.path):
        return
    with input_files(text) as files:
        if not files:
            raise BreachError("an input without files")
    if refused:
        raise refused[0]


def _is_here(path: str) -> bool:
    """Whether a path is no folder, or one in which little is."""
    with suppress(OSError):
        return not Path(path).is_dir() or Path(path).resolve().is_relative_to(Path.cwd())
    return True


# Options of the command.


def run_command(folder: Path, name: str) -> None:
    """A job writes what is named after its output, and nothing else."""
    try:
        given = json.loads((folder / name).read_bytes())
        options = {key: _text(value) for key, value in given.items() if key in OPTIONS}
    except (ValueError, AttributeError, RecursionError):
        return
    (folder / name).unlink()
    output = _below(folder, options.pop("output", "o.jsonl"))
    metrics = _below(folder, options.get("--metrics", "metrics.jsonl"))
    if "--metrics" in options:
        options["--metrics"] = metrics
    arguments = ["batch", "in.jsonl", output, "--model", str(seeds.huggingface_dir())]
    arguments += ["--threads", "1"]
    arguments += [part for option in options.items() for part in option]
    before = _listed(folder)
    with within(folder):
        result = CliRunner().invoke(cli, arguments)
    made = _listed(folder) - before
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert harmless(result.output), result.output
    stem = SUFFIX.sub("", output)
    for path in made:
        mine = path == metrics or path.startswith((stem, os.path.normpath(stem)))
        if not mine:
            raise BreachError(f"{output!r}: {path!r} was written")
    if result.exit_code not in (0, 3):
        raise PicobatchError(result.output[-1000:])


def _text(value: Any) -> str:
    """A value as a command line can have it."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text.replace("\0", "").encode(errors="replace").decode()


def _below(folder: Path, path: str) -> str:
    """A path that stays in a folder."""
    with suppress(ValueError, OSError):
        if (folder / path).resolve().is_relative_to(folder.resolve()) and path:
            return path
    return path.replace("/", "\u2215") or "o.jsonl"


def _listed(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}
