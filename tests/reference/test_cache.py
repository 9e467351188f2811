"""What is remembered between starts, and that nothing wrong is."""

import json
import os
import shutil
import time

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from exporter import cached, trace_next_logits, trace_step, traced_onnx
from reference import ModelError, cache, load_model
from reference.checkpoint import rounded, weights
from reference.int8 import Int8Head
from reference.models import DEMO_DIR
from reference.tree import leaves
from runner.catalog import list_models


@pytest.fixture(autouse=True)
def fresh(monkeypatch, tmp_path):
    monkeypatch.setenv("PICOBATCH_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def remembering(monkeypatch):
    """Remember small models too, and at once."""
    monkeypatch.setattr(weights, "REMEMBERED_BYTES", 0)
    monkeypatch.setattr(rounded, "REMEMBERED_BYTES", 0)
    monkeypatch.setattr(weights, "UNSETTLED_S", -1.0)


@pytest.fixture
def model_dir(tmp_path):
    return shutil.copytree(DEMO_DIR, tmp_path / "model")


def entries(tmp_path, kind):
    return sorted((tmp_path / "cache" / kind).glob("*"))


def test_what_was_stored_is_loaded_and_damage_is_not(tmp_path):
    cache.store("k", "name", b"content")
    assert cache.load("k", "name") == b"content"
    assert cache.load("k", "other") is None
    path = tmp_path / "cache" / "k" / "name"
    path.write_bytes(path.read_bytes()[:-1])
    assert cache.load("k", "name") is None


def test_a_cache_that_cannot_be_written_is_passed_over(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("PICOBATCH_CACHE_DIR", str(tmp_path / "file" / "cache"))
    cache.store("k", "name", b"content")
    assert cache.load("k", "name") is None
    load_model("demo")


def test_a_user_without_a_home(monkeypatch):
    """As in a container that runs under a number: the demo and any directory still load."""

    def nowhere(*_, **__):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("PICOBATCH_CACHE_DIR")
    monkeypatch.delenv("PICOBATCH_MODELS_DIR")
    monkeypatch.setattr(cache.platformdirs, "user_cache_path", nowhere)
    monkeypatch.setattr(cache.platformdirs, "user_data_path", nowhere)
    traced_onnx(trace_next_logits, load_model("demo"), n_ctx=32)
    assert "demo" in list_models()
    with pytest.raises(ModelError, match="Name one with PICOBATCH_MODELS_DIR or --models-dir"):
        load_model("124M")
    monkeypatch.setenv("PICOBATCH_MODELS_DIR", "models")
    assert "124M" in list_models()


def test_the_second_start_verifies_nothing_again(model_dir, demo, remembering, monkeypatch):
    assert load_model(model_dir).weights_sha256 == demo.weights_sha256
    monkeypatch.setattr(weights, "_verified", None)  # calling it would fail
    again = load_model(model_dir)
    assert again.weights_sha256 == demo.weights_sha256
    np.testing.assert_array_equal(again.params["wte"], demo.params["wte"])


@pytest.mark.parametrize("how", ["in place", "same size and time", "replaced"])
def test_another_file_is_never_taken_for_the_one_that_was_verified(model_dir, remembering, how):
    path = model_dir / "model.safetensors"
    first = load_model(model_dir).weights_sha256
    stat = path.stat()
    content = bytearray(path.read_bytes())
    content[-4:] = np.float32(0.125).tobytes()
    if how == "replaced":
        (model_dir / "new").write_bytes(content)
        (model_dir / "new").replace(path)
    else:
        path.write_bytes(content)
    if how == "same size and time":
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert load_model(model_dir).weights_sha256 != first


def test_damage_after_the_first_start_is_found(model_dir, remembering):
    load_model(model_dir)
    tensors = load_file(model_dir / "model.safetensors")
    tensors["wpe.weight"][0, 0] = np.nan
    save_file(tensors, model_dir / "model.safetensors")
    with pytest.raises(ModelError, match="holds nan"):
        load_model(model_dir)


def test_heads_are_part_of_what_is_remembered(model_dir, remembering):
    first = load_model(model_dir).weights_sha256
    config = json.loads((model_dir / "config.json").read_text())
    (model_dir / "config.json").write_text(json.dumps(config | {"n_head": 8}))
    assert load_model(model_dir).weights_sha256 != first


def test_a_file_that_was_just_written_is_not_remembered(model_dir, tmp_path, monkeypatch):
    """Within the resolution of its time stamp it could change unseen."""
    monkeypatch.setattr(weights, "REMEMBERED_BYTES", 0)
    load_model(model_dir)
    assert not entries(tmp_path, "weights")
    later_s = time.time() + 60
    monkeypatch.setattr(time, "time", lambda: later_s)
    load_model(model_dir)
    assert len(entries(tmp_path, "weights")) == 1


def test_small_models_leave_nothing_behind(tmp_path, demo):
    load_model("demo")
    assert not entries(tmp_path, "weights")


def test_a_graph_is_traced_once(tmp_path, demo, monkeypatch):
    first = traced_onnx(trace_next_logits, demo, n_ctx=32)
    assert len(entries(tmp_path, "graphs")) == 1
    monkeypatch.setattr(cached, "to_onnx", None)  # calling it would fail
    assert traced_onnx(trace_next_logits, demo, n_ctx=32) == first
    assert first.folder == DEMO_DIR.resolve()
    with pytest.raises(TypeError):
        traced_onnx(trace_next_logits, demo, n_ctx=64)


def test_a_graph_is_keyed_by_weights_and_source(tmp_path, demo, model_dir, monkeypatch):
    traced_onnx(trace_next_logits, demo, n_ctx=32)
    tensors = load_file(model_dir / "model.safetensors")
    tensors["ln_f.bias"] += 1
    save_file(tensors, model_dir / "model.safetensors")
    traced_onnx(trace_next_logits, load_model(model_dir), n_ctx=32)
    assert len(entries(tmp_path, "graphs")) == 2
    monkeypatch.setattr(cached, "SOURCE_SHA256", "another")
    traced_onnx(trace_next_logits, demo, n_ctx=32)
    assert len(entries(tmp_path, "graphs")) == 3


def test_an_editors_lock_beside_the_source_is_no_source(tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("x = 1")
    found = cache.source_sha256(package)
    (package / ".#tokenizer.py").symlink_to("me@host.123")
    assert cache.source_sha256(package) == found
    (package / "__init__.py").write_text("x = 2")
    assert cache.source_sha256(package) != found


def test_weights_that_change_during_a_job_are_noticed(model_dir):
    """The arrays are mapped from a file that a later session opens again by its name."""
    model = load_model(model_dir)
    traced_onnx(trace_next_logits, model, n_ctx=32)
    shutil.copy(model_dir / "model.safetensors", model_dir / "copy")
    (model_dir / "copy").replace(model_dir / "model.safetensors")
    with pytest.raises(ModelError, match="files were changed after the model had been loaded"):
        traced_onnx(trace_next_logits, model, n_ctx=32)


def test_a_model_that_was_named_from_another_folder(model_dir, monkeypatch):
    monkeypatch.chdir(model_dir.parent)
    model = load_model(model_dir.name)
    monkeypatch.chdir("/")
    model.check_files()


def test_files_behind_links_are_used_where_they_lie(model_dir, tmp_path):
    """As hubs keep them: a snapshot of links into a folder of blobs."""
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    for i, path in enumerate(sorted(model_dir.iterdir())):
        path.rename(model_dir / f"blob{i}")
        (snapshot / path.name).symlink_to(model_dir / f"blob{i}")
    found = traced_onnx(trace_next_logits, load_model(snapshot), n_ctx=32)
    assert found.folder == model_dir.resolve()
    assert found.weights.keys() == {"wte", "wpe"}  # the others are read from there


# Weights in 8 bits.


def assert_same_tree(found, expected):
    for (path, one), (path_2, other) in zip(leaves(found), leaves(expected), strict=True):
        assert path == path_2
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("unsigned", [False, True])
def test_weights_are_rounded_once(model_dir, demo, remembering, tmp_path, monkeypatch, unsigned):
    expected = demo.in_int8(unsigned=unsigned)
    first = load_model(model_dir).in_int8(unsigned=unsigned)
    monkeypatch.setattr(rounded, "quantize", None)  # calling it would fail
    again = load_model(model_dir).in_int8(unsigned=unsigned)
    for found in (first, again):
        assert_same_tree(found.params, expected.params)
        assert isinstance(found.params["lm_head"], Int8Head)
        np.testing.assert_array_equal(found.kv_scales, expected.kv_scales)
        assert found.weights_sha256 == expected.weights_sha256
        assert found.checkpoint.stored.keys() == dict(leaves(expected.params)).keys()
    assert traced_onnx(trace_step, again).folder == tmp_path / "cache" / "int8"
    with pytest.raises(TypeError):
        load_model(model_dir).in_int8(unsigned=not unsigned)


@pytest.mark.parametrize("how", ["in place", "cut short", "removed", "without a note"])
def test_a_damaged_file_is_not_used(model_dir, demo, remembering, tmp_path, how):
    load_model(model_dir).in_int8()
    note, file = entries(tmp_path, "int8")
    content = bytearray(file.read_bytes())
    if how == "in place":
        content[-1] ^= 1
        file.write_bytes(content)
    elif how == "cut short":
        file.write_bytes(content[:-1])
    else:
        (note if how == "without a note" else file).unlink()
    found = load_model(model_dir).in_int8()
    assert_same_tree(found.params, demo.in_int8().params)
    assert found.checkpoint.stored
    assert len(entries(tmp_path, "int8")) == 2


def test_what_other_code_rounded_is_replaced(model_dir, remembering, tmp_path, monkeypatch):
    load_model(model_dir).in_int8()
    load_model(model_dir).in_int8(unsigned=True)
    before = set(entries(tmp_path, "int8"))
    monkeypatch.setattr(rounded, "MADE_BY", "another")
    load_model(model_dir).in_int8()
    found = set(entries(tmp_path, "int8"))
    assert len(found - before) == len(before - found) == 2
    assert all(".int8.another" in path.name for path in found - before)


def test_two_that_start_at_once_do_not_disturb_each_other(model_dir, remembering, monkeypatch):
    first = load_model(model_dir).in_int8()
    with monkeypatch.context() as patch:
        patch.setattr(rounded, "_read", lambda *_: None)  # was not there yet
        load_model(model_dir).in_int8()
    first.check_files()
    traced_onnx(trace_step, first)


def test_weights_in_8_bits_without_a_place_to_keep_them(model_dir, demo, remembering, monkeypatch):
    (model_dir / "file").touch()
    monkeypatch.setenv("PICOBATCH_CACHE_DIR", str(model_dir / "file" / "cache"))
    found = load_model(model_dir).in_int8()
    assert not found.checkpoint.stored
    assert_same_tree(found.params, demo.in_int8().params)
