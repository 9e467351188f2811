"""Our reader against TensorFlow itself: `make oracle`. The recording is compared in every run."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from benchmarks.bundle import write_bundle
from reference.checkpoint import openai
from reference.checkpoint.bundle import read_index
from reference.checkpoint.stored import MappedFiles
from reference.checkpoint.weights import check_sums
from reference.published import PUBLISHED

HERE = Path(__file__).parent
INDEX, DATA = openai.INDEX, openai.DATA

pytestmark = [pytest.mark.tensorflow, pytest.mark.filterwarnings("default")]


@pytest.fixture
def recorder():
    spec = importlib.util.spec_from_file_location("recorder", HERE / "record_tensorflow.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compare(folder, expected):
    tensors, files = read_index(folder / INDEX, folder / DATA), MappedFiles()
    assert tensors.keys() == expected.keys()
    for name, stored in tensors.items():
        assert stored.shape == expected[name].shape
        assert files.raw(stored).tobytes() == expected[name].tobytes(), name
    check_sums(tensors)
    print(f"{len(tensors)} tensors, {sum(t.n_bytes for t in tensors.values()):,} bytes equal")  # noqa: T201


def test_the_recording_is_what_tensorflow_writes_today(recorder, tmp_path):
    recorder.record(tmp_path / "golden")
    for name in ("gpt2", "types"):
        with np.load(tmp_path / "golden" / name / "arrays.npz") as arrays:
            compare(tmp_path / "golden" / name, dict(arrays))
        for file in (INDEX, DATA):
            if name == "gpt2":
                ours = HERE / "tensorflow" / name / file
                assert (tmp_path / "golden" / name / file).read_bytes() == ours.read_bytes()


def test_a_checkpoint_of_124m_shapes(recorder, tmp_path):
    recorder.save(tmp_path / "model.ckpt", recorder.gpt2_arrays(PUBLISHED["124M"].hparams))
    assert (tmp_path / DATA).stat().st_size == PUBLISHED["124M"].files[DATA].n_bytes
    compare(tmp_path, recorder.read_back(tmp_path / "model.ckpt"))


def test_an_index_of_many_blocks(recorder, tmp_path):
    """TensorFlow closes a block at 256 KiB."""
    arrays = {
        f"variable/{i:06}/of/some/depth": np.full(i % 5, i, np.float32) for i in range(20_000)
    }
    recorder.save(tmp_path / "model.ckpt", arrays)
    assert (tmp_path / INDEX).stat().st_size > 2 * 2**18
    compare(tmp_path, recorder.read_back(tmp_path / "model.ckpt"))


def test_tensorflow_reads_what_our_tests_write(recorder, tmp_path):
    """So that the damaged files of other tests are damaged only where they mean to be."""
    arrays = recorder.gpt2_arrays(recorder.HPARAMS)
    write_bundle(tmp_path / "model.ckpt", [(n, lambda a=a: a) for n, a in arrays.items()])
    found = recorder.read_back(tmp_path / "model.ckpt")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
