"""Calls that read what may be damaged, and how an input is put where they read it."""

import contextlib
import gzip
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import onnx
import pyarrow.parquet as pq

from benchmarks import bundle
from exporter import cached, open_package
from exporter.gpt2 import trace_next_logits
from exporter.package import MANIFEST, fingerprint
from reference import cache, load_model
from reference.checkpoint import rounded
from reference.checkpoint.crc32c import crc32c
from runner import run
from runner.check import check_directory, summary
from runner.inspect import first_rows, inspect_path
from runner.jsonl import parse_line
from runner.messages import printable
from runner.provenance import FOOTER_KEY

from . import seeds
from .law import BreachError, harmless
from .target import TRIED_CACHE, write

TEXT = "the thing\n \u00e9\u4e2d<user><|endoftext|>"


# Models.


def load(folder: Path, _: str = "") -> None:
    """Load a model, and use its tokenizer."""
    tokenizer = load_model(folder).tokenizer
    for special in (False, True):
        ids = tokenizer.encode(TEXT, allow_special=special)
        tokenizer.decode(ids)
    assert tokenizer.sha256


def write_bundle(folder: Path, name: str, content: bytes) -> None:
    """A file, or the content of the one block of an index, with its checksums."""
    if name != "block":
        write(folder, name, content)
        return

    def sealed(block: bytes) -> bytes:
        guarded = block + b"\0"
        return guarded + bundle.mask(crc32c(guarded)).to_bytes(4, "little")

    one_restart = (0).to_bytes(4, "little") + (1).to_bytes(4, "little")
    handle = bundle.varint(0) + bundle.varint(len(content))
    root = bytes([0, 1, len(handle)]) + b"\xff" + handle + one_restart
    whole = sealed(content)
    footer = handle + bundle.varint(len(whole)) + bundle.varint(len(root))
    index = whole + sealed(root) + footer.ljust(40, b"\0") + bundle.MAGIC.to_bytes(8, "little")
    write(folder, "model.ckpt.index", index)


def block() -> bytes:
    """What the block of the index of OpenAI's layout holds."""
    index = (seeds.openai_dir() / "model.ckpt.index").read_bytes()
    ends = [at for at in range(len(index)) if index[at : at + 8] == b"\0\0\0\0\1\0\0\0"]
    return index[: ends[0] + 8]


# Exported folders.


def write_package(folder: Path, name: str, content: bytes) -> None:
    """A file, and a manifest that names it as it is now."""
    write(folder, name, content)
    if name != MANIFEST:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        manifest["files"][name] = fingerprint(folder / name)
        write(folder, MANIFEST, json.dumps(manifest).encode())


def read_package(folder: Path, _: str) -> None:
    """Open an exported folder, read its weights and show what it says."""
    package = open_package(folder)
    shown = [inspect_path(folder), inspect_path(folder, as_json=True)]
    assert all(harmless(printable(text)) for text in shown)
    for dtype in package.dtypes:
        package.params(dtype)


def check_package(folder: Path, _: str) -> None:
    """Run the graphs."""
    rows = check_directory(
        folder, 1, runtimes=("onnxruntime", "reference-evaluator"), n_prompts=1, n_new=2
    )
    assert harmless(printable(summary(rows)))


# Completions.


def write_completions(folder: Path, name: str, content: bytes) -> None:
    """A file, or the provenance in a Parquet footer."""
    if name != "footer":
        write(folder, name, content)
        return
    table = pq.read_table(folder / "out.parquet")
    table = table.replace_schema_metadata({FOOTER_KEY: content})
    pq.write_table(table, folder / "out.parquet")


def read_completions(folder: Path, name: str) -> None:
    """Show where both outputs came from, and their first rows."""
    file = folder / ("out.parquet" if name in ("out.parquet", "footer") else "out.jsonl")
    told = [inspect_path(file), inspect_path(file, as_json=True), *first_rows(file, 5)]
    for text in told:
        assert harmless(printable(text)), text
    assert all("\n" not in line for line in first_rows(file, 5))


# Jobs.


def write_input(folder: Path, name: str, content: bytes) -> None:
    """A file, or one that is packed."""
    if name == "packed.jsonl.gz":
        content = gzip.compress(content, 1)
    write(folder, name, content)


def run_job(folder: Path, name: str) -> None:
    """Complete the prompts of a file, into both formats."""
    for output in ("o.jsonl", "o.parquet"):
        with contextlib.suppress(FileNotFoundError):
            (folder / output).unlink()
        report = None
        try:
            prefix = {"column_prefix": "new_"} if name == "in.parquet" else {}
            report = run(seeds.settings(folder / name, folder / output, **prefix))
        finally:
            if report is None and (folder / output).exists():
                raise BreachError(f"{output} is there, though the job failed")
        if report.rows != report.provenance["counts"]["rows"]:
            raise BreachError(f"{report.rows} rows were written")
        for row in first_rows(folder / output, 3):
            assert harmless(printable(row))


def parse(folder: Path, name: str) -> None:
    """One line of JSON."""
    for line in (folder / name).read_bytes().split(b"\n"):
        found = parse_line(line)
        if isinstance(found, str):
            assert harmless(found), found
            assert len(found) < 200, found


# Caches.


@contextlib.contextmanager
def _own_cache() -> Iterator[None]:
    before = os.environ.get(cache.FOLDER_VARIABLE)
    os.environ[cache.FOLDER_VARIABLE] = str(TRIED_CACHE)
    try:
        yield
    finally:
        os.environ.pop(cache.FOLDER_VARIABLE)
        if before is not None:
            os.environ[cache.FOLDER_VARIABLE] = before


@_own_cache()
def use_cache(_: Path, __: str = "") -> None:
    """What a start looks for in the cache."""
    model = seeds.model()
    rounded.REMEMBERED_BYTES, before = 0, rounded.REMEMBERED_BYTES
    try:
        small = model.in_int8()
        small.checkpoint.params["blocks"][0]["mlp"]["c_fc"]["w"]["q"].sum()
        traced = cached.traced_onnx(trace_next_logits, model, n_ctx=4)
    finally:
        rounded.REMEMBERED_BYTES = before
    proto = onnx.ModelProto.FromString(traced.proto)
    places = {entry.value for t in proto.graph.initializer for entry in t.external_data}
    if any(".." in place or place.startswith("/") for place in places):
        raise BreachError(f"a cached graph reads {places}")


def write_cache(_: Path, name: str, content: bytes) -> None:
    """What lies in the cache, with its checksum where it has one."""
    found = sorted(path for path in TRIED_CACHE.rglob("*") if path.is_file())
    kinds = {
        "graph": [path for path in found if path.parent.name == cached.KIND],
        "note": [p for p in found if p.parent.name == rounded.KIND and p.suffix != ".safetensors"],
        "int8.safetensors": [p for p in found if p.suffix == ".safetensors"],
    }
    for path in kinds[name]:
        if name == "int8.safetensors":
            path.write_bytes(content)
            note = path.with_suffix("")
            if note.is_file():
                said = json.loads(note.read_bytes()[cache.DIGEST_BYTES :])
                said["identity"] = rounded.identity(path.stat())
                packed = json.dumps(said).encode()
                note.write_bytes(hashlib.sha256(packed).digest() + packed)
        else:
            path.write_bytes(hashlib.sha256(content).digest() + content)
