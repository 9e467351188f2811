"""OpenAI's layout: `hparams.json` and a TensorFlow checkpoint."""

import os
import re
from dataclasses import replace
from glob import escape
from pathlib import Path

from ..errors import ModelError
from ..files import read_object, read_text
from ..gpt2 import HParams
from .bundle import read_index
from .layout import Layout, place_leaves, read_sizes
from .stored import Stored

SIZES_FILE = "hparams.json"
SIZES = {name: name for name in HParams.__annotations__}
PREFIX = "model.ckpt"
INDEX, DATA = f"{PREFIX}.index", f"{PREFIX}.data-00000-of-00001"
CHECKPOINT = "checkpoint"
LATEST = re.compile(
    r"""^[ \t]*model_checkpoint_path[ \t]*:[ \t]*("[^"\n]*"|'[^'\n]*')""", re.MULTILINE
)
MOST_CHECKPOINT_BYTES = 1 << 20  # each checkpoint that was saved has a line


def describe(directory: Path) -> Layout:
    """The model in a directory of OpenAI's files.

    Raises
    ------
    ModelError
        Naming the file, the size or the tensor.
    """
    hparams = read_hparams(directory / SIZES_FILE)
    return Layout(hparams, place_tensors(hparams, *weights_files(directory)))


def place_tensors(hparams: HParams, index: Path, data: Path) -> dict[str, Stored]:
    """Where each leaf of the parameter tree lies in a checkpoint.

    Raises
    ------
    ModelError
        Where the index is damaged, or its tensors are not those of a model of these sizes.
    """
    tensors = {name: _matrix(stored) for name, stored in read_index(index, data).items()}
    placed = place_leaves(hparams, tensors, tensor_name, index, SIZES_FILE)
    _refuse_strangers(tensors, {stored.name for stored in placed.values()}, index)
    return placed


def missing(directory: Path) -> list[str]:
    """The files that a model of this layout needs and the directory lacks."""
    if not (directory / SIZES_FILE).is_file():  # then a file `checkpoint` may be anybody's
        return [SIZES_FILE, *(file for file in (INDEX, DATA) if not (directory / file).is_file())]
    index, data = weights_files(directory)
    lacks = [path.name for path in [index] if not path.is_file()]
    # Data of another number of shards is there: the index says what is wrong.
    return (
        lacks
        if [*directory.glob(f"{escape(index.stem)}.data-00000-of-?????")]
        else [*lacks, data.name]
    )


def read_hparams(path: Path) -> HParams:
    """The sizes in an `hparams.json`, refused where it asks for what we do not compute.

    Raises
    ------
    ModelError
        Naming the key.
    """
    found = read_object(path, ModelError)
    for key in found.keys() - SIZES.keys():
        if not key.endswith("dropout"):  # of training
            raise ModelError(
                f"{path}: {key} is not implemented; expected {', '.join(SIZES)}. "
                "Use a model with plain GPT-2 mathematics."
            )
    return read_sizes(path, found, SIZES)


def weights_files(directory: Path) -> tuple[Path, Path]:
    """Index and data of a directory's checkpoint: the one that the file `checkpoint` names.

    Raises
    ------
    ModelError
        Where that file is there and names none.
    """
    prefix, path = PREFIX, directory / CHECKPOINT
    if os.path.lexists(path):
        latest = LATEST.search(read_text(path, ModelError, most=MOST_CHECKPOINT_BYTES))
        if latest is None:
            raise ModelError(
                f"{path}: names no model_checkpoint_path; expected the prefix of the weights' "
                f"files in quotes, such as {PREFIX}. Mend it, or remove it to take {PREFIX}."
            )
        # Fine-tuning saves steps, such as model-1000; only this folder counts.
        prefix = re.split(r"[/\\]", latest[1][1:-1])[-1]
    return directory / f"{prefix}.index", directory / f"{prefix}.data-00000-of-00001"


def tensor_name(leaf: str) -> str:
    """What OpenAI calls a leaf of our tree: `blocks.0.ln_1.g` -> `model/h0/ln_1/g`."""
    return "model/" + re.sub(r"^blocks\.(\d+)", r"h\1", leaf).replace(".", "/")


def _matrix(stored: Stored) -> Stored:
    """Matrices are stored as convolutions of width 1: [1, n_in, n_out]."""
    if stored.name.endswith("/w") and len(stored.shape) == 3 and stored.shape[0] == 1:
        return replace(stored, shape=stored.shape[1:])
    return stored


def _refuse_strangers(tensors: dict[str, Stored], known: set[str], index: Path) -> None:
    """A tensor of the model without a place in the tree means another model."""
    for name in sorted(tensors.keys() - known):
        slot_of = name.rpartition("/")[0]  # an optimizer's, as in model/wte/Adam
        if name.startswith("model/") and slot_of not in known:
            raise ModelError(
                f"{index}: tensor {name} has no place in GPT-2; expected the tensors that "
                f"{SIZES_FILE} asks for. Use a plain GPT-2 model."
            )
