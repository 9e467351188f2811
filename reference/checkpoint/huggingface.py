"""Hugging Face's layout: `config.json` and safetensors, in one file or in several."""

import json
import os
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open

from ..errors import ModelError
from ..files import read_object
from ..gpt2 import LAYER_NORM_EPS, HParams
from ..messages import quoted, shown
from .layout import Layout, place_leaves, read_sizes
from .stored import DTYPES, WEIGHT_DTYPES, MappedFiles, Stored, identity

SIZES_FILE = "config.json"
GENERATION_FILE = "generation_config.json"
ADAPTER_FILE = "adapter_config.json"
SIZES = {
    "n_vocab": "vocab_size",
    "n_ctx": "n_positions",
    "n_embd": "n_embd",
    "n_head": "n_head",
    "n_layer": "n_layer",
}
WEIGHTS_FILE = "model.safetensors"
SHARDS_FILE = "model.safetensors.index.json"
MOST_HEADER_BYTES = 1 << 24  # a tensor takes 100 bytes of it
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
PREFIX = "transformer."  # before every name but lm_head's, or before none
HEAD = "lm_head.weight"
BUFFERS = (".attn.bias", ".attn.masked_bias")  # the causal mask

# Options of config.json that change the mathematics, and the values that we compute. The first is
# what a missing option means.
IMPLEMENTED: dict[str, tuple[Any, ...]] = {
    "model_type": ("gpt2",),
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
    "layer_norm_epsilon": (LAYER_NORM_EPS,),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,),
    "is_encoder_decoder": (False,),
    "is_causal": (True,),
    "tie_word_embeddings": (True, False),
    "pruned_heads": (None, {}),
    "quantization_config": (None,),
    "auto_map": (None, {}),  # code of the model's own
    "transformers_weights": (None, WEIGHTS_FILE),  # another file than ours
}
ALIASES = {
    "n_positions": "max_position_embeddings",
    "n_embd": "hidden_size",
    "n_head": "num_attention_heads",
    "n_layer": "num_hidden_layers",
}


class Config(NamedTuple):
    """What a `config.json` says: sizes, whether `wte` is the output projection, the last token."""

    hparams: HParams
    tied: bool
    eos_id: int | None


def describe(directory: Path) -> Layout:
    """The model in a directory of Hugging Face's files.

    Raises
    ------
    ModelError
        Naming the file, the option or the tensor.
    """
    config = read_config(directory / SIZES_FILE)
    if os.path.lexists(adapter := directory / ADAPTER_FILE):
        raise ModelError(
            f"{adapter}: an adapter is not applied to the weights; expected a model without one. "
            "Merge it into the weights, or remove it."
        )
    single, shards = directory / WEIGHTS_FILE, directory / SHARDS_FILE
    where = single if single.is_file() else shards
    tensors = read_header(single) if single.is_file() else read_shards(shards)
    placed = place_leaves(config.hparams, tensors, tensor_name, where, SIZES_FILE, tied=config.tied)
    _refuse_strangers(tensors, placed, where)
    return Layout(config.hparams, placed, config.tied, config.eos_id)


def missing(directory: Path) -> list[str]:
    """The files that a model of this layout needs and the directory lacks."""
    weights = SHARDS_FILE if (directory / SHARDS_FILE).is_file() else WEIGHTS_FILE
    return [file for file in (SIZES_FILE, weights) if not (directory / file).is_file()]


def conversion(directory: Path) -> str:
    """The command that turns a model's pickles into safetensors."""
    code = (
        "import sys; from transformers import GPT2LMHeadModel as M; "
        "M.from_pretrained(sys.argv[1]).save_pretrained(sys.argv[1])"
    )
    return f'python -c "{code}" {shlex.quote(str(directory))}'


def read_config(path: Path) -> Config:
    """A `config.json`, refused where it asks for other mathematics.

    Raises
    ------
    ModelError
        Naming the key.
    """
    config = read_object(path, ModelError)
    for option, values in IMPLEMENTED.items():
        found = config.get(option, values[0])
        if found not in values:
            raise ModelError(
                f"{path}: {option} is {quoted(found)}, which is not implemented; expected "
                f"{' or '.join(map(repr, values))}. Use a model with plain GPT-2 mathematics."
            )
    for key, alias in ALIASES.items():
        if alias in config and config.setdefault(key, config[alias]) != config[alias]:
            raise ModelError(
                f"{path}: {key} is {quoted(config[key])} and {alias}, which is the same, "
                f"{quoted(config[alias])}. Keep the one that belongs to the weights."
            )
    hparams = read_sizes(path, config, SIZES)
    n_embd = hparams["n_embd"]
    if config.get("n_inner") not in (None, 4 * n_embd):
        raise ModelError(
            f"{path}: n_inner is {shown(config['n_inner'])}, which is not implemented; expected "
            f"null or 4 * n_embd = {4 * n_embd}. Use a model with plain GPT-2 mathematics."
        )
    return Config(hparams, config.get("tie_word_embeddings", True), _eos_id(path, config))


def _eos_id(path: Path, config: dict[str, Any]) -> int | None:
    """The token that ends a text; `generation_config.json` has the last word, as elsewhere."""
    generation = path.with_name(GENERATION_FILE)
    if os.path.lexists(generation):
        found = read_object(generation, ModelError).get("eos_token_id")
        if found is not None:
            path, config = generation, {"eos_token_id": found}
    eos_id = config.get("eos_token_id")
    if isinstance(eos_id, list) and len(eos_id) == 1:
        eos_id = eos_id[0]
    if eos_id is not None and type(eos_id) is not int:
        raise ModelError(
            f"{path}: eos_token_id is {quoted(eos_id)}; expected one token id, or null. "
            "Keep the one that ends a text."
        )
    return eos_id


def read_header(path: Path) -> dict[str, Stored]:
    """The tensors of a safetensors file, by name without prefix.

    Raises
    ------
    ModelError
        Where the file is not whole, or holds a name twice.
    """
    try:
        n_bytes = _header_bytes(path)
        with path.open("rb") as file, safe_open(path, framework="numpy"):
            # The library has found header and length to fit each other.
            version = identity(os.fstat(file.fileno()))
            header = json.loads(file.read(8 + n_bytes)[8:])
    except (SafetensorError, OSError, ValueError, RecursionError) as e:
        raise ModelError(
            f"{path}: not readable as safetensors ({e!s:.200}); expected the model's weights. "
            "Copy the file again from its source."
        ) from None
    tensors: dict[str, Stored] = {}
    for full_name, entry in header.items():
        name = full_name.removeprefix(PREFIX)
        if full_name == "__metadata__" or name.endswith(BUFFERS):
            continue
        if entry["dtype"] not in DTYPES:
            raise ModelError(
                f"{path}: tensor {name} has type {entry['dtype']}; expected "
                f"{', '.join(WEIGHT_DTYPES)}. Save the model again in float32."
            )
        if name in tensors:
            raise _twice(path, name)
        start = 8 + n_bytes + entry["data_offsets"][0]
        shape = tuple(entry["shape"])
        tensors[name] = Stored(name, path, start, entry["dtype"], shape, version=version)
    return tensors


def _header_bytes(path: Path) -> int:
    """How long a file says that its header is."""
    if not path.is_file():  # a pipe would be waited for
        raise ValueError("it is no file")
    with path.open("rb") as file:
        n_bytes = int.from_bytes(file.read(8), "little")
    if n_bytes > MOST_HEADER_BYTES:
        raise ValueError(f"its header has {n_bytes:,} bytes")
    return n_bytes


def read_shards(index: Path) -> dict[str, Stored]:
    """The tensors of all files that a `model.safetensors.index.json` names.

    Raises
    ------
    ModelError
        Where a file is missing, or what they hold is not what the index says.
    """
    weight_map = read_object(index, ModelError).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelError(
            f"{index}: has no weight_map; expected one of tensor names to files. "
            "Copy the file again from its source."
        )
    for name, file in weight_map.items():
        if not isinstance(file, str) or Path(file).name != file or "\\" in file:
            raise ModelError(
                f"{index}: tensor {name} lies in {shown(file)}; expected a file of the same "
                "folder. Do not use this model."
            )
    listed_in: dict[str, set[str]] = {file: set() for file in sorted(set(weight_map.values()))}
    for name, file in weight_map.items():
        if not name.endswith(BUFFERS):
            listed_in[file].add(name.removeprefix(PREFIX))
    tensors: dict[str, Stored] = {}
    for file, listed in listed_in.items():
        if not (index.parent / file).is_file():
            raise ModelError(
                f"{index.parent / file}: missing; {index.name} names it. "
                "Copy it from the model's source."
            )
        found = read_header(index.parent / file)
        if odd := sorted(listed ^ found.keys()):
            there = "is there but not listed" if odd[0] in found else "is listed but not there"
            raise ModelError(
                f"{index.parent / file}: tensor {odd[0]} {there} in {index.name}. "
                "Copy all of the model's files again from one source."
            )
        if twice := sorted(tensors.keys() & found.keys()):
            raise _twice(index.parent / file, twice[0])
        tensors |= found
    return tensors


def _twice(path: Path, name: str) -> ModelError:
    return ModelError(
        f"{path}: tensor {name} is there with and without `{PREFIX}`; expected it once. "
        "Save the model again."
    )


def tensor_name(leaf: str) -> str:
    """What Hugging Face calls a leaf of our tree: `blocks.0.ln_1.g` -> `h.0.ln_1.weight`."""
    head, _, last = leaf.rpartition(".")
    kind = {"w": "weight", "g": "weight", "b": "bias"}.get(last)
    if kind is None:  # wte, wpe, lm_head
        return f"{leaf}.weight"
    return f"{head.replace('blocks.', 'h.', 1)}.{kind}"


def _refuse_strangers(tensors: dict[str, Stored], placed: dict[str, Stored], where: Path) -> None:
    """A tensor without a place in the tree means another model; a copy of `wte` does not."""
    known = {stored.name for stored in placed.values()}
    for name in sorted(tensors.keys() - known):
        if name != HEAD:
            raise ModelError(
                f"{where}: tensor {name} has no place in GPT-2; expected the tensors that "
                f"{SIZES_FILE} asks for. Use a plain GPT-2 model."
            )
        files = MappedFiles()
        head, wte = tensors[HEAD], placed["wte"]
        if (head.dtype, head.shape) != (wte.dtype, wte.shape) or not np.array_equal(
            files.raw(head), files.raw(wte)
        ):
            raise ModelError(
                f"{head.path}: {HEAD} differs from wte.weight, but {SIZES_FILE} ties them; "
                "expected the same numbers, or none. If the model was trained with two, set "
                f'"tie_word_embeddings": false in {SIZES_FILE}.'
            )
