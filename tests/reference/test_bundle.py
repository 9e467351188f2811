"""TensorFlow's checkpoints, written by TensorFlow itself, and what is wrong with others."""

import os
import re
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from benchmarks.bundle import entry, header, table, write_bundle
from reference import ModelError, PicobatchError, load_model
from reference.checkpoint.bundle import read_index
from reference.checkpoint.stored import DTYPES, MappedFiles
from reference.checkpoint.weights import check_sums

GOLDEN = Path(__file__).parents[1] / "golden" / "tensorflow"
INDEX, DATA = "model.ckpt.index", "model.ckpt.data-00000-of-00001"


def read(folder):
    return read_index(folder / INDEX, folder / DATA)


@pytest.mark.parametrize("name", ["gpt2", "types"])
def test_every_tensor_has_the_bytes_that_tensorflow_reads_back(name):
    tensors, files = read(GOLDEN / name), MappedFiles()
    with np.load(GOLDEN / name / "arrays.npz") as expected:
        assert tensors.keys() == set(expected.files)
        assert len(tensors) > (20 if name == "gpt2" else 300)
        for key, stored in tensors.items():
            assert stored.shape == expected[key].shape
            assert DTYPES[stored.dtype] == expected[key].dtype
            assert files.raw(stored).tobytes() == expected[key].tobytes(), key
    check_sums(tensors)


def test_all_types_were_there():
    kinds = {stored.dtype for stored in read(GOLDEN / "types").values()}
    assert kinds == set(DTYPES)


def test_float32_is_not_copied():
    files = MappedFiles()
    stored = read(GOLDEN / "gpt2")["model/wte"]
    one, two = files.float32(stored), files.float32(stored)
    assert one.ctypes.data == two.ctypes.data
    assert not one.flags.writeable


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sharded", "its data is in 2 shards; expected one"),
        ("partitioned", "tensor model/wte is partitioned into slices"),
        ("text", "tensor note has TensorFlow's type 7; expected numbers"),
    ],
)
def test_what_tensorflow_writes_and_we_refuse(name, message):
    with pytest.raises(ModelError, match=message):
        read(GOLDEN / name)


@pytest.fixture
def copy(tmp_path):
    return shutil.copytree(GOLDEN / "gpt2", tmp_path / "copy")


def test_every_flipped_byte_of_the_index_is_noticed(copy):
    """No byte of it can change and still give other tensors."""
    whole = (copy / INDEX).read_bytes()
    expected = read(copy)
    refused = 0
    for at in range(len(whole)):
        for flip in (0x01, 0x80, 0xFF):
            (copy / INDEX).write_bytes(whole[:at] + bytes([whole[at] ^ flip]) + whole[at + 1 :])
            try:
                assert read(copy) == expected, f"byte {at}"
            except ModelError:
                refused += 1
    assert refused > 2.8 * len(whole)  # the padding of the footer is all that means nothing


def test_every_truncation_of_the_index_is_noticed(copy):
    whole = (copy / INDEX).read_bytes()
    for length in range(len(whole)):
        (copy / INDEX).write_bytes(whole[:length])
        with pytest.raises(ModelError, match="its last bytes are not those of a TensorFlow index"):
            read(copy)


def test_damaged_data_names_the_tensor(copy):
    stored = read(copy)["model/h1/mlp/c_fc/w"]
    data = bytearray((copy / DATA).read_bytes())
    data[stored.offset + 100] ^= 0x10
    (copy / DATA).write_bytes(data)
    with pytest.raises(ModelError, match=r"tensor model/h1/mlp/c_fc/w, bytes [\d,]+ to [\d,]+, is"):
        load_model(copy)


def test_data_that_is_cut_short_names_the_tensor(copy):
    data = (copy / DATA).read_bytes()
    (copy / DATA).write_bytes(data[:-1])
    with pytest.raises(ModelError, match=r"ends at byte [\d,]+; tensor model/wte takes bytes"):
        load_model(copy)
    (copy / DATA).write_bytes(b"")
    with pytest.raises(ModelError, match="not readable"):
        load_model(copy)


ARRAY = np.arange(6, dtype=np.float32)
DAMAGED = {
    "compressed": (table({b"": header()}, kind=1), "is compressed .type 1.; expected a plain one"),
    "big-endian": (table({b"": header(endianness=1)}), "its data is big-endian"),
    "two shards": (table({b"": header(n_shards=3)}), "its data is in 3 shards"),
    "no header": (table({b"a": entry(ARRAY, 0)}), "no header before its first tensor"),
    "nothing": (table({}), "no header before its first tensor"),
    "order": (
        table({b"": header(), b"b": entry(ARRAY, 0), b"a": entry(ARRAY, 0)}),
        "keys out of order",
    ),
    "unknown type": (
        table({b"": header(), b"a": entry(ARRAY, 0, dtype=8)}),
        "tensor a has TensorFlow's type 8",
    ),
    "another shard": (
        table({b"": header(), b"a": entry(ARRAY, 0, more=b"\x18\x01")}),
        "tensor a is damaged: it lies in a shard that is not there",
    ),
    "size": (
        table({b"": header(), b"a": entry(ARRAY, 0, more=b"\x28\x07")}),
        r"F32 \[6\] takes 24 bytes, it says 7",
    ),
    "half a field": (
        table({b"": header(), b"a": entry(ARRAY, 0, more=b"\x12\x7f")}),
        "a field reaches past its end",
    ),
    "half a number": (
        table({b"": header(), b"a": entry(ARRAY, 0, more=b"\x28\xff")}),
        "it ends within a number",
    ),
    "huge shape": (
        table(
            {
                b"": header(),
                b"a": entry(ARRAY, 0, more=b"\x12\x0d\x12\x0b\x08" + b"\xff" * 9 + b"\x01"),
            }
        ),
        "its shape is",
    ),
    "long name": (table({b"": header(), b"a" * 2000: entry(ARRAY, 0)}), "a name has 2,00. bytes"),
    "many dimensions": (
        table({b"": header(), b"a": entry(np.zeros((1,) * 9, np.float32), 0)}),
        "its shape has more than 8 dimensions",
    ),
    "no bundle": (b"hello" * 100, "its last bytes are not those of a TensorFlow index"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_indexes_that_are_well_guarded_but_wrong(tmp_path, name):
    content, message = DAMAGED[name]
    (tmp_path / INDEX).write_bytes(content)
    with pytest.raises(ModelError, match=message) as caught:
        read(tmp_path)
    assert INDEX in str(caught.value)


def test_bytes_that_the_checksum_covers_but_the_format_does_not_know(tmp_path):
    """Any content, well guarded, is read or refused; nothing else escapes."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        junk = {b"": header(), b"x": rng.bytes(int(rng.integers(0, 30)))}
        (tmp_path / INDEX).write_bytes(table(junk))
        with pytest.raises(ModelError):
            read(tmp_path)


def test_many_tensors_in_many_blocks(tmp_path):
    arrays = {f"v{i:05}": np.full(i % 7, i, np.float32) for i in range(3000)}
    write_bundle(tmp_path / "model.ckpt", [(n, lambda a=a: a) for n, a in arrays.items()])
    tensors, files = read(tmp_path), MappedFiles()
    assert list(tensors) == sorted(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(files.float32(tensors[name]), array)


def test_what_a_small_hostile_file_could_cost(tmp_path):
    """One long name that all entries share, one block that is listed again and again."""
    names = {b"": header()} | {b"n" * 900 + b"%06d" % i: entry(ARRAY, 0) for i in range(2000)}
    content = table(names)
    assert len(content) < 200_000
    (tmp_path / INDEX).write_bytes(content)
    tracemalloc.start()
    assert len(read(tmp_path)) == 2000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2000 * 6000
    blocks = {b"": header(), b"a": entry(ARRAY, 0)}
    (tmp_path / INDEX).write_bytes(table(blocks, repeat=3))
    with pytest.raises(ModelError, match="the block at byte 0 is damaged: it is listed too late"):
        read(tmp_path)


@pytest.mark.parametrize("name", [INDEX, "hparams.json", "checkpoint", "encoder.json"])
def test_files_that_are_none_or_far_too_large(copy, name):
    (copy / name).unlink()
    with (copy / name).open("wb") as stream:
        stream.truncate(1 << 40)  # sparse: takes no room
    with pytest.raises(PicobatchError, match=rf"{name}: has 1,099,511,627,776 bytes; expected"):
        load_model(copy)
    (copy / name).unlink()
    os.mkfifo(copy / name)
    message = rf"no model: {name} missing|{name}: is no file"
    with pytest.raises(PicobatchError, match=message):
        load_model(copy)


def test_a_missing_index_is_named(tmp_path):
    with pytest.raises(ModelError, match=re.escape(f"{tmp_path / INDEX}: No such file")):
        read(tmp_path)
