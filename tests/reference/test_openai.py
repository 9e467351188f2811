"""Model directories as OpenAI published them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks.bundle import write_bundle
from reference import ModelError, gpt2, load_model

GOLDEN = Path(__file__).parents[1] / "golden" / "tensorflow"
INDEX = "model.ckpt.index"


@pytest.fixture
def copy(tmp_path):
    return shutil.copytree(GOLDEN / "gpt2", tmp_path / "copy")


def arrays():
    with np.load(GOLDEN / "gpt2" / "arrays.npz") as found:
        return dict(found)


def rewrite(folder, change):
    found = arrays()
    change(found)
    write_bundle(folder / "model.ckpt", [(n, lambda a=a: a) for n, a in found.items()])


def test_the_tree_is_picogpts():
    model, stored = load_model(GOLDEN / "gpt2"), arrays()
    assert model.hparams == json.loads((GOLDEN / "gpt2" / "hparams.json").read_text())
    block = model.params["blocks"][1]
    np.testing.assert_array_equal(
        block["attn"]["c_attn"]["w"], stored["model/h1/attn/c_attn/w"].squeeze(0)
    )
    np.testing.assert_array_equal(block["ln_2"]["g"], stored["model/h1/ln_2/g"])
    np.testing.assert_array_equal(model.params["wte"], stored["model/wte"])
    assert model.tokenizer.decode(model.tokenizer.encode(" the and 日")) == " the and 日"
    logits = gpt2(np.arange(5), **model.params, n_head=model.hparams["n_head"])
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()


def test_the_same_weights_have_the_same_hash_in_either_layout(copy, tmp_path):
    from safetensors.numpy import save_file

    found = {}
    for name, array in arrays().items():
        theirs = name.removeprefix("model/").replace("h0/", "h.0/").replace("h1/", "h.1/")
        *parts, last = theirs.split("/")
        kind = {"w": "weight", "g": "weight", "b": "bias"}.get(last)
        key = ".".join([*parts, kind] if kind else [*parts, last, "weight"])
        found[key] = array.squeeze(0) if last == "w" else array
    folder = tmp_path / "hf"
    folder.mkdir()
    save_file({n: np.ascontiguousarray(a) for n, a in found.items()}, folder / "model.safetensors")
    sizes = load_model(copy).hparams
    (folder / "config.json").write_text(
        json.dumps(
            {"vocab_size": sizes["n_vocab"], "n_positions": sizes["n_ctx"]}
            | {key: sizes[key] for key in ("n_embd", "n_head", "n_layer")}
        )
    )
    shutil.copy(copy / "encoder.json", folder / "vocab.json")
    shutil.copy(copy / "vocab.bpe", folder / "merges.txt")
    one, two = load_model(copy), load_model(folder)
    assert one.weights_sha256 == two.weights_sha256
    assert one.tokenizer.sha256 == two.tokenizer.sha256


@pytest.mark.parametrize("name", ["hparams.json", "model.ckpt.index", "vocab.bpe"])
def test_a_missing_file_is_named(copy, name):
    (copy / name).unlink()
    with pytest.raises(ModelError, match=rf"no model: {name} missing; expected OpenAI's files"):
        load_model(copy)


def test_missing_data_is_named(copy):
    (copy / "model.ckpt.data-00000-of-00001").unlink()
    with pytest.raises(ModelError, match=r"no model: model.ckpt.data-00000-of-00001 missing"):
        load_model(copy)


def test_shards_are_refused_by_what_they_are(copy):
    for file in (GOLDEN / "sharded").iterdir():
        shutil.copy(file, copy)
    (copy / "model.ckpt.data-00000-of-00001").unlink()
    with pytest.raises(ModelError, match="its data is in 2 shards"):
        load_model(copy)


def test_the_file_checkpoint_names_a_later_step(copy):
    """As fine-tuning tools leave it: the name of a step, and the path on another machine."""
    for file in copy.glob("model.ckpt.*"):
        file.rename(copy / file.name.replace("model.ckpt", "model-1000"))
    (copy / "checkpoint").write_text('model_checkpoint_path: "/home/else/run1/model-1000"\n')
    assert load_model(copy).weights_sha256 == load_model(GOLDEN / "gpt2").weights_sha256


@pytest.mark.parametrize(
    "text",
    [
        b'\xef\xbb\xbfmodel_checkpoint_path: "model-2"\n',
        b'  model_checkpoint_path :"model-2"  \nall_model_checkpoint_paths: "model.ckpt"\n',
        b"model_checkpoint_path: 'run\\model-2'",
        b'model_checkpoint_path: "model-2" all_model_checkpoint_paths: "model.ckpt"',
        b'model_checkpoint_path: "model-2"  # the best',
    ],
)
def test_the_file_checkpoint_as_others_write_it(copy, text):
    for file in copy.glob("model.ckpt.*"):
        shutil.copy(file, copy / file.name.replace("model.ckpt", "model-2"))
        file.write_bytes(b"an older step, which is damaged")
    (copy / "checkpoint").write_bytes(text)
    load_model(copy)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "checkpoint: names no model_checkpoint_path"),
        (b"model_checkpoint_path: model-2", "checkpoint: names no model_checkpoint_path"),
        (b'x: "\xff"\nmodel_checkpoint_path: "model-2"', "checkpoint: byte 4 is not UTF-8"),
        (b'model_checkpoint_path: "model-9"', "no model: model-9.index, model-9.data-00000-of-0"),
        (b'model_checkpoint_path: "**[x"', r"no model: \*\*\[x.index, \*\*\[x.data"),
    ],
)
def test_a_file_checkpoint_that_leads_nowhere_is_not_passed_over(copy, text, message):
    """Another step would be loaded in place of the one it names."""
    (copy / "checkpoint").write_bytes(text)
    with pytest.raises(ModelError, match=message):
        load_model(copy)


def test_what_an_optimizer_left_is_no_stranger(copy):
    def add(found):
        found["model/wte/Adam"] = found["model/wte"]
        found["beta1_power"] = np.float32(0.9).reshape(())
        found["global_step"] = np.array(7, np.int64)

    rewrite(copy, add)
    load_model(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("model/h1/ln_1/b"), "tensor model/h1/ln_1/b is missing; expected it with"),
        (
            lambda t: t.update({"model/wpe": t["model/wpe"][:-1]}),
            r"tensor model/wpe has shape \[23, 24\]; hparams.json asks for \[24, 24\]",
        ),
        (
            lambda t: t.update({"model/wpe": t["model/wpe"].astype(np.float64)}),
            "tensor model/wpe has type F64; expected F32, F16, BF16",
        ),
        (
            lambda t: t.update({"model/h2/ln_1/g": t["model/ln_f/g"]}),
            "tensor model/h2/ln_1/g has no place in GPT-2",
        ),
        (
            lambda t: t["model/ln_f/g"].__setitem__(3, np.nan),
            r"tensor model/ln_f/g holds nan at \[3\]",
        ),
    ],
)
def test_another_model_is_refused_by_tensor(copy, change, message):
    rewrite(copy, change)
    with pytest.raises(ModelError, match=message):
        load_model(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_layer": 3}, "tensor model/h2/ln_1/g is missing"),
        ({"n_layer": 1}, "tensor model/h1/attn/c_attn/b has no place"),
        ({"n_head": 5}, "n_embd 24 is not divisible by n_head 5"),
        ({"n_ctx": 0}, "n_ctx is '0'; expected a whole number"),
        ({"n_embd": None}, "n_embd is 'None'"),
        ({"rotary": True}, "rotary is not implemented"),
    ],
)
def test_hparams_that_do_not_fit(copy, change, message):
    found = json.loads((copy / "hparams.json").read_text())
    (copy / "hparams.json").write_text(json.dumps(found | change))
    with pytest.raises(ModelError, match=message):
        load_model(copy)


def test_dropout_of_training_is_no_other_mathematics(copy):
    found = json.loads((copy / "hparams.json").read_text())
    (copy / "hparams.json").write_text(json.dumps(found | {"attn_dropout": 0.1}))
    load_model(copy)


def test_a_foreign_index(copy):
    (copy / INDEX).write_bytes(b"PK\x03\x04 something else")
    with pytest.raises(ModelError, match=r"model.ckpt.index: its last bytes are not"):
        load_model(copy)
