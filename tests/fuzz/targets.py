"""What is fuzzed: for each parser the files that it reads, and a call that reads them.

An input is a byte that chooses one of a target's files, and what this file then holds.
"""

import contextlib
import gzip
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

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

from . import mutate, seeds
from .law import BreachError, harmless, obey
from .mutate import Mutator, Random

TEXT = "the thing\n \u00e9\u4e2d<user><|endoftext|>"
OUTSIDE = "canary"  # a file that nothing may touch


@dataclass
class Target:
    """A parser on trial.

    Attributes
    ----------
    make : callable
        A folder of real files, which are left as they are.
    files : dict of str to Mutator
        Those that an input may replace, and how each is changed.
    call : callable
        Reads the folder, given the name of the file that was replaced.
    write : callable, optional
        Puts what an input holds into the folder, with checksums that are right again.
    seeds : dict of str to list of bytes
        What such a file may hold beside what it does.
    """

    make: Callable[[], Path]
    files: dict[str, Mutator]
    call: Callable[[Path, str], Any]
    write: Callable[[Path, str, bytes], None] | None = None
    seeds: dict[str, list[bytes]] = field(default_factory=dict)

    @cached_property
    def folder(self) -> Path:
        """A copy that is written to, in a folder of its own."""
        box = seeds.ROOT / f"box-{id(self)}"
        box.mkdir()
        (box / OUTSIDE).write_text("untouched")
        return Path(shutil.copytree(self.make(), box / "folder"))

    def inputs(self) -> list[bytes]:
        """Real ones, to begin with."""
        found = []
        for n, name in enumerate(self.files):
            path = self.make() / name
            whole = [path.read_bytes()] if path.is_file() else []
            found += [bytes([n]) + content for content in [*whole, *self.seeds.get(name, [])]]
        return found

    def change(self, rng: Random, data: bytes) -> bytes:
        """Another input that is like this one."""
        if not data:
            return rng.choice(self.inputs())
        names = list(self.files)
        return data[:1] + self.files[names[data[0] % len(names)]](rng, data[1:])

    def try_input(self, data: bytes) -> Exception | None:
        """Hold the parser to the law; returns the error of ours, if it came to one."""
        names = list(self.files)
        name = names[data[0] % len(names)] if data else names[0]
        folder = self.folder
        before = {path: path.stat().st_size for path in folder.parent.iterdir()}
        (self.write or _write)(folder, name, data[1:])
        try:
            error = obey(
                lambda: self.call(folder, name),
                *(folder, cache.folder(), TRIED_CACHE, seeds.huggingface_dir()),
            )
        finally:
            _restore(self.make(), folder)
        after = {path: path.stat().st_size for path in folder.parent.iterdir()}
        if before.keys() != after.keys() or (folder.parent / OUTSIDE).stat().st_size != 9:
            raise BreachError(f"wrote outside of its folder: {sorted(after)}")
        return error


def _write(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)


def _restore(original: Path, folder: Path) -> None:
    """Make a copy what it was."""
    kept = {path.relative_to(original): path for path in original.rglob("*") if path.is_file()}
    for path in folder.rglob("*"):
        if path.is_file() and path.relative_to(folder) not in kept:
            path.unlink()
    for name, path in kept.items():
        copy = folder / name
        found, expected = copy.stat() if copy.is_file() else None, path.stat()
        # Copied with its time: another one was written to.
        if found is None or (found.st_size, found.st_mtime_ns) != (
            expected.st_size,
            expected.st_mtime_ns,
        ):
            shutil.copy2(path, copy)


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
        _write(folder, name, content)
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
    _write(folder, "model.ckpt.index", index)


def _block() -> bytes:
    """What the block of the index of OpenAI's layout holds."""
    index = (seeds.openai_dir() / "model.ckpt.index").read_bytes()
    ends = [at for at in range(len(index)) if index[at : at + 8] == b"\0\0\0\0\1\0\0\0"]
    return index[: ends[0] + 8]


# Exported folders.


def write_package(folder: Path, name: str, content: bytes) -> None:
    """A file, and a manifest that names it as it is now."""
    _write(folder, name, content)
    if name != MANIFEST:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        manifest["files"][name] = fingerprint(folder / name)
        _write(folder, MANIFEST, json.dumps(manifest).encode())


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
        _write(folder, name, content)
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
    _write(folder, name, content)


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


TRIED_CACHE = seeds.ROOT / "cache"  # no job of another target starts with what was damaged here


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


CONFIGS = ("config.json", "generation_config.json")
TOKENIZERS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")

TARGETS: dict[str, Target] = {
    "openai": Target(
        seeds.openai_dir,
        {
            "block": mutate.change_bytes,
            "model.ckpt.index": mutate.change_bytes,
            "checkpoint": mutate.change_bytes,
            "hparams.json": mutate.change_json,
            "vocab.bpe": mutate.change_bytes,
            "encoder.json": mutate.change_json,
            "model.ckpt.data-00000-of-00001": mutate.change_bytes,
        },
        load,
        write_bundle,
    ),
    "huggingface": Target(
        seeds.huggingface_dir,
        {
            "model.safetensors": mutate.change_safetensors,
            **dict.fromkeys(CONFIGS, mutate.change_json),
        },
        load,
    ),
    "shards": Target(
        seeds.shards_dir,
        {
            "model.safetensors.index.json": mutate.change_json,
            "a.safetensors": mutate.change_safetensors,
        },
        load,
    ),
    "tokenizer": Target(
        seeds.huggingface_dir,
        dict.fromkeys(("tokenizer.json", *TOKENIZERS), mutate.change_json),
        load,
    ),
    "merges": Target(
        seeds.pair_dir,
        {
            "merges.txt": mutate.change_bytes,
            "vocab.json": mutate.change_json,
            **dict.fromkeys(TOKENIZERS, mutate.change_json),
        },
        load,
    ),
    "package": Target(
        seeds.package_dir,
        {
            MANIFEST: mutate.change_json,
            "onnx/model.onnx": mutate.change_onnx,
            "onnx/forward_quantized.onnx": mutate.change_onnx,
            "onnx/model.onnx_data": mutate.change_bytes,
        },
        read_package,
        write_package,
    ),
    "check": Target(
        seeds.package_dir,
        {
            "onnx/model.onnx": mutate.change_onnx,
            "onnx/next_logits.onnx": mutate.change_onnx,
            "onnx/model_quantized.onnx": mutate.change_onnx,
        },
        check_package,
        write_package,
    ),
    "completions": Target(
        seeds.completions_dir,
        {
            "out.jsonl.manifest.json": mutate.change_json,
            "footer": mutate.change_json,
            "out.jsonl": mutate.change_lines,
            "out.parquet": mutate.change_bytes,
        },
        read_completions,
        write_completions,
    ),
    "jsonl": Target(
        seeds.completions_dir,
        {"in.jsonl": mutate.change_lines, "packed.jsonl.gz": mutate.change_lines},
        run_job,
        write_input,
        {"packed.jsonl.gz": [seeds.PROMPTS]},
    ),
    "gzip": Target(
        seeds.completions_dir,
        {"in.jsonl.gz": mutate.change_bytes},
        run_job,
        seeds={"in.jsonl.gz": [gzip.compress(seeds.PROMPTS)]},
    ),
    "line": Target(seeds.completions_dir, {"in.jsonl": mutate.change_lines}, parse),
    "parquet": Target(
        seeds.completions_dir,
        {"in.parquet": mutate.change_bytes},
        run_job,
    ),
    "cache": Target(
        seeds.huggingface_dir,
        {
            "note": mutate.change_json,
            "int8.safetensors": mutate.change_safetensors,
            "graph": mutate.change_onnx,
        },
        use_cache,
        write_cache,
    ),
}


def add_seeds() -> None:
    """Seeds that are made by running something first."""
    TARGETS["openai"].seeds["block"] = [_block()]
    manifest = seeds.completions_dir() / "out.parquet.manifest.json"
    TARGETS["completions"].seeds["footer"] = [manifest.read_bytes()]
    use_cache(Path())
    files = [path for path in TRIED_CACHE.rglob("*") if path.is_file()]
    for name, kind in (("graph", cached.KIND), ("note", rounded.KIND)):
        TARGETS["cache"].seeds[name] = [
            path.read_bytes()[cache.DIGEST_BYTES :]
            for path in files
            if path.parent.name == kind and path.suffix != ".safetensors"
        ][:4]
    whole = [path.read_bytes() for path in files if path.suffix == ".safetensors"]
    TARGETS["cache"].seeds["int8.safetensors"] = whole[:1]
