import json
import re
import shutil
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import tokenizers

from exporter import ExportError, export, open_package
from exporter.package import fingerprint
from reference import gpt2, load_model
from reference.checkpoint.weights import Checkpoint
from reference.tokenizer import Tokenizer
from reference.tokenizer_files import read_tokenizer
from reference.tree import leaves
from runner.parity import parity_record


@pytest.fixture(scope="module")
def package(demo, tmp_path_factory):
    return export(demo, tmp_path_factory.mktemp("export") / "demo")


@pytest.fixture
def copy(package, tmp_path):
    return shutil.copytree(package.directory, tmp_path / "copy")


def test_the_folder_and_its_manifest(package, demo):
    files = sorted(
        str(p.relative_to(package.directory)) for p in package.directory.rglob("*") if p.is_file()
    )
    assert files == [
        "README.md",
        "config.json",
        "genai_config.json",
        "generation_config.json",
        "manifest.json",
        "merges.txt",
        "onnx/forward.onnx",
        "onnx/model.onnx",
        "onnx/model.onnx_data",
        "onnx/next_logits.onnx",
        "test_vectors/expected.json",
        *(f"test_vectors/logits_{n}.f32" for n in range(4)),
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.json",
    ]
    manifest = json.loads((package.directory / "manifest.json").read_text())
    assert manifest["model"]["weights_sha256"] == demo.weights_sha256
    assert manifest["variants"]["float32"]["graphs"]["forward"]["inputs"] == {
        "input_ids": "int64 [batch, 256]"
    }
    assert not (package.directory.parent / "demo.part").exists()


def test_all_graphs_share_one_weights_file(package):
    weights = (package.directory / "onnx" / "model.onnx_data").stat().st_size
    assert weights > 4_000_000
    for name in ("with_past", "forward", "next_logits"):
        proto = onnx.load(package.graph_path(name), load_external_data=False)
        outside = [t for t in proto.graph.initializer if t.data_location == 1]
        assert {t.external_data[0].value for t in outside} == {"model.onnx_data"}


def test_weights_come_back_as_they_went_in(package, demo):
    for (path, found), (_, array) in zip(
        leaves(package.params()), leaves(demo.params), strict=True
    ):
        np.testing.assert_array_equal(found, array, err_msg=path)


@pytest.mark.parametrize("n_ctx", [1, 12, None])
def test_the_test_vectors_prove_a_port(demo, tmp_path, n_ctx):
    """By files of the folder alone: another tokenizer, another runtime."""
    folder = export(demo, tmp_path / "out", n_ctx=n_ctx).directory
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    session = onnxruntime.InferenceSession(str(folder / "onnx" / "forward.onnx"))
    (_, n_ctx) = session.get_inputs()[0].shape
    expected = json.loads((folder / "test_vectors" / "expected.json").read_text(encoding="utf-8"))
    assert len(expected["rows"]) == 4
    for row in expected["rows"]:
        ids, new = row["input_ids"], row["completion_ids"]
        assert ids == (tokenizer.encode(row["text"]).ids or [2303])[: len(ids)]
        assert len(ids) + len(new) <= n_ctx
        assert tokenizer.decode(new, skip_special_tokens=False) == row["completion"]
        whole = np.zeros((1, n_ctx), np.int64)
        whole[0, : len(ids) + len(new)] = ids + new
        (found,) = session.run(None, {"input_ids": whole})[0]
        shape = row["logits"]["shape"]
        logits = np.fromfile(folder / "test_vectors" / row["logits"]["file"], "<f4").reshape(shape)
        np.testing.assert_allclose(found[: len(ids)], logits, rtol=0, atol=2e-3 * logits.std())
        greedy = found[len(ids) - 1 : len(ids) + len(new) - 1].argmax(axis=-1)
        assert greedy.tolist() == new


@pytest.fixture
def printed(monkeypatch, capsys):
    """What the example in Python prints."""

    def run(folder):
        text = (folder / "README.md").read_text(encoding="utf-8")
        (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
        monkeypatch.chdir(folder)
        exec(code, {})
        return capsys.readouterr().out.strip()

    return run


@pytest.mark.parametrize("n_ctx", [1, 6, None])
def test_the_readme_runs_as_it_stands(demo, tmp_path, printed, n_ctx):
    folder = export(demo, tmp_path / "out", n_ctx=n_ctx).directory
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert f"`input_ids` [batch, {n_ctx or 256}], `logits`" in text
    assert "pad the\nvocabulary" not in text
    printed = printed(folder)
    assert "Paris.".startswith(printed[:6]) if n_ctx is None else len(printed) < 10


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_the_readme_of_a_folder_without_float32(demo, tmp_path, printed, dtype):
    folder = export(demo, tmp_path / "out", dtypes=[dtype], verify=parity_record).directory
    assert printed(folder).startswith("Paris.")
    text = (folder / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"onnx/\w+\.onnx", text))
    assert named == {f"onnx/{path.name}" for path in (folder / "onnx").glob("*.onnx")}


def test_the_readme_of_a_padded_vocabulary(demo, tmp_path, printed):
    """Whose padding has the highest logits, as happens where it was never trained."""
    padding = np.tile(9 * np.sign(demo.params["ln_f"]["b"]), (48, 1)).astype(np.float32)
    params = {**demo.params, "wte": np.concatenate([demo.params["wte"], padding])}
    hparams = {**demo.hparams, "n_vocab": 2352}
    padded = replace(demo, hparams=hparams, checkpoint=Checkpoint.in_memory(hparams, params))
    folder = export(padded, tmp_path / "out").directory
    assert printed(folder).startswith("Paris.")
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "Ids from 2304 on pad the\nvocabulary" in text
    assert "max_element(logits, logits + 2304)" in text


def test_a_model_without_end_of_text(demo, tmp_path):
    vocab = {text: n for text, n in demo.tokenizer.vocab.items() if text != "<|endoftext|>"}
    plain = replace(demo, tokenizer=Tokenizer(vocab, demo.tokenizer.merges))
    assert plain.tokenizer.eos_id is None
    folder = export(plain, tmp_path / "out", n_ctx=16).directory
    assert not (folder / "genai_config.json").exists()  # it cannot be told that there is none
    assert json.loads((folder / "config.json").read_text())["eos_token_id"] is None
    assert read_tokenizer(folder).eos_id is None


def test_a_shorter_n_ctx(demo, tmp_path):
    package = export(demo, tmp_path / "short", n_ctx=32)
    ids = np.random.default_rng(0).integers(0, 1000, (2, 32))
    session = onnxruntime.InferenceSession(str(package.graph_path("forward")))
    (logits,) = session.run(None, {"input_ids": ids})
    expected = gpt2(ids, **demo.params, n_head=demo.hparams["n_head"])
    np.testing.assert_allclose(logits, expected, atol=2e-3 * expected.std())
    assert json.loads((tmp_path / "short" / "config.json").read_text())["n_positions"] == 32


def test_the_exported_tokenizer_and_config_are_read_by_the_loader(package, demo, tmp_path):
    shutil.copytree(package.directory, tmp_path / "m")
    shutil.copy(demo.directory / "model.safetensors", tmp_path / "m")
    assert load_model(tmp_path / "m").weights_sha256 == demo.weights_sha256


@pytest.mark.parametrize("n_ctx", [0, -1, 257])
def test_n_ctx_out_of_range(demo, tmp_path, n_ctx):
    with pytest.raises(ExportError, match=f"n_ctx {n_ctx}: expected 1 to 256"):
        export(demo, tmp_path / "x", n_ctx=n_ctx)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_in_use(demo, tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "mine").touch()
    with pytest.raises(ExportError, match="is there and not empty"):
        export(demo, tmp_path / "x")
    assert [p.name for p in (tmp_path / "x").iterdir()] == ["mine"]
    with pytest.raises(ExportError, match="the folder .* is not there"):
        export(demo, tmp_path / "no" / "x")


def test_an_empty_folder_will_do(demo, tmp_path):
    (tmp_path / "x").mkdir()
    open_package(export(demo, tmp_path / "x", n_ctx=8).directory)


def test_nothing_is_left_behind_where_the_proof_fails(demo, tmp_path):
    def refuse(package, model):
        assert (package.directory / "onnx" / "model.onnx").is_file()
        raise ExportError("no")

    with pytest.raises(ExportError, match="no"):
        export(demo, tmp_path / "x", n_ctx=8, verify=refuse)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["onnx/model.onnx", "onnx/model.onnx_data", "vocab.json"])
def test_a_file_that_was_edited_is_named(copy, name):
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(ExportError, match=f"{name}: is not the file that was exported"):
        open_package(copy)


def test_a_file_that_is_missing_is_named(copy):
    (copy / "onnx" / "next_logits.onnx").unlink()
    with pytest.raises(ExportError, match=r"next_logits.onnx: missing, or a link"):
        open_package(copy)


def test_a_folder_that_is_no_export(tmp_path):
    with pytest.raises(ExportError, match="no manifest.json of an export"):
        open_package(tmp_path)
    manifest = '{"format": 3, "files": {}, "variants": {}, "model": {"hparams": {}}}'
    (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(ExportError, match="names not the graphs and files"):
        open_package(tmp_path)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../b", "..\\x"])
def test_a_manifest_cannot_point_outside(copy, name):
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["files"][name] = {"bytes": 1, "sha256": ""}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ExportError, match="lies outside its folder"):
        open_package(copy)


@pytest.mark.parametrize(("location", "offset"), [("../weights", 0), ("model.onnx_data", 10**9)])
def test_external_data_cannot_point_outside(copy, package, location, offset):
    path = copy / "onnx" / "model.onnx"
    proto = onnx.load(path, load_external_data=False)
    outside = next(t for t in proto.graph.initializer if t.data_location == 1)
    del outside.external_data[:]
    outside.external_data.add(key="location", value=location)
    outside.external_data.add(key="offset", value=str(offset))
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ExportError, match="outside its folder|lies outside of the files"):
        replace(package, directory=copy).params()


# Found by trying to break it.


def test_a_folder_of_the_user_beside_the_export_is_left_alone(demo, tmp_path, monkeypatch):
    (tmp_path / "x.part").mkdir()
    (tmp_path / "x.part" / "mine").touch()
    export(demo, tmp_path / "x", n_ctx=8)
    assert (tmp_path / "x.part" / "mine").exists()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    open_package(export(demo, ".", n_ctx=8).directory)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["here", "x", "x.part"]


@pytest.mark.parametrize(
    "change",
    [
        {"files": []},
        {"files": None},
        {"files": {"a": 1}},
        {"variants": 3},
        {"variants": {}},
        {"variants": {"float32": {}}},
        {"variants": {"float32": {"graphs": {"forward": {"file": "x"}}}}},
        {"variants": {"float64": {"graphs": {}}}},
        {"variants": {"float32": {"graphs": {"forward": {"file": []}}}}},
        {"format": 99},
        {"files": {}},
    ],
)
def test_a_damaged_manifest_is_an_error_of_ours(copy, change):
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest | change))
    with pytest.raises(ExportError, match=r"manifest.json"):
        open_package(copy)


@pytest.mark.parametrize("version", [2, 4, 3.0, True, None, "3"])
def test_an_export_in_another_format_is_called_that(copy, version):
    (copy / "manifest.json").write_text(json.dumps({"format": version, "graphs": {}}))
    with pytest.raises(ExportError, match=rf"\(format '?{version}'?; this version reads 3\)"):
        open_package(copy)


@pytest.mark.parametrize("n_tokens", [None, 0, -1, 2305, 7.5, "9", True, 1 << 60])
def test_a_manifest_with_impossible_tokens(copy, n_tokens):
    damage(copy, n_tokens=n_tokens)
    with pytest.raises(ExportError, match=r"manifest.json: n_tokens is .*Export it again"):
        open_package(copy)


@pytest.mark.parametrize("eos_id", ["", -1, 2304, 7.0, [], False])
def test_a_manifest_with_an_impossible_end_of_text(copy, eos_id):
    damage(copy, eos_id=eos_id)
    with pytest.raises(ExportError, match=r"and eos_id .*; expected .* an id or null"):
        open_package(copy)


def test_a_manifest_that_lacks_end_of_text(copy):
    manifest = json.loads((copy / "manifest.json").read_text())
    del manifest["model"]["eos_id"]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ExportError, match=r"an id or null"):
        open_package(copy)


def damage(folder, **model):
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["model"].update(model)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def outside(location, offset="0"):
    """A weight that is said to lie there."""
    tensor = onnx.TensorProto(name="x", dims=[4], data_type=1, data_location=1)
    tensor.external_data.add(key="location", value=location)
    tensor.external_data.add(key="offset", value=offset)
    return tensor


def as_initializer(model, tensor):
    model.graph.initializer.append(tensor)


def as_constant(model, tensor):
    model.graph.node.append(onnx.helper.make_node("Constant", [], ["x"], value=tensor))


def as_sparse(model, tensor):
    model.graph.sparse_initializer.add(values=tensor)


def in_a_branch(model, tensor):
    branch = onnx.helper.make_graph([], "b", [], [], initializer=[tensor])
    model.graph.node.append(onnx.helper.make_node("If", ["c"], ["x"], then_branch=branch))


def in_a_function(model, tensor):
    function = model.functions.add(name="f", domain="d")
    function.node.append(onnx.helper.make_node("Constant", [], ["x"], value=tensor))


def without_saying_so(model, tensor):
    tensor.data_location = 0
    model.graph.initializer.append(tensor)


def twice(model, tensor):
    tensor.external_data.add(key="location", value="model.onnx_data")
    model.graph.initializer.append(tensor)


@pytest.mark.parametrize("graph", ["model", "forward", "next_logits"])
@pytest.mark.parametrize(
    ("location", "offset"),
    [
        ("../secret", "0"),
        ("/etc/passwd", "0"),
        ("", "0"),
        ("link", "0"),
        ("model.onnx_data", "1000000000"),
        ("model.onnx_data", "-8"),
        ("model.onnx_data", "x"),
        ("unnamed", "0"),
    ],
)
def test_no_graph_reads_what_the_manifest_does_not_name(copy, graph, location, offset):
    """Before anything runs it: no program need be careful."""
    (copy / "secret").write_bytes(bytes(64))
    (copy / "onnx" / "unnamed").write_bytes(bytes(64))
    (copy / "onnx" / "link").symlink_to(copy / "secret")
    exchange(copy, graph, lambda model: as_initializer(model, outside(location, offset)))
    with pytest.raises(ExportError, match=rf"{graph}.onnx: "):
        open_package(copy)


@pytest.mark.parametrize(
    "place",
    [as_initializer, as_constant, as_sparse, in_a_branch, in_a_function, without_saying_so, twice],
)
def test_wherever_a_graph_may_hold_a_weight(copy, place):
    exchange(copy, "forward", lambda model: place(model, outside("../vocab.json")))
    with pytest.raises(ExportError, match=r"forward.onnx: "):
        open_package(copy)


def exchange(folder, graph, change):
    """Another graph, and its hash in the manifest."""
    path = folder / "onnx" / f"{graph}.onnx"
    model = onnx.load(path, load_external_data=False)
    change(model)
    path.write_bytes(model.SerializeToString())
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][f"onnx/{graph}.onnx"] = fingerprint(path)
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("text", [b"[1]", b"null", b"[" * 100_000, b"\xff"])
def test_a_manifest_that_is_none(copy, text):
    (copy / "manifest.json").write_bytes(text)
    with pytest.raises(ExportError, match=r"no manifest.json of an export"):
        open_package(copy)


def test_a_link_that_leads_outside(copy, tmp_path):
    target = tmp_path / "elsewhere"
    (copy / "vocab.json").rename(target)
    (copy / "vocab.json").symlink_to(target)
    with pytest.raises(ExportError, match=r"vocab.json: missing, or a link that leads outside"):
        open_package(copy)


@pytest.mark.parametrize(
    ("key", "value"), [("offset", "abc"), ("offset", "-5"), ("length", "zz"), ("location", "x")]
)
def test_external_data_that_makes_no_sense(copy, package, key, value):
    path = copy / "onnx" / "model.onnx"
    proto = onnx.load(path, load_external_data=False)
    outside = next(t for t in proto.graph.initializer if t.data_location == 1)
    next(entry for entry in outside.external_data if entry.key == key).value = value
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ExportError, match=r"model.onnx: "):
        replace(package, directory=copy).params()


def test_a_graph_file_that_is_no_protobuf(copy, package):
    (copy / "onnx" / "model.onnx").write_bytes(b"hello")
    with pytest.raises(ExportError, match=r"model.onnx: not readable"):
        replace(package, directory=copy).params()


def test_weights_that_the_manifest_does_not_name(copy, package):
    variants = {"float32": package.variant("float32") | {"weights_sha256": "0" * 64}}
    other = replace(package, directory=copy, manifest=package.manifest | {"variants": variants})
    with pytest.raises(ExportError, match=r"its weights are not those that manifest.json names"):
        other.params()
