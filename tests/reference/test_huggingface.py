"""Model directories as people have them: shards, prefixes, half precision, heads of their own."""

import json
import os
import shlex
import shutil
from itertools import islice
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from reference import ModelError, TokenizerError, gpt2, greedy, load_model, param_count
from reference.checkpoint import huggingface, weights
from reference.models import DEMO_DIR

OPENAI = Path(__file__).parents[1] / "golden" / "tensorflow" / "gpt2"


@pytest.fixture
def model_dir(tmp_path):
    return shutil.copytree(DEMO_DIR, tmp_path / "model")


def edit_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def tensors_of(folder):
    return load_file(folder / "model.safetensors")


def shard(folder, tensors, n_shards=3):
    """As transformers saves a model that is larger than its limit for one file."""
    weight_map = {}
    for i in range(n_shards):
        file = f"model-{i + 1:05}-of-{n_shards:05}.safetensors"
        some = dict(islice(tensors.items(), i, None, n_shards))
        save_file(some, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(some, file)
    (folder / "model.safetensors").unlink()
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def edit_index(folder, edit):
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    edit(index["weight_map"])
    path.write_text(json.dumps(index))


def test_shards_are_one_model(model_dir, demo):
    shard(model_dir, {f"transformer.{n}": a for n, a in tensors_of(model_dir).items()})
    assert load_model(model_dir).weights_sha256 == demo.weights_sha256


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda m: m.pop("wpe.weight"), "tensor wpe.weight is there but not listed"),
        (
            lambda m: m.update({"more": m["wpe.weight"]}),
            r"model-0000\d-of-00003.safetensors: tensor more is listed but not there in model.saf",
        ),
        (lambda m: m.update({"wpe.weight": "../x.safetensors"}), "expected a file of the same fol"),
        (lambda m: m.update({"wpe.weight": "/x.safetensors"}), "expected a file of the same fold"),
        (lambda m: m.update({"wpe.weight": "a\\x.safetensors"}), "expected a file of the same fo"),
        (lambda m: m.update({"wpe.weight": 3}), "expected a file of the same folder"),
        (lambda m: m.update({"wpe.weight": "gone.safetensors"}), "gone.safetensors: missing; mod"),
        (lambda m: m.clear(), "has no weight_map"),
    ],
)
def test_shards_that_do_not_fit_their_index(model_dir, edit, message):
    shard(model_dir, tensors_of(model_dir))
    edit_index(model_dir, edit)
    with pytest.raises(ModelError, match=message):
        load_model(model_dir)


def test_a_name_with_and_without_prefix_in_two_shards(model_dir):
    tensors = tensors_of(model_dir)
    tensors["transformer.wpe.weight"] = 2 * tensors["wpe.weight"]
    names = sorted(tensors, key=lambda name: name.endswith("wpe.weight"))
    shard(model_dir, {name: tensors[name] for name in names}, 2)  # the last two, one in each
    with pytest.raises(ModelError, match="tensor wpe.weight is there with and without"):
        load_model(model_dir)


def test_a_shard_that_is_cut_short_is_named(model_dir):
    shard(model_dir, tensors_of(model_dir))
    path = model_dir / "model-00002-of-00003.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ModelError, match=r"model-00002-of-00003.safetensors: not readable as safe"):
        load_model(model_dir)


def test_a_name_with_and_without_prefix(model_dir):
    tensors = tensors_of(model_dir)
    tensors["transformer.wpe.weight"] = tensors["wpe.weight"].copy()
    save_file(tensors, model_dir / "model.safetensors")
    with pytest.raises(ModelError, match="tensor wpe.weight is there with and without"):
        load_model(model_dir)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_is_widened_exactly(model_dir, demo, dtype):
    """ml_dtypes widens bfloat16 for JAX: an oracle that is not ours."""
    halves = {name: array.astype(dtype) for name, array in tensors_of(model_dir).items()}
    save_file(halves, model_dir / "model.safetensors")
    params = load_model(model_dir).params
    for ours, theirs in (
        (params["wte"], "wte.weight"),
        (params["blocks"][2]["mlp"]["c_fc"]["w"], "h.2.mlp.c_fc.weight"),
    ):
        assert ours.dtype == np.float32
        np.testing.assert_array_equal(ours, halves[theirs].astype(np.float32))


def test_types_may_be_mixed(model_dir, demo):
    tensors = tensors_of(model_dir)
    for i, name in enumerate(tensors):
        if i % 3:
            tensors[name] = tensors[name].astype([np.float16, ml_dtypes.bfloat16][i % 3 - 1])
    save_file(tensors, model_dir / "model.safetensors")
    params = load_model(model_dir).params
    np.testing.assert_array_equal(params["ln_f"]["g"], tensors["ln_f.weight"].astype(np.float32))


def test_a_type_that_numpy_has_no_name_for(model_dir):
    tensors = tensors_of(model_dir)
    tensors["wpe.weight"] = tensors["wpe.weight"].astype(ml_dtypes.float8_e4m3fn)
    save_file(tensors, model_dir / "model.safetensors")
    with pytest.raises(ModelError, match="tensor wpe.weight has type F8_E4M3; expected F32"):
        load_model(model_dir)


def test_float32_lies_where_the_file_has_it(demo):
    """Mapped, not copied, and not writable: the file is the model."""
    wte = demo.params["wte"]
    assert not wte.flags.writeable
    assert wte.base is not None
    stored = demo.checkpoint.stored["wte"]
    with stored.path.open("rb") as file:
        file.seek(stored.offset)
        assert file.read(stored.n_bytes) == wte.tobytes()


def test_tensors_at_odd_bytes_are_copied(model_dir, demo):
    """A header of any length is legal; an array must lie where a float may."""
    path = model_dir / "model.safetensors"
    raw = path.read_bytes()
    n_bytes = int.from_bytes(raw[:8], "little")
    path.write_bytes(
        (n_bytes + 1).to_bytes(8, "little") + raw[8 : 8 + n_bytes] + b" " + raw[8 + n_bytes :]
    )
    model = load_model(model_dir)
    assert model.weights_sha256 == demo.weights_sha256
    assert model.params["wte"].flags.aligned
    assert not model.checkpoint.stored["wte"].is_weight


# The output projection.


@pytest.fixture
def untied(model_dir):
    """With an output projection of its own: that of another order of tokens."""
    tensors = tensors_of(model_dir)
    tensors["lm_head.weight"] = np.roll(tensors["wte.weight"], 1, axis=0).copy()
    save_file(tensors, model_dir / "model.safetensors")
    edit_config(model_dir, tie_word_embeddings=False)
    return model_dir


def test_an_output_projection_of_its_own(untied, demo):
    model = load_model(untied)
    assert "lm_head" in model.params
    ids = np.array(demo.tokenizer.encode("The capital of France is"))
    ours = gpt2(ids, **model.params, n_head=model.hparams["n_head"])
    tied = gpt2(ids, **demo.params, n_head=demo.hparams["n_head"])
    np.testing.assert_array_equal(ours, np.roll(tied, 1, axis=-1))
    assert model.weights_sha256 != demo.weights_sha256
    more = param_count(model.hparams, tied=False) - param_count(model.hparams)
    assert more == model.params["wte"].size


def test_an_untied_model_without_its_projection(untied):
    edit_config(untied, tie_word_embeddings=False)
    tensors = tensors_of(untied)
    del tensors["lm_head.weight"]
    save_file(tensors, untied / "model.safetensors")
    with pytest.raises(ModelError, match=r"tensor lm_head.weight is missing; expected it with sha"):
        load_model(untied)


def test_a_projection_that_config_json_ties(untied):
    edit_config(untied, tie_word_embeddings=True)
    with pytest.raises(ModelError, match='set "tie_word_embeddings": false in config.json'):
        load_model(untied)


# Vocabularies.


def pad_vocabulary(folder, n_more, fill):
    tensors = tensors_of(folder)
    wte = tensors["wte.weight"]
    tensors["wte.weight"] = np.concatenate([wte, np.full((n_more, wte.shape[1]), fill, wte.dtype)])
    save_file(tensors, folder / "model.safetensors")
    edit_config(folder, vocab_size=len(tensors["wte.weight"]))


def test_a_padded_vocabulary_loads_and_never_speaks(model_dir, demo):
    """What lies beyond the tokenizer is not chosen, whatever its logits are."""
    pad_vocabulary(model_dir, 48, 0.0)
    model = load_model(model_dir)
    assert model.hparams["n_vocab"] == demo.hparams["n_vocab"] + 48
    assert model.tokenizer.max_id + 1 == demo.hparams["n_vocab"]
    ids, n_head = demo.tokenizer.encode("The capital of France is"), demo.hparams["n_head"]
    padded = greedy(ids, model.params, n_head, model.tokenizer.choices)
    assert list(islice(padded, 5)) == list(islice(greedy(ids, demo.params, n_head), 5))


def test_the_end_of_a_text_is_what_config_json_says(model_dir, demo):
    (dot,) = demo.tokenizer.encode(".")
    edit_config(model_dir, eos_token_id=dot)
    assert load_model(model_dir).tokenizer.eos_id == dot
    edit_config(model_dir, eos_token_id=50256)  # transformers' default, which is no token here
    assert load_model(model_dir).tokenizer.eos_id == demo.tokenizer.eos_id
    edit_config(model_dir, eos_token_id=None)
    assert load_model(model_dir).tokenizer.eos_id == demo.tokenizer.eos_id


@pytest.mark.parametrize("wrap", [lambda i: i, lambda i: [i]])
def test_generation_config_has_the_last_word_on_the_end(model_dir, demo, wrap):
    dot = demo.tokenizer.encode(".")[0]
    (model_dir / "generation_config.json").write_text(json.dumps({"eos_token_id": wrap(dot)}))
    assert load_model(model_dir).tokenizer.eos_id == dot
    (model_dir / "generation_config.json").write_text('{"do_sample": false}')
    assert load_model(model_dir).tokenizer.eos_id == demo.tokenizer.eos_id
    (model_dir / "generation_config.json").write_text('{"eos_token_id": [1, 2]}')
    with pytest.raises(ModelError, match=r"generation_config.json: eos_token_id is '\[1, 2\]'; e"):
        load_model(model_dir)


def test_an_adapter_is_not_ignored(model_dir):
    (model_dir / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="an adapter is not applied to the weights"):
        load_model(model_dir)


def test_two_models_in_one_folder(model_dir):
    for path in OPENAI.glob("*"):
        shutil.copy(path, model_dir)
    with pytest.raises(ModelError, match="holds two models, hparams.json with its weights and"):
        load_model(model_dir)


def test_leftovers_of_the_other_layout_do_no_harm(model_dir, demo):
    shutil.copy(OPENAI / "hparams.json", model_dir)
    (model_dir / "checkpoint").mkdir()
    assert load_model(model_dir).weights_sha256 == demo.weights_sha256


def test_a_token_for_padding_without_an_embedding_is_left_out(model_dir, demo):
    n_vocab = demo.hparams["n_vocab"]
    (model_dir / "added_tokens.json").write_text(json.dumps({"<|pad|>": n_vocab}))
    (model_dir / "special_tokens_map.json").write_text(json.dumps({"pad_token": "<|pad|>"}))
    assert load_model(model_dir).tokenizer.sha256 == demo.tokenizer.sha256
    config = {"added_tokens_decoder": {str(n_vocab): {"content": "<|pad|>", "special": False}}}
    (model_dir / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="the tokenizer has an id 2304; the model has 2304 embed"):
        load_model(model_dir)


@pytest.mark.parametrize(
    "sizes",
    [
        {"n_vocab": 300, "n_ctx": 8, "n_embd": 6, "n_head": 1, "n_layer": 1},
        {"n_vocab": 511, "n_ctx": 33, "n_embd": 40, "n_head": 5, "n_layer": 6},
        {"n_vocab": 2304, "n_ctx": 64, "n_embd": 64, "n_head": 8, "n_layer": 6},
    ],
)
def test_any_sizes(model_dir, random_params, sizes):
    from reference.checkpoint.huggingface import tensor_name
    from reference.tree import leaves

    params = random_params(sizes)
    save_file(
        {tensor_name(leaf): array for leaf, array in leaves(params)},
        model_dir / "model.safetensors",
    )
    names = {"n_vocab": "vocab_size", "n_ctx": "n_positions"}
    edit_config(model_dir, **{names.get(k, k): v for k, v in sizes.items()})
    vocab = json.loads((model_dir / "vocab.json").read_text())
    kept = {token: i for token, i in vocab.items() if i < sizes["n_vocab"]}
    (model_dir / "vocab.json").write_text(json.dumps(kept))
    merges = (model_dir / "merges.txt").read_text().splitlines()
    merges = [m for m in merges if m.startswith("#") or m.replace(" ", "") in kept]
    (model_dir / "merges.txt").write_text("\n".join(merges))
    model = load_model(model_dir)
    assert model.hparams == sizes
    for (_, ours), (_, theirs) in zip(leaves(model.params), leaves(params), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_pickles_are_refused_with_the_command_that_converts_them(model_dir):
    (model_dir / "model.safetensors").rename(model_dir / "pytorch_model.bin")
    with pytest.raises(ModelError, match="pytorch_model.bin is a pickle, which can run code") as e:
        load_model(model_dir)
    command = str(e.value).split("is installed: ")[1]
    assert shlex.split(command)[-1] == str(model_dir)
    odd = model_dir.rename(model_dir.with_name("$(touch x) `y`'\""))
    with pytest.raises(ModelError, match="is a pickle") as e:
        load_model(odd)
    assert shlex.split(str(e.value).split("is installed: ")[1])[-1] == str(odd)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 64}, "n_embd is '128' and hidden_size, which is the same, '64'"),
        ({"num_attention_heads": 2}, "n_head is '4' and num_attention_heads, which is the same"),
        ({"num_hidden_layers": 1}, "n_layer is '4' and num_hidden_layers"),
        ({"max_position_embeddings": 9}, "n_positions is '256' and max_position_embeddings"),
        ({"is_causal": False}, "is_causal is 'False', which is not implemented"),
        ({"transformers_weights": "x.safetensors"}, "transformers_weights is 'x.safetensors'"),
    ],
)
def test_options_that_transformers_obeys_under_other_names(model_dir, changes, message):
    edit_config(model_dir, **changes)
    with pytest.raises(ModelError, match=message):
        load_model(model_dir)


def test_sizes_under_their_general_names(model_dir, demo):
    config = json.loads((model_dir / "config.json").read_text())
    config["hidden_size"] = config.pop("n_embd")
    config["num_attention_heads"] = config.pop("n_head")
    config["num_hidden_layers"] = config["n_layer"]
    (model_dir / "config.json").write_text(json.dumps(config))
    assert load_model(model_dir).weights_sha256 == demo.weights_sha256


def test_a_file_that_is_exchanged_while_it_is_read(model_dir, monkeypatch):
    """Another header, other places: read by the old one, every weight would be a few bytes off."""
    original = huggingface.read_header

    def exchange_after(path):
        found = original(path)
        save_file(tensors_of(model_dir), model_dir / "new", metadata={"step": "2000"})
        (model_dir / "new").replace(path)
        return found

    monkeypatch.setattr(huggingface, "read_header", exchange_after)
    with pytest.raises(ModelError, match="was changed while it was read"):
        load_model(model_dir)


def test_a_file_that_is_written_to_while_it_is_verified(model_dir, monkeypatch):
    original = weights._verified

    def write_after(files, tensor):
        found = original(files, tensor)
        os.utime(tensor.path, ns=(0, 0))
        return found

    monkeypatch.setattr(weights, "_verified", write_after)
    with pytest.raises(ModelError, match="was changed while it was read"):
        load_model(model_dir)


@pytest.mark.parametrize("name", ["added_tokens.json", "tokenizer_config.json", "tokenizer.json"])
@pytest.mark.parametrize("what", ["dangling link", "folder"])
def test_a_file_that_is_there_but_cannot_be_read_is_not_absent(model_dir, name, what):
    if what == "folder":
        (model_dir / name).mkdir()
    else:
        (model_dir / name).symlink_to("../../blobs/gone")
    with pytest.raises(TokenizerError, match=name):
        load_model(model_dir)


def test_another_kind_of_tokenizer(model_dir):
    config = {"tokenizer_class": "RobertaTokenizer"}
    (model_dir / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(TokenizerError, match="tokenizer_class is 'RobertaTokenizer'"):
        load_model(model_dir)


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "a/" * 3000])
def test_names_that_no_system_takes(name):
    with pytest.raises(ModelError):
        load_model(name)


def test_weights_that_may_not_be_read(model_dir, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(model_dir), "is_file", refuse)
    with pytest.raises(ModelError, match="Permission denied; expected files that can be read"):
        load_model(model_dir)
