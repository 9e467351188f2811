"""The reference against transformers' GPT-2: recorded for every run, live in `make oracle`."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from reference import ModelError, generate, gpt2, load_model
from reference.checkpoint import huggingface
from reference.checkpoint.weights import read_weights
from reference.models import DEMO_DIR

HERE = Path(__file__).parent
TOLERANCE = 1e-5  # of the logits' spread: what the reference promises
NAMES = ["small", "odd", "untied"]


def load(folder, config, tensors):
    """Our loader on the very tensors that transformers saved."""
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2", **config}))
    save_file(tensors, folder / "model.safetensors")
    layout = huggingface.describe(folder)
    return layout.hparams, read_weights(layout.hparams, layout.stored, tied=layout.tied).params


def compare(recorded, name, hparams, params):
    logits = gpt2(recorded[f"{name}/ids"], **params, n_head=hparams["n_head"])
    expected = recorded[f"{name}/logits"]
    assert np.max(np.abs(logits - expected)) <= TOLERANCE * np.std(expected)
    tokens = recorded[f"{name}/tokens"].tolist()
    prompt = recorded[f"{name}/ids"][0, :8].tolist()
    assert generate(prompt, params, hparams["n_head"], 64, progress=False) == tokens
    assert len(set(tokens)) > 3, "a model that repeats itself would prove little"


def sizes(recorded, name):
    n_vocab, n_embd = recorded[f"{name}/weights/transformer.wte.weight"].shape
    n_ctx = len(recorded[f"{name}/weights/transformer.wpe.weight"])
    layers = {
        key.split(".")[2] for key in recorded if key.startswith(f"{name}/weights/transformer.h")
    }
    return {
        "vocab_size": n_vocab,
        "n_positions": n_ctx,
        "n_embd": n_embd,
        "n_layer": len(layers),
        "n_head": {"small": 4, "odd": 5, "untied": 6}[name],
        "tie_word_embeddings": name != "untied",
    }


def check(recorded, name, folder):
    prefix = f"{name}/weights/"
    tensors = {k.removeprefix(prefix): v for k, v in recorded.items() if k.startswith(prefix)}
    compare(recorded, name, *load(folder, sizes(recorded, name), tensors))


@pytest.mark.parametrize("name", NAMES)
def test_logits_and_64_greedy_tokens_as_recorded(tmp_path, name):
    with np.load(HERE / "transformers.npz") as recorded:
        check(dict(recorded), name, tmp_path)


@pytest.fixture
def recorder():
    spec = importlib.util.spec_from_file_location("recorder", HERE / "record_transformers.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.oracle
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", NAMES)
def test_logits_and_64_greedy_tokens_live(tmp_path, recorder, name):
    recorded = recorder.record(tmp_path)
    check(recorded, name, tmp_path)
    with np.load(HERE / "transformers.npz") as before:
        expected = before[f"{name}/logits"]
        np.testing.assert_allclose(recorded[f"{name}/logits"], expected, atol=1e-5 * expected.std())


@pytest.mark.oracle
@pytest.mark.filterwarnings("default")
def test_the_demo_model_in_transformers(tmp_path):
    """transformers loads the bundled folder as it is, and answers as we do."""
    import torch
    import transformers

    folder = shutil.copytree(DEMO_DIR, tmp_path / "demo")
    ours = load_model("demo")
    theirs = transformers.GPT2LMHeadModel.from_pretrained(folder).eval()
    tokenizer = transformers.GPT2TokenizerFast.from_pretrained(folder)
    for line in (HERE.parents[1] / "jobs" / "prompts.jsonl").read_text().splitlines():
        row = json.loads(line)
        ids = ours.tokenizer.encode(row["prompt"])
        assert tokenizer.encode(row["prompt"]) == ids
        with torch.no_grad():
            expected = theirs(torch.tensor([ids])).logits[0].numpy()
        found = gpt2(np.array(ids), **ours.params, n_head=ours.hparams["n_head"])
        assert np.max(np.abs(found - expected)) <= TOLERANCE * np.std(expected)


SAVED = {
    "one file": ({}, {}),
    "shards": ({}, {"max_shard_size": "60KB"}),
    "untied": ({"tie_word_embeddings": False}, {}),
    "untied shards": ({"tie_word_embeddings": False}, {"max_shard_size": "60KB"}),
    "bfloat16": ({"dtype": "bfloat16"}, {}),
    "float16 shards": ({"dtype": "float16"}, {"max_shard_size": "30KB"}),
    "as distilgpt2": ({"n_layer": 6, "n_positions": 128, "vocab_size": 2304}, {}),
    "padded vocabulary": ({"vocab_size": 2368}, {}),
}


@pytest.mark.oracle
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", SAVED)
def test_what_transformers_saves_is_loaded(tmp_path, recorder, name):
    """The whole folder, weights and tokenizer, as save_pretrained leaves it."""
    import torch
    import transformers

    config, options = SAVED[name]
    config = {
        "vocab_size": 2304,
        "n_positions": 64,
        "n_embd": 32,
        "n_head": 4,
        "n_layer": 2,
    } | config
    dtype = config.pop("dtype", "float32")
    recorder.build(config, 3).to(getattr(torch, dtype)).save_pretrained(tmp_path, **options)
    tokenizer = transformers.GPT2TokenizerFast.from_pretrained(DEMO_DIR)
    tokenizer.save_pretrained(tmp_path)
    ours = load_model(tmp_path)
    theirs = transformers.GPT2LMHeadModel.from_pretrained(tmp_path, dtype=torch.float32).eval()
    text = "The capital of France is Paris, and that of Japan is Tokyo."
    ids = tokenizer.encode(text)
    assert ours.tokenizer.encode(text) == ids
    with torch.no_grad():
        expected = theirs(torch.tensor([ids])).logits[0].numpy()
    found = gpt2(np.array(ids), **ours.params, n_head=ours.hparams["n_head"])
    worst = np.max(np.abs(found - expected)) / np.std(expected)
    print(f"{name}: {worst:.2g} of the logits' std {np.std(expected):.2f}")  # noqa: T201
    assert worst <= TOLERANCE


@pytest.mark.oracle
def test_the_command_that_converts_pickles_does(tmp_path, recorder):
    """The one that we print, run as it is."""
    import subprocess

    import torch

    folder = tmp_path / "model"
    model = recorder.build({"vocab_size": 2304, "n_embd": 32, "n_head": 4, "n_layer": 2}, 0)
    model.config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    for file in ("vocab.json", "merges.txt"):
        shutil.copy(DEMO_DIR / file, folder)
    with pytest.raises(ModelError, match="is a pickle") as caught:
        load_model(folder)
    command = str(caught.value).split("is installed: ")[1].removeprefix("python ")
    subprocess.run(f"{sys.executable} {command}", shell=True, check=True)
    params = load_model(folder).params
    np.testing.assert_array_equal(params["wte"], model.transformer.wte.weight.detach().numpy())
