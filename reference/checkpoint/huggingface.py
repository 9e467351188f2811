"""Hugging Face's layout: `config.json` and `model.safetensors` -> `(hparams, params)`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from ..errors import ModelError
from ..gpt2 import LAYER_NORM_EPS, HParams, Params, param_shapes
from ..tree import tree_map

FILES = ("config.json", "model.safetensors", "vocab.json", "merges.txt")

# Options of config.json that change the mathematics, and the values that we compute.
IMPLEMENTED: dict[str, tuple[Any, ...]] = {
    "model_type": ("gpt2",),
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
    "layer_norm_epsilon": (LAYER_NORM_EPS,),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,),
}

SIZES = {
    "n_vocab": "vocab_size",
    "n_ctx": "n_positions",
    "n_embd": "n_embd",
    "n_head": "n_head",
    "n_layer": "n_layer",
}


def load(directory: Path) -> tuple[HParams, Params]:
    """Read a model; every weight is checked for name, shape, type and finite values.

    Raises
    ------
    ModelError
        Naming the file, the option or the tensor.
    """
    hparams = read_config(directory / "config.json")
    path = directory / "model.safetensors"
    try:
        with safe_open(path, framework="numpy") as file:
            names = {_strip(name): name for name in file.keys()}  # noqa: SIM118
            if hparams["n_layer"] > len(names):  # before a tree of that size is made
                raise ModelError(
                    f"{path}: {len(names)} tensors, too few for the {hparams['n_layer']} layers of "
                    "config.json. Take the weights and config.json from the same model."
                )
            params = tree_map(
                lambda leaf, shape: _read_tensor(file, names, path, leaf, shape),
                param_shapes(hparams),
            )
            _refuse_strangers(file, names, path, params)
    except (SafetensorError, OSError) as e:
        raise ModelError(
            f"{path}: not readable as safetensors ({e}); expected the model's weights. "
            "Copy the file again from its source."
        ) from None
    return hparams, params


def read_config(path: Path) -> HParams:
    """The sizes in a `config.json`, refused where it asks for other mathematics.

    Raises
    ------
    ModelError
        Naming the key.
    """
    try:
        config = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as e:
        raise ModelError(f"{path}: not readable as JSON ({e}); expected GPT-2's config.") from None
    if not isinstance(config, dict):
        raise ModelError(f"{path}: expected one JSON object, GPT-2's config.")
    for option, values in IMPLEMENTED.items():
        found = config.get(option, values[0])
        if found not in values:
            raise ModelError(
                f"{path}: {option} is {found!r}, which is not implemented; expected "
                f"{' or '.join(map(repr, values))}. Use a model with plain GPT-2 mathematics."
            )
    hparams = HParams(n_vocab=0, n_ctx=0, n_embd=0, n_head=0, n_layer=0)
    for ours, theirs in SIZES.items():
        found = config.get(theirs)
        if type(found) is not int or not 1 <= found <= 2**31:
            raise ModelError(
                f"{path}: {theirs} is {str(found)[:40]!r}; expected a whole number, 1 to 2**31. "
                "Take the config.json that belongs to the weights."
            )
        hparams[ours] = found  # type: ignore[literal-required]
    n_embd = hparams["n_embd"]
    if n_embd % hparams["n_head"]:
        raise ModelError(
            f"{path}: n_embd {n_embd} is not divisible by n_head {hparams['n_head']}. "
            "Take the config.json that belongs to the weights."
        )
    if config.get("n_inner") not in (None, 4 * n_embd):
        raise ModelError(
            f"{path}: n_inner is {config['n_inner']!r}, which is not implemented; expected "
            f"null or 4 * n_embd = {4 * n_embd}. Use a model with plain GPT-2 mathematics."
        )
    return hparams


def tensor_name(leaf: str) -> str:
    """What Hugging Face calls a leaf of our tree: `blocks.0.ln_1.g` -> `h.0.ln_1.weight`."""
    head, _, last = leaf.rpartition(".")
    kind = {"w": "weight", "g": "weight", "b": "bias"}.get(last)
    if kind is None:  # wte, wpe
        return f"{leaf}.weight"
    return f"{head.replace('blocks.', 'h.', 1)}.{kind}"


def _strip(name: str) -> str:
    return name.removeprefix("transformer.")


def _read_tensor(file: Any, names: dict[str, str], path: Path, leaf: str, shape: Any) -> Any:
    wanted = tensor_name(leaf)
    if wanted not in names:
        raise ModelError(
            f"{path}: tensor {wanted} is missing; expected it with shape {list(shape)}. "
            "Take the weights and config.json from the same model."
        )
    found = file.get_slice(names[wanted])
    if tuple(found.get_shape()) != shape:
        raise ModelError(
            f"{path}: tensor {wanted} has shape {found.get_shape()}; config.json asks for "
            f"{list(shape)}. Take the weights and config.json from the same model."
        )
    if found.get_dtype() not in ("F32", "F16"):
        raise ModelError(
            f"{path}: tensor {wanted} has type {found.get_dtype()}; expected F32 or F16. "
            "Save the model again in float32."
        )
    array = file.get_tensor(names[wanted]).astype(np.float32, copy=False)
    if not np.isfinite(array).all():
        at = [int(i) for i in np.argwhere(~np.isfinite(array))[0]]
        raise ModelError(
            f"{path}: tensor {wanted} holds {array[tuple(at)]} at {at}; expected finite numbers. "
            "The file is damaged or the training diverged: take other weights."
        )
    return array


def _refuse_strangers(file: Any, names: dict[str, str], path: Path, params: Params) -> None:
    """A tensor without a place in the tree means another model; buffers and a tied head do not."""
    known: set[str] = set()
    tree_map(lambda leaf, _: known.add(tensor_name(leaf)), params)
    for name in sorted(names.keys() - known):
        if name.endswith((".attn.bias", ".attn.masked_bias")):
            continue
        if name == "lm_head.weight" and np.array_equal(
            file.get_tensor(names[name]).astype(np.float32), params["wte"]
        ):
            continue
        raise ModelError(
            f"{path}: tensor {names[name]} has no place in GPT-2"
            + (" with tied embeddings" if name == "lm_head.weight" else "")
            + "; expected the tensors that config.json asks for. Use a plain GPT-2 model."
        )
