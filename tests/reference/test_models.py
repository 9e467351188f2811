import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from reference import ModelError, load_model
from reference.models import DEMO_DIR


@pytest.fixture
def model_dir(tmp_path):
    return shutil.copytree(DEMO_DIR, tmp_path / "model")


def test_the_demo_model_loads_in_picogpts_tree(demo):
    block = demo.params["blocks"][0]
    n_embd = demo.hparams["n_embd"]
    assert block["attn"]["c_attn"]["w"].shape == (n_embd, 3 * n_embd)
    assert block["mlp"]["c_fc"]["w"].shape == (n_embd, 4 * n_embd)
    assert demo.params["wte"].shape == (demo.hparams["n_vocab"], n_embd)
    assert demo.hparams["n_ctx"] >= 256
    assert demo.tokenizer.eos_id == len(demo.tokenizer) - 1
    assert (DEMO_DIR / "model.safetensors").stat().st_size < 8_000_000


def test_the_weights_hash_does_not_depend_on_the_file(model_dir, demo):
    path = model_dir / "model.safetensors"
    save_file({f"transformer.{n}": a for n, a in load_file(path).items()}, path)
    other = load_model(model_dir)
    assert other.weights_sha256 == demo.weights_sha256
    assert other.tokenizer.sha256 == demo.tokenizer.sha256


def edit_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def edit_weights(folder, edit):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "vocab.json", "merges.txt"])
def test_a_missing_file_is_named(model_dir, name):
    (model_dir / name).unlink()
    with pytest.raises(ModelError, match=f"no model: {name} missing"):
        load_model(model_dir)


@pytest.mark.parametrize(
    ("stray", "remedy"),
    [
        ("pytorch_model.bin", "is a pickle, which can run code"),
        ("pytorch_model.bin.index.json", "from_pretrained"),
        ("model.h5", "Check the path"),
    ],
)
def test_other_formats_get_a_remedy(model_dir, stray, remedy):
    (model_dir / "model.safetensors").rename(model_dir / stray)
    with pytest.raises(ModelError, match=remedy):
        load_model(model_dir)


def test_names_that_are_no_model(tmp_path):
    with pytest.raises(ModelError, match="no such model; expected demo, 124M, .* or a model"):
        load_model(tmp_path / "nothing")
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match="is a file; expected a model directory"):
        load_model(tmp_path / "file")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"activation_function": "relu"},
            "activation_function is 'relu', which is not implemented",
        ),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx is 'True'"),
        ({"scale_attn_weights": False}, "scale_attn_weights is 'False'"),
        ({"layer_norm_epsilon": 1e-6}, "layer_norm_epsilon is '1e-06'"),
        ({"add_cross_attention": True}, "add_cross_attention is 'True'"),
        ({"is_encoder_decoder": True}, "is_encoder_decoder is 'True'"),
        ({"tie_word_embeddings": "no"}, "tie_word_embeddings is 'no'"),
        ({"pruned_heads": {"0": [1]}}, "pruned_heads is "),
        ({"quantization_config": {"bits": 8}}, "quantization_config is "),
        ({"auto_map": {"AutoModel": "x.Y"}}, "auto_map is "),
        ({"eos_token_id": [1, 2]}, "eos_token_id is .* expected one token id"),
        ({"model_type": "llama"}, "model_type is 'llama'"),
        ({"n_inner": 100}, "n_inner is 100"),
        ({"n_head": 5}, "n_embd 128 is not divisible by n_head 5"),
        ({"n_layer": "4"}, "n_layer is '4'; expected a whole number"),
        ({"vocab_size": 100}, r"tensor wte.weight has shape \[\d+, 128\]; config.json asks for"),
        ({"n_layer": 5}, "tensor h.4.ln_1.weight is missing"),
        ({"n_layer": 10**9}, "too few for the 1000000000 layers"),
        ({"n_positions": 10**400}, "expected a whole number, 1 to 2"),
        ({"n_layer": 3}, "tensor h.3.attn.c_attn.bias has no place in GPT-2"),
    ],
)
def test_a_config_that_we_do_not_compute_is_refused_by_name(model_dir, changes, message):
    edit_config(model_dir, **changes)
    with pytest.raises(ModelError, match=message):
        load_model(model_dir)


def test_config_that_is_no_json(model_dir):
    (model_dir / "config.json").write_text("{")
    with pytest.raises(ModelError, match="config.json: not JSON"):
        load_model(model_dir)


def test_weights_of_the_wrong_shape_name_the_tensor(model_dir):
    edit_weights(model_dir, lambda t: t.update({"wpe.weight": t["wpe.weight"][:-1].copy()}))
    with pytest.raises(ModelError, match=r"wpe.weight has shape \[255, 128\]; config.json asks"):
        load_model(model_dir)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_name_the_place(model_dir, value):
    def damage(tensors):
        tensors["h.2.mlp.c_fc.weight"][3, 7] = value

    edit_weights(model_dir, damage)
    with pytest.raises(ModelError, match=rf"h.2.mlp.c_fc.weight holds {value} at \[3, 7\]"):
        load_model(model_dir)


def test_weights_of_another_type(model_dir):
    edit_weights(model_dir, lambda t: t.update({"wpe.weight": t["wpe.weight"].astype(np.int32)}))
    with pytest.raises(ModelError, match="wpe.weight has type I32; expected F32, F16, BF16"):
        load_model(model_dir)


def test_half_precision_weights_become_float32(model_dir, demo):
    edit_weights(model_dir, lambda t: t.update({n: a.astype(np.float16) for n, a in t.items()}))
    wte = load_model(model_dir).params["wte"]
    assert wte.dtype == np.float32
    np.testing.assert_array_equal(wte, demo.params["wte"].astype(np.float16).astype(np.float32))


def test_truncated_weights(model_dir):
    path = model_dir / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ModelError, match="not readable as safetensors"):
        load_model(model_dir)


def test_buffers_and_a_tied_head_are_no_strangers(model_dir):
    def add(tensors):
        tensors["h.0.attn.bias"] = np.ones((1, 1, 256, 256), dtype=np.float32)
        tensors["lm_head.weight"] = tensors["wte.weight"].copy()

    edit_weights(model_dir, add)
    load_model(model_dir)
    edit_weights(model_dir, lambda t: t.update({"lm_head.weight": t["lm_head.weight"] + 1}))
    with pytest.raises(ModelError, match=r"lm_head.weight differs from wte.weight, but"):
        load_model(model_dir)


def test_a_vocabulary_larger_than_the_model(model_dir):
    vocab = json.loads((model_dir / "vocab.json").read_text())
    vocab |= {"ab" * n: len(vocab) + n for n in range(2, 60)}
    (model_dir / "vocab.json").write_text(json.dumps(vocab))
    with pytest.raises(ModelError, match="has an id 2363; the model has 2304"):
        load_model(model_dir)
