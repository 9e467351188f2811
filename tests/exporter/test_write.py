"""Exports of every layout, into a new folder or beside the model's own weights."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from safetensors.numpy import load_file, save_file

from exporter import ExportError, export, open_package
from exporter.model import least_ir_version
from exporter.package import fingerprint
from exporter.tracer import OPSETS
from exporter.variants import GRAPHS
from reference import ModelError, PicobatchError, gpt2, load_model
from reference.models import DEMO_DIR
from reference.tokenizer_files import read_tokenizer
from reference.tree import leaves
from runner import ExitCode, RunSettings, run
from runner.check import check_directory, exit_code
from runner.parity import parity_record
from runner.reach import takes
from tests import opsets

OPENAI = Path(__file__).parents[1] / "golden" / "tensorflow" / "gpt2"
GRAPH_FILES = ["forward.onnx", "model.onnx", "next_logits.onnx"]
BESIDE = ["manifest.json", *GRAPH_FILES]


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


def agrees(folder):
    return all(row.agrees for row in checked(folder))


def checked(folder):
    rows = check_directory(folder, runtimes=["onnxruntime"], n_prompts=2, n_new=2)
    assert [row.graph for row in rows] == ["with_past", "forward", "next_logits"]
    return rows


def test_a_new_folder(model_dir, tmp_path):
    model = load_model(model_dir)
    package = export(model, tmp_path / "out", n_ctx=16)
    assert_computes(package, model)
    assert agrees(tmp_path / "out")
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
    for name in GRAPH_FILES:
        assert external_files(model_dir / name) == {weights}
        assert (model_dir / name).stat().st_size < 1_000_000
    manifest = open_package(model_dir).manifest
    assert set(manifest["files"]) == {*GRAPH_FILES, weights}
    assert agrees(model_dir)
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

    def refuse(package, model):
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


# Opsets and IR versions.


@pytest.mark.parametrize("opset", opsets.IN_ONNXRUNTIME)
@pytest.mark.parametrize("target", ["portable", "onnxruntime"])
def test_every_opset_and_format_is_checked(demo, tmp_path, opset, target):
    package = export(
        demo,
        tmp_path / "out",
        n_ctx=8,
        opset=opset,
        target=target,
        dtypes=["float32", "float16", "int8"],
        verify=parity_record,
    )
    found = package.manifest["opset"], package.manifest["ir_version"]
    assert found == (opset, least_ir_version(opset))
    assert all(package.variant(dtype)["parity"]["record"]["agrees"] for dtype in package.dtypes)


@pytest.mark.parametrize(("opset", "ir_version"), [(17, None), (13, 10)])
@pytest.mark.parametrize("beside", [False, True])
def test_the_ir_version_that_was_chosen(tmp_path, opset, ir_version, beside):
    folder = shutil.copytree(DEMO_DIR, tmp_path / "model")
    out = folder if beside else tmp_path / "out"
    chosen = {"opset": opset, "ir_version": ir_version}
    package = export(load_model(folder), out, n_ctx=8, **chosen, verify=parity_record)
    expected = ir_version or least_ir_version(opset)
    assert json.loads((out / "manifest.json").read_text())["ir_version"] == expected
    for name in GRAPHS:
        proto = onnx.load(package.graph_path(name), load_external_data=False)
        assert proto.ir_version == expected
    assert agrees(out)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"ir_version": 7}, "IR version 7: expected 8, the smallest for opset 17, to"),
        ({"ir_version": 99}, "IR version 99: expected 8, the smallest for opset 17, to"),
        ({"ir_version": True}, "IR version True: expected 8"),
        ({"opset": 21, "ir_version": 9}, "IR version 9: expected 10, the smallest for opset 21"),
        ({"opset": 12}, f"opset 12: expected 13 to {OPSETS[-1]}"),
        ({"opset": 99, "ir_version": 8}, f"opset 99: expected 13 to {OPSETS[-1]}"),
    ],
)
@pytest.mark.parametrize("beside", [False, True])
def test_versions_that_there_are_not(tmp_path, chosen, message, beside):
    folder = shutil.copytree(DEMO_DIR, tmp_path / "model")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(PicobatchError, match=message):
        export(load_model(folder), folder if beside else tmp_path / "out", n_ctx=8, **chosen)
    assert sorted(tmp_path.rglob("*")) == before


def restamp(package, opset, ir_version):
    """Write later versions into an export's files: what a newer onnx would have written."""
    for name in GRAPHS:
        path = package.graph_path(name)
        proto = onnx.load(path, load_external_data=False)
        proto.opset_import[0].version, proto.ir_version = opset, ir_version
        path.write_bytes(proto.SerializeToString())


@pytest.mark.parametrize(("opset", "ir_version"), [(99, 8), (17, 99), (99, 99)])
def test_versions_that_onnxruntime_does_not_take_are_not_written(demo, tmp_path, opset, ir_version):
    def verify(package, model):
        restamp(package, opset, ir_version)
        return parity_record(package, model)

    newest = max(n for n in OPSETS if takes(n, least_ir_version(n)))
    message = (
        f"model.onnx: opset {opset}, IR version {ir_version}; onnxruntime "
        rf"{onnxruntime.__version__}, which checks it, takes opsets up to {newest} and IR versions "
        r"up to 1\d. Export for those \(--opset, --ir-version\), or install a newer onnxruntime."
    )
    with pytest.raises(ExportError, match=message):
        export(demo, tmp_path / "out", n_ctx=8, verify=verify)
    assert not list(tmp_path.iterdir())


def test_an_export_for_a_newer_onnxruntime_is_named_by_the_check(demo, tmp_path):
    package = export(demo, tmp_path / "out", n_ctx=8)
    restamp(package, 17, 99)
    files = {f: fingerprint(tmp_path / "out" / f) for f in package.manifest["files"]}
    tampered(tmp_path / "out", lambda m: m.update(files=files))
    rows = checked(tmp_path / "out")
    assert exit_code(rows) == ExitCode.DISAGREES
    for row in rows:
        assert "IR version 99; onnxruntime" in row.failed
        assert row.failed.endswith("or install a newer onnxruntime.")


# Found by trying to break it.


@pytest.mark.parametrize("model", ["m", "./m", "link", "x/../m", "absolute"])
@pytest.mark.parametrize("directory", ["m", "m/", "link", "absolute"])
def test_the_models_own_folder_by_any_name(tmp_path, monkeypatch, model, directory):
    shutil.copytree(DEMO_DIR, tmp_path / "m")
    (tmp_path / "link").symlink_to(tmp_path / "m")
    (tmp_path / "x").mkdir()
    monkeypatch.chdir(tmp_path)
    names = {"absolute": str(tmp_path / "m")}
    export(load_model(names.get(model, model)), names.get(directory, directory), n_ctx=8)
    assert set(open_package("m").manifest["files"]) == {*GRAPH_FILES, "model.safetensors"}
    assert agrees("link")


def test_another_working_directory_later(tmp_path, monkeypatch):
    shutil.copytree(DEMO_DIR, tmp_path / "m")
    monkeypatch.chdir(tmp_path)
    model = load_model("m")
    (tmp_path / "else").mkdir()
    monkeypatch.chdir(tmp_path / "else")
    assert_computes(export(model, "out", n_ctx=8), model)


@pytest.mark.parametrize("name", BESIDE)
def test_what_somebody_else_makes_meanwhile_is_kept(tmp_path, name):
    folder = shutil.copytree(DEMO_DIR, tmp_path / "model")
    model = load_model(folder)

    def interfere(package, model):
        (folder / name).unlink(missing_ok=True)
        (folder / name).write_text("mine")
        (folder / "manifest.json").touch()
        return {}

    with pytest.raises(ExportError, match="manifest.json: is there already"):
        export(model, folder, n_ctx=8, verify=interfere)
    assert (folder / "manifest.json").read_text() in ("", "mine")


def test_a_link_is_no_new_folder(demo, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("link", "dangling"):
        with pytest.raises(ExportError, match=f"{name}: is a link; expected a new or empty"):
            export(demo, tmp_path / name, n_ctx=8)


def test_names_that_are_no_utf8(tmp_path):
    """onnx and onnxruntime take none: such a model still runs, from arrays."""
    folder = tmp_path / "m\udcff"
    shutil.copytree(DEMO_DIR, folder)
    model = load_model(folder)
    with pytest.raises(ExportError, match="is no name in UTF-8"):
        export(model, tmp_path / "out\udcff", n_ctx=8)
    with pytest.raises(ExportError, match="is no name in UTF-8"):
        export(model, folder, n_ctx=8)
    assert_computes(export(model, tmp_path / "out", n_ctx=8), model)
    (tmp_path / "in.jsonl").write_text('{"prompt": "The capital of France is"}\n')
    report = run(RunSettings(str(tmp_path / "in.jsonl"), str(tmp_path / "o.jsonl"), str(folder)))
    assert report.exit_code == 0


def tampered(folder, change):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m["model"].update(hparams=[]), "no manifest.json of an export"),
        (lambda m: m["model"].update(hparams=""), "no manifest.json of an export"),
        (lambda m: m["model"].update(hparams={"n_ctx": 3}), "n_vocab is 'None'"),
        (
            lambda m: m["files"].update({"x" * 300: {"bytes": 1, "sha256": ""}}),
            "missing, or a link",
        ),
    ],
)
def test_a_manifest_that_was_tampered_with(demo, tmp_path, change, message):
    export(demo, tmp_path / "out", n_ctx=8)
    tampered(tmp_path / "out", change)
    with pytest.raises(PicobatchError, match=message):
        check_directory(tmp_path / "out")


@pytest.mark.parametrize("graph", GRAPH_FILES)
@pytest.mark.parametrize("how", ["node", "output", "operator"])
def test_a_graph_that_was_exchanged_together_with_its_hash(demo, tmp_path, graph, how):
    export(demo, tmp_path / "out", n_ctx=8)
    path = tmp_path / "out" / "onnx" / graph
    proto = onnx.load(path, load_external_data=False)
    if how == "node":
        del proto.graph.node[3]
    elif how == "operator":
        # One with other types of inputs: no program takes it there.
        proto.graph.node[3].op_type = "Or"
    else:
        for node in proto.graph.node:
            node.output[:] = ["other" if name == "logits" else name for name in node.output]
        proto.graph.output[0].name = "other"
    path.write_bytes(proto.SerializeToString())
    tampered(tmp_path / "out", lambda m: m["files"].update({f"onnx/{graph}": fingerprint(path)}))
    names = {"model.onnx": "with_past"}
    failed = [row for row in checked(tmp_path / "out") if not row.agrees]
    assert [row.graph for row in failed] == [names.get(graph, graph.removesuffix(".onnx"))]
    assert failed[0].failed
    assert exit_code(failed) == ExitCode.DISAGREES


def test_padding_does_not_widen_the_tolerance_of_an_export(tmp_path, demo):
    folder = shutil.copytree(DEMO_DIR, tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    wte, bias = tensors["wte.weight"], tensors["ln_f.bias"]
    tensors["wte.weight"] = np.concatenate([wte, np.tile(9 * np.sign(bias), (48, 1))])
    save_file(tensors, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 2352}))
    export(load_model(folder), tmp_path / "padded", n_ctx=32)
    export(demo, tmp_path / "plain", n_ctx=32)
    padded, plain = (checked(tmp_path / n)[1].logits.tolerance for n in ("padded", "plain"))
    assert padded == pytest.approx(plain, rel=0.5)  # random prompts of other ids


@pytest.mark.parametrize("most_bytes", [100_000, 2_000_000])
def test_a_disk_that_fills_up(tmp_path, most_bytes):
    """By the system's own limit on a file's length: within the weights, or where all find room."""
    code = (
        "import resource, sys; from runner.cli import cli; "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({most_bytes}, {most_bytes})); "
        "cli(sys.argv[1:])"
    )
    command = ["export", "demo", str(tmp_path / "x"), "--dtype", "int8"]
    done = subprocess.run(
        [sys.executable, "-c", code, *command], capture_output=True, text=True, check=False
    )
    if most_bytes > 1_300_000:  # all of it finds room
        assert done.returncode == 0
        return
    assert done.returncode == 1
    assert done.stderr == (
        f"Error: {tmp_path / 'x'}: File too large; nothing was left there. Mend that and export "
        "again.\n"
    )
    assert not list(tmp_path.iterdir())
