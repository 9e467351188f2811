"""Exports of every layout, into a new folder or beside the model's own weights."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from safetensors.numpy import load_file, save_file

from exporter import ExportError, export, open_package
from reference import ModelError, gpt2, load_model
from reference.models import DEMO_DIR
from reference.tokenizer_files import read_tokenizer
from reference.tree import leaves
from runner.check import check_directory

OPENAI = Path(__file__).parents[1] / "golden" / "tensorflow" / "gpt2"
BESIDE = ["manifest.json", "model.onnx", "next_logits.onnx"]


def untie(folder):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors["lm_head.weight"] = np.roll(tensors["wte.weight"], 1, axis=0).copy()
    save_file(tensors, path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))


def halve(folder):
    path = folder / "model.safetensors"
    save_file({n: a.astype(np.float16) for n, a in load_file(path).items()}, path)


@pytest.fixture(params=["openai", "huggingface", "untied"])
def model_dir(request, tmp_path):
    source = OPENAI if request.param == "openai" else DEMO_DIR
    folder = shutil.copytree(source, tmp_path / "model")
    if request.param == "untied":
        untie(folder)
    return folder


def snapshot(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name not in BESIDE}


def external_files(path):
    proto = onnx.load(path, load_external_data=False)
    return {
        entry.value
        for tensor in proto.graph.initializer
        if tensor.data_location == onnx.TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }


def assert_computes(package, model):
    ids = np.random.default_rng(0).integers(0, 290, (2, package.hparams["n_ctx"]))
    session = onnxruntime.InferenceSession(str(package.graph_path("forward")))
    (logits,) = session.run(None, {"input_ids": ids})
    expected = gpt2(ids, **model.params, n_head=model.hparams["n_head"])
    np.testing.assert_allclose(logits, expected, atol=2e-3 * expected.std())


def test_a_new_folder(model_dir, tmp_path):
    model = load_model(model_dir)
    package = export(model, tmp_path / "out", n_ctx=16)
    assert_computes(package, model)
    assert all(report.agrees for report in check_directory(tmp_path / "out").values())
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["tie_word_embeddings"] == ("lm_head" not in model.params)
    for (leaf, found), (_, array) in zip(
        leaves(package.params()), leaves(model.params), strict=True
    ):
        np.testing.assert_array_equal(found, array[:16] if leaf == "wpe" else array, err_msg=leaf)


@pytest.mark.parametrize("n_ctx", [None, 16])
def test_beside_the_weights_nothing_is_copied(model_dir, n_ctx):
    model, before = load_model(model_dir), snapshot(model_dir)
    package = export(model, model_dir, n_ctx=n_ctx)
    assert snapshot(model_dir) == before
    assert_computes(package, model)
    (weights,) = {path.name for path in model.checkpoint.files}
    for name in ("model.onnx", "next_logits.onnx"):
        assert external_files(model_dir / name) == {weights}
        assert (model_dir / name).stat().st_size < 1_000_000
    manifest = open_package(model_dir).manifest
    assert set(manifest["files"]) == {"model.onnx", "next_logits.onnx", weights}
    assert all(report.agrees for report in check_directory(model_dir).values())
    assert load_model(model_dir).weights_sha256 == model.weights_sha256


def test_beside_shards(tmp_path, demo):
    folder = shutil.copytree(DEMO_DIR, tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    weight_map = {}
    for i, name in enumerate(tensors):
        weight_map[name] = f"part{i % 2}.safetensors"
    for file in set(weight_map.values()):
        save_file({n: tensors[n] for n, f in weight_map.items() if f == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    package = export(load_model(folder), folder, n_ctx=16)
    assert external_files(folder / "model.onnx") == {"part0.safetensors", "part1.safetensors"}
    assert_computes(package, demo)


@pytest.mark.parametrize("name", BESIDE)
def test_what_is_there_already_is_kept(tmp_path, name):
    folder = shutil.copytree(DEMO_DIR, tmp_path / "model")
    (folder / name).write_text("mine")
    with pytest.raises(ExportError, match=f"{name}: is there already; an export into the model's"):
        export(load_model(folder), folder, n_ctx=8)
    assert (folder / name).read_text() == "mine"
    assert sorted(p.name for p in folder.iterdir() if p.name in BESIDE) == [name]


def test_a_proof_that_fails_leaves_the_model_as_it_was(tmp_path):
    folder = shutil.copytree(DEMO_DIR, tmp_path / "model")
    before = snapshot(folder)

    def refuse(package):
        assert (folder / "model.onnx").is_file()
        raise ExportError("no")

    with pytest.raises(ExportError, match="no"):
        export(load_model(folder), folder, n_ctx=8, verify=refuse)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_half_precision_cannot_be_used_where_it_lies(tmp_path):
    folder = shutil.copytree(DEMO_DIR, tmp_path / "model")
    halve(folder)
    model = load_model(folder)
    with pytest.raises(ExportError, match=r"weight wte is F16 at byte [\d,]+; a graph beside it"):
        export(model, folder, n_ctx=8)
    assert_computes(export(model, tmp_path / "out", n_ctx=8), model)


def test_weights_behind_a_link_cannot_either(tmp_path):
    """onnx and onnxruntime refuse external data that a link leads to."""
    folder = shutil.copytree(DEMO_DIR, tmp_path / "model")
    (folder / "model.safetensors").rename(tmp_path / "blob")
    (folder / "model.safetensors").symlink_to(tmp_path / "blob")
    with pytest.raises(ExportError, match="behind a link; a graph beside it needs"):
        export(load_model(folder), folder, n_ctx=8)


def test_weights_that_changed_since_are_not_exported(tmp_path):
    folder = shutil.copytree(DEMO_DIR, tmp_path / "model")
    model = load_model(folder)
    tensors = load_file(folder / "model.safetensors")
    tensors["ln_f.bias"] += 1
    save_file(tensors, folder / "new.safetensors")
    (folder / "new.safetensors").replace(folder / "model.safetensors")
    with pytest.raises(ModelError, match="were changed after the model had been loaded"):
        export(model, tmp_path / "out", n_ctx=8)
    assert not (tmp_path / "out").exists()


def test_the_tokenizer_of_any_layout_goes_along(model_dir, tmp_path):
    model = load_model(model_dir)
    export(model, tmp_path / "out", n_ctx=8)
    assert read_tokenizer(tmp_path / "out").sha256 == model.tokenizer.sha256
