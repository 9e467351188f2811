"""Names and directories of models, and `load_model`."""

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .checkpoint import huggingface
from .errors import ModelError
from .gpt2 import HParams, Params
from .tokenizer import Tokenizer, load_tokenizer
from .tree import leaves

DEMO = "demo"
DEMO_DIR = Path(__file__).parent / "demo"

OPENAI_HPARAMS = {
    name: HParams(n_vocab=50257, n_ctx=1024, n_embd=n_embd, n_head=n_head, n_layer=n_layer)
    for name, n_embd, n_head, n_layer in [
        ("124M", 768, 12, 12),
        ("355M", 1024, 16, 24),
        ("774M", 1280, 20, 36),
        ("1558M", 1600, 25, 48),
    ]
}


@dataclass(frozen=True)
class Model:
    """A model that is loaded whole and checked.

    Attributes
    ----------
    name : str
        What it was asked for by.
    directory : Path
        Where its files lie.
    hparams : HParams
        Its sizes.
    params : tree of float32
        picoGPT's tree, whatever the files were: `wte`, `wpe`, `blocks`, `ln_f`.
    tokenizer : Tokenizer
        Its vocabulary.
    """

    name: str
    directory: Path
    hparams: HParams
    params: Params
    tokenizer: Tokenizer

    @functools.cached_property
    def weights_sha256(self) -> str:
        """Hash of sizes, names, shapes and values, whatever file they came from."""
        return weights_sha256(self.hparams, self.params)


def weights_sha256(hparams: HParams, params: Params) -> str:
    """Hash of a parameter tree and of what its shapes do not tell, the number of heads."""
    digest = hashlib.sha256(f"n_head {hparams['n_head']}\n".encode())
    for path, array in leaves(params):
        digest.update(f"{path} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def load_model(name_or_dir: str | Path) -> Model:
    """Load the bundled demo model or any local model directory.

    Parameters
    ----------
    name_or_dir : str or Path
        `demo`, or a directory with Hugging Face's files (`config.json`,
        `model.safetensors`, `vocab.json`, `merges.txt`).

    Raises
    ------
    ModelError
        Where there is no such model, files are missing, or weights have a wrong shape or
        are not finite. The message names what was found and what to do.
    TokenizerError
        Where the tokenizer's files are damaged or belong to another model.
    """
    directory = find_model(name_or_dir)
    hparams, params = huggingface.load(directory)
    tokenizer = load_tokenizer(directory / "vocab.json", directory / "merges.txt")
    if tokenizer.max_id >= hparams["n_vocab"]:
        raise ModelError(
            f"{directory}: vocab.json has an id {tokenizer.max_id}; expected ids below the "
            f"{hparams['n_vocab']} of config.json. Take both files from the same model."
        )
    return Model(str(name_or_dir), directory, hparams, params, tokenizer)


def find_model(name_or_dir: str | Path) -> Path:
    """The directory of a model, sure to hold all of its files.

    Raises
    ------
    ModelError
        Naming what is missing.
    """
    if str(name_or_dir) == DEMO:
        return DEMO_DIR
    directory = Path(name_or_dir)
    if not directory.exists():
        raise ModelError(f"{name_or_dir}: {_no_such_model(str(name_or_dir))}")
    if not directory.is_dir():
        raise ModelError(
            f"{directory}: is a file; expected a model directory. Pass the folder that holds "
            f"{', '.join(huggingface.FILES)}."
        )
    missing = [file for file in huggingface.FILES if not (directory / file).is_file()]
    if missing:
        raise ModelError(
            f"{directory}: no model: {', '.join(missing)} missing; expected Hugging Face's "
            f"files, {', '.join(huggingface.FILES)}. {_remedy(directory)}"
        )
    return directory


def _no_such_model(name: str) -> str:
    if name in OPENAI_HPARAMS:
        return (
            "no directory of that name here, and OpenAI's files are not downloaded by this "
            "version; expected a model directory. Save the model in Hugging Face's format "
            f"(the hub calls 124M `gpt2`) and pass --model DIR, or use --model {DEMO}."
        )
    return (
        f"no such model; expected `{DEMO}` or a model directory. `runner models` lists the names."
    )


def _remedy(directory: Path) -> str:
    """What to do about files that are there, in a form this version does not read."""
    if (directory / "model.safetensors.index.json").is_file():
        return "The weights are sharded: save them again as one model.safetensors."
    if (directory / "pytorch_model.bin").is_file():
        return (
            "pytorch_model.bin is a pickle, which can run code, and is not read: convert it with "
            "`GPT2LMHeadModel.from_pretrained(DIR).save_pretrained(DIR)` of transformers."
        )
    if (directory / "model.ckpt.index").is_file():
        return "These are OpenAI's TensorFlow files: convert them to Hugging Face's format."
    return "Check the path, or copy the missing files from the model's source."
