"""Jobs with models as people have them, held to the NumPy oracle."""

import json
import shutil
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from reference import greedy, load_model
from reference.models import DEMO_DIR
from runner import ExitCode, RunSettings, run

OPENAI = Path(__file__).parents[1] / "golden" / "tensorflow" / "gpt2"
PROMPTS = ["The capital of France is", "The opposite of hot is", "3 + 4 =", "and"]


def padded(folder):
    """48 embeddings more than tokens, whose logits are higher than all others."""
    tensors = load_file(folder / "model.safetensors")
    wte, bias = tensors["wte.weight"], tensors["ln_f.bias"]
    tensors["wte.weight"] = np.concatenate([wte, np.tile(9 * np.sign(bias), (48, 1))])
    save_file(tensors, folder / "model.safetensors")
    edit_config(folder, vocab_size=len(tensors["wte.weight"]))


def gaps(folder):
    """As it happens: padded to a round number, then a token added behind that."""
    padded(folder)
    (folder / "added_tokens.json").write_text(json.dumps({"<user>": 2340}))


def untied(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight"] = np.roll(tensors["wte.weight"], 1, axis=0).copy()
    save_file(tensors, folder / "model.safetensors")
    edit_config(folder, tie_word_embeddings=False)


def half(folder):
    tensors = load_file(folder / "model.safetensors")
    save_file({n: a.astype(np.float16) for n, a in tensors.items()}, folder / "model.safetensors")


def edit_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


@pytest.mark.parametrize("kind", [padded, gaps, untied, half, "openai"])
def test_every_completion_is_the_oracles(tmp_path, kind):
    folder = shutil.copytree(OPENAI if kind == "openai" else DEMO_DIR, tmp_path / "model")
    if callable(kind):
        kind(folder)
    prompts = [p[:12] for p in PROMPTS] if kind == "openai" else PROMPTS
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"prompt": p}) + "\n" for p in prompts))
    settings = RunSettings(
        str(tmp_path / "in.jsonl"),
        str(tmp_path / "out.jsonl"),
        model=str(folder),
        max_new_tokens=6,
        ignore_eos=True,
        check_rows=None,
    )
    report = run(settings)
    assert report.exit_code == ExitCode.DONE, report.summary()
    assert report.check.top1_agreement == report.check.positions > 0
    model = load_model(folder)
    choices = model.tokenizer.choices
    assert (len(model.tokenizer) < model.hparams["n_vocab"]) == (kind in (padded, gaps, "openai"))
    for line in (tmp_path / "out.jsonl").read_text().splitlines():
        row = json.loads(line)
        ids = model.tokenizer.encode(row["prompt"])
        oracle = greedy(ids, model.params, model.hparams["n_head"], choices)
        assert row["completion_ids"] == list(islice(oracle, len(row["completion_ids"])))
        assert len(row["completion_ids"]) == 6
        assert np.isfinite(row["logprob"])


def test_what_pads_a_vocabulary_would_win_otherwise(tmp_path, demo):
    """The test above proves something: without the limit the padding is chosen."""
    folder = shutil.copytree(DEMO_DIR, tmp_path / "model")
    padded(folder)
    model = load_model(folder)
    ids = demo.tokenizer.encode(PROMPTS[0])
    assert next(greedy(ids, model.params, model.hparams["n_head"])) >= demo.hparams["n_vocab"]
