"""Small files that ask for much: time, memory, or what lies elsewhere."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.bundle import entry, header, varint
from exporter import ExportError, cached, open_package
from exporter.gpt2 import trace_next_logits
from reference import ModelError, PicobatchError, cache, load_model
from reference.checkpoint import rounded, weights
from reference.checkpoint.bundle import read_index
from reference.files import read_object
from runner import run
from runner.checker import Checker
from runner.errors import InputError
from runner.inspect import first_rows, inspect_path
from runner.sample import checked_rows
from tests.fuzz import law, parsers, seeds

MOST_BYTES = 200 << 20  # that reading any of these may take


@pytest.fixture(autouse=True)
def _bounded():
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MOST_BYTES


def refused(call, *folders, error=ModelError, match=""):
    """The law holds, and the call is refused."""
    found = law.obey(call, *folders, seeds.huggingface_dir(), cache.folder())
    assert isinstance(found, error), found
    assert match in str(found)


@pytest.fixture
def openai(tmp_path):
    return shutil.copytree(seeds.openai_dir(), tmp_path / "openai")


@pytest.fixture
def model_dir(tmp_path):
    return shutil.copytree(seeds.huggingface_dir(), tmp_path / "model")


def test_a_checkpoint_of_empty_lines(openai):
    """Once looked through anew from each of its lines."""
    (openai / "checkpoint").write_text("\n" * 900_000)
    refused(lambda: load_model(openai), openai, match="names no model_checkpoint_path")
    (openai / "checkpoint").write_text("x" * (1 << 21))
    refused(lambda: load_model(openai), openai, match="expected 1,048,576 at most")


def test_names_that_share_their_beginnings(tmp_path):
    """Ten bytes for each of them in the file, and a kilobyte in memory."""
    small = entry(np.zeros((), np.int8), 0)
    first = b"\x00\x00" + bytes([len(header())]) + header()
    first += b"\x00" + varint(903) + bytes([len(small)]) + b"a" * 903 + small
    shared = varint(900) + b"\x03" + bytes([len(small)])
    names = [shared + b"b" + n.to_bytes(2, "big") + small for n in range(1 << 14)]
    block = first + b"".join(names) + b"\0\0\0\0\1\0\0\0"
    parsers.write_bundle(tmp_path, "block", block)
    index = tmp_path / "model.ckpt.index"
    refused(lambda: read_index(index, tmp_path / "data"), tmp_path, match="more than 16,384 tens")
    with index.open("ab") as stream:
        stream.truncate(1 << 24)
    refused(lambda: read_index(index, tmp_path / "data"), tmp_path, match="8,388,608 at most")


@pytest.mark.parametrize("n_bytes", [2**60, 2**63, 2**64 - 1, 2**25, 10**8])
def test_a_header_that_claims_to_be_long(model_dir, n_bytes):
    path = model_dir / "model.safetensors"
    path.write_bytes(n_bytes.to_bytes(8, "little") + path.read_bytes()[8:])
    os.truncate(path, 10**8 + 8)
    refused(lambda: load_model(model_dir), model_dir, match=f"its header has {n_bytes:,} bytes")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
@pytest.mark.parametrize("file", ["model.ckpt.data-00000-of-00001", "model.ckpt.index"])
def test_a_pipe_is_not_waited_for(openai, file):
    (openai / file).unlink()
    os.mkfifo(openai / file)
    refused(lambda: load_model(openai), openai)


@pytest.mark.parametrize("text", ["[" * 10**6, '{"a":' * 10**6, '{"a": ' + "9" * 10**6 + "}"])
def test_json_that_is_deep_or_long(model_dir, text):
    for file in ("config.json", "tokenizer.json", "special_tokens_map.json", "added_tokens.json"):
        whole = (model_dir / file).read_bytes()
        (model_dir / file).write_text(text)
        refused(lambda: load_model(model_dir), model_dir, error=PicobatchError, match="not JSON")
        (model_dir / file).write_bytes(whole)
    (model_dir / "manifest.json").write_text(text)
    refused(lambda: open_package(model_dir), model_dir, error=ExportError)


def test_json_that_is_read_and_too_deep_to_be_shown(tmp_path):
    output = tmp_path / "out.jsonl"
    shutil.copy(seeds.completions_dir() / "out.jsonl", output)
    manifest = json.loads((seeds.completions_dir() / "out.jsonl.manifest.json").read_text())
    for depth in range(100, 1000, 20):
        text = json.dumps(manifest | {"check": 0}).replace(
            '"check": 0', f'"check": {"[" * depth}{"]" * depth}'
        )
        Path(f"{output}.manifest.json").write_text(text)
        for options in ({"as_json": True}, {}):
            law.obey(lambda o=options: inspect_path(output, **o), tmp_path)
        law.obey(lambda: list(first_rows(output, 3)), tmp_path)
    output.write_text("[" * 100_000 + "\n")
    refused(lambda: list(first_rows(output, 1)), tmp_path, error=InputError)


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    with (tmp_path / "config.json").open("wb") as stream:
        stream.truncate(1 << 40)
    refused(lambda: read_object(tmp_path / "config.json", ModelError), tmp_path)


def test_many_added_tokens(model_dir):
    """Once each was compared with all before it."""
    path = model_dir / "tokenizer.json"
    found = json.loads(path.read_text())
    first = len(found["model"]["vocab"])
    found["added_tokens"] += [
        {**found["added_tokens"][0], "content": f"<{n}>", "id": first + 1 + n, "special": True}
        for n in range(5_000)
    ]
    path.write_text(json.dumps(found))
    assert law.obey(lambda: load_model(model_dir), model_dir) is None  # those beyond n_vocab go


def test_rows_that_a_file_only_claims_to_have(demo):
    checker = Checker(demo, checked_rows(2**60, None, 0))
    assert checker.wants(usable=True)


def test_a_file_whose_type_asks_for_a_pickle(tmp_path):
    """Older versions of pyarrow ran what an extension type in a schema had pickled."""
    canary = tmp_path / "ran"
    code = b"cposix\nsystem\n(S'touch " + str(canary).encode() + b"'\ntR."
    metadata = {
        b"ARROW:extension:name": b"arrow.py_extension_type",
        b"ARROW:extension:metadata": code,
    }
    fields = [pa.field("prompt", pa.string()), pa.field("x", pa.int64(), metadata=metadata)]
    rows = pa.table([["in"], [1]], schema=pa.schema(fields))
    pq.write_table(rows, tmp_path / "in.parquet")
    for output in ("o.jsonl", "o.parquet"):
        job = seeds.settings(tmp_path / "in.parquet", tmp_path / output)
        law.obey(lambda j=job: run(j), tmp_path, seeds.huggingface_dir(), cache.folder())
        inspect_path(tmp_path / output)
    assert not canary.exists()


# The cache.


def test_a_cached_hash_cannot_name_a_file_elsewhere(model_dir, monkeypatch, tmp_path):
    monkeypatch.setenv(cache.FOLDER_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(weights, "REMEMBERED_BYTES", 0)
    monkeypatch.setattr(weights, "UNSETTLED_S", -60.0)
    expected = load_model(model_dir).weights_sha256
    (path,) = (tmp_path / "cache" / weights.KIND).iterdir()
    for content in (b"../../../elsewhere", b"\xff", b"", expected[:-1].encode(), b"A" * 64):
        path.write_bytes(hashlib.sha256(content).digest() + content)
        assert load_model(model_dir).weights_sha256 == expected


@pytest.mark.parametrize("note", [b"[]", b"1", b"{}", b'{"sha256": 1}', b"[" * 5000, b"\xff"])
def test_a_note_of_the_cache_is_not_believed(note, monkeypatch, tmp_path):
    monkeypatch.setenv(cache.FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setattr(rounded, "REMEMBERED_BYTES", 0)
    expected = seeds.model().in_int8().weights_sha256
    for path in (tmp_path / rounded.KIND).iterdir():
        if path.suffix != ".safetensors":
            path.write_bytes(hashlib.sha256(note).digest() + note)
    assert seeds.model().in_int8().weights_sha256 == expected


def test_a_cached_graph_reads_no_other_file(monkeypatch, tmp_path):
    monkeypatch.setenv(cache.FOLDER_VARIABLE, str(tmp_path))
    before = cached.traced_onnx(trace_next_logits, seeds.model(), n_ctx=4).proto
    (path,) = (tmp_path / cached.KIND).iterdir()
    model = onnx.ModelProto.FromString(before)
    tensor = next(t for t in model.graph.initializer if t.external_data)
    tensor.external_data[0].value = "../../etc/passwd"
    for content in (model.SerializeToString(), b"\xff\xff", b"\x80" * 100):
        path.write_bytes(hashlib.sha256(content).digest() + content)
        assert cached.traced_onnx(trace_next_logits, seeds.model(), n_ctx=4).proto == before


# What other programs print themselves.


def test_onnxruntime_prints_no_name_of_a_file(tmp_path):
    """It writes to the terminal past Python, names as they are."""
    folder = shutil.copytree(seeds.package_dir(), tmp_path / "\x1b[31mfolder")
    path = folder / "onnx" / "forward.onnx"
    model = onnx.load(path, load_external_data=False)
    model.graph.node[3].op_type = "Or"
    parsers.write_package(folder, "onnx/forward.onnx", model.SerializeToString())
    command = [sys.executable, "-m", "runner.cli", "check", str(folder), "--prompts", "0"]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False
    )
    assert done.returncode == 4, done.stderr
    assert law.harmless(done.stdout + done.stderr), done.stdout + done.stderr


MOST_TAKEN = """
import sys, pyarrow
from reference import PicobatchError
from runner import run
from tests.fuzz import seeds
try:
    run(seeds.settings(sys.argv[1], sys.argv[1] + ".o.parquet"))
except PicobatchError as e:
    print(e)
print("at most", pyarrow.default_memory_pool().max_memory() >> 20)
"""


def test_a_page_that_claims_to_be_long(tmp_path):
    """No checksum covers the header of a page, which says how long it is: in a few bytes here."""
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"prompt": ["the"]}), path, use_dictionary=False)
    whole = path.read_bytes()
    assert whole[4:7] == b"\x15\x00\x15", "a data page, and its length unpacked"
    assert whole[8] == 0x15, "its length in the file"
    path.write_bytes(whole[:9] + b"\xfe\xff\xff\xff\x0f" + whole[10:])
    command = [sys.executable, "-c", MOST_TAKEN, str(path)]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    )
    assert "in.parquet" in done.stdout
    assert int(done.stdout.rpartition("at most")[2]) < 100, done.stdout
