"""What a layout of model files tells of a model, and what both layouts check alike."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ModelError
from ..gpt2 import HParams, param_shapes
from ..messages import quoted
from ..tree import leaves
from .stored import WEIGHT_DTYPES, Stored

MOST = 2**31


@dataclass(frozen=True)
class Layout:
    """A model as its files describe it, before a weight is read.

    Attributes
    ----------
    hparams : HParams
        Its sizes.
    stored : dict of str to Stored
        Where each leaf of the parameter tree lies.
    tied : bool
        Whether `wte` is also the output projection.
    eos_id : int or None
        The token that ends a text, where the files say so.
    """

    hparams: HParams
    stored: dict[str, Stored]
    tied: bool = True
    eos_id: int | None = None


def read_sizes(path: Path, found: Mapping[str, Any], names: Mapping[str, str]) -> HParams:
    """Sizes under the names that a layout gives them.

    Raises
    ------
    ModelError
        Naming the size that is missing or impossible.
    """
    hparams = HParams(n_vocab=0, n_ctx=0, n_embd=0, n_head=0, n_layer=0)
    for ours, theirs in names.items():
        size = found.get(theirs)
        if type(size) is not int or not 1 <= size <= MOST:
            raise ModelError(
                f"{path}: {theirs} is {quoted(size)}; expected a whole number, 1 to 2**31. "
                "Take the file that belongs to the weights."
            )
        hparams[ours] = size  # type: ignore[literal-required]
    n_embd, n_head = hparams["n_embd"], hparams["n_head"]
    if n_embd % n_head:
        raise ModelError(
            f"{path}: {names['n_embd']} {n_embd} is not divisible by {names['n_head']} {n_head}. "
            "Take the file that belongs to the weights."
        )
    return hparams


def place_leaves(
    hparams: HParams,
    tensors: Mapping[str, Stored],
    tensor_name: Callable[[str], str],
    weights: Path,
    sizes: str,
    *,
    tied: bool = True,
) -> dict[str, Stored]:
    """The tensor of each leaf of the parameter tree.

    Parameters
    ----------
    hparams : HParams
        Sizes that the tree follows from.
    tensors : mapping of str to Stored
        All that the weights files hold.
    tensor_name : callable
        What the layout calls a leaf.
    weights : Path
        The weights, for messages.
    sizes : str
        The file that `hparams` were read from, for messages.
    tied : bool
        Whether the tree lacks `lm_head`.

    Raises
    ------
    ModelError
        Naming the tensor that is missing, or has another shape or type.
    """
    remedy = f"Take the weights and {sizes} from the same model."
    if hparams["n_layer"] > len(tensors):  # before a tree of that size is made
        raise ModelError(
            f"{weights}: {len(tensors)} tensors, too few for the {hparams['n_layer']} layers of "
            f"{sizes}. {remedy}"
        )
    placed = {}
    for leaf, shape in leaves(param_shapes(hparams, tied=tied)):
        name = tensor_name(leaf)
        found = tensors.get(name)
        if found is None:
            raise ModelError(
                f"{weights}: tensor {name} is missing; expected it with shape {list(shape)}. "
                f"{remedy}"
            )
        if found.shape != shape:
            raise ModelError(
                f"{found.path}: tensor {name} has shape {list(found.shape)}; {sizes} asks for "
                f"{list(shape)}. {remedy}"
            )
        if found.dtype not in WEIGHT_DTYPES:
            raise ModelError(
                f"{found.path}: tensor {name} has type {found.dtype}; expected "
                f"{', '.join(WEIGHT_DTYPES)}. Save the model again in float32."
            )
        placed[leaf] = found
    return placed
