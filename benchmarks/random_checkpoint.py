"""Makes a model directory of a published size with random weights, tensor by tensor.

    python -m benchmarks.random_checkpoint 1558M DIR --layout openai --vocabulary FOLDER

`FOLDER` holds GPT-2's `encoder.json` and `vocab.bpe`. The weights have the spread of GPT-2's
initialisation, with LayerNorm gains and biases that differ from 1 and 0.
"""

import argparse
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bundle import write_bundle
from reference import HParams, param_shapes
from reference.checkpoint import huggingface, openai
from reference.published import PUBLISHED
from reference.tree import leaves

SPREADS = {
    "g": (1.0, 0.1),
    "b": (0.0, 0.05),
    "w": (0.0, 0.08),
    "wte": (0.0, 0.1),
    "wpe": (0.0, 0.05),
}


def random_leaf(leaf: str, shape: tuple[int, ...], seed: int) -> Callable[[], Any]:
    """Makes one leaf; the same numbers in every layout."""
    center, spread = SPREADS[leaf.rpartition(".")[2]]

    def make() -> Any:
        rng = np.random.default_rng([seed, *leaf.encode()])
        array = rng.standard_normal(shape, dtype=np.float32)
        array *= np.float32(spread)
        array += np.float32(center)
        return array

    return make


def write_openai(directory: Path, hparams: HParams, seed: int) -> None:
    tensors = []
    for leaf, shape in leaves(param_shapes(hparams)):
        stored = (1, *shape) if leaf.endswith(".w") else shape
        make = random_leaf(leaf, shape, seed)
        tensors.append((openai.tensor_name(leaf), lambda m=make, s=stored: m().reshape(s)))
    write_bundle(directory / "model.ckpt", tensors)
    (directory / "hparams.json").write_text(json.dumps(hparams))
    (directory / "checkpoint").write_text(
        'model_checkpoint_path: "model.ckpt"\nall_model_checkpoint_paths: "model.ckpt"\n'
    )
    (directory / "model.ckpt.meta").write_bytes(b"")


def write_huggingface(directory: Path, hparams: HParams, seed: int) -> None:
    header, offset, arrays = {}, 0, []
    for leaf, shape in leaves(param_shapes(hparams)):
        end = offset + 4 * int(np.prod(shape))
        name = huggingface.tensor_name(leaf)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [offset, end]}
        arrays.append(random_leaf(leaf, shape, seed))
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with (directory / "model.safetensors").open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        for make in arrays:
            stream.write(make().data)
    found = dict(hparams.items())
    sizes = {theirs: found[ours] for ours, theirs in huggingface.SIZES.items()}
    (directory / "config.json").write_text(json.dumps({"model_type": "gpt2", **sizes}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("size", choices=PUBLISHED)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--layout", choices=["openai", "huggingface"], default="openai")
    parser.add_argument("--vocabulary", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.directory.mkdir(parents=True)
    write = write_openai if args.layout == "openai" else write_huggingface
    write(args.directory, PUBLISHED[args.size].hparams, args.seed)
    for ours, theirs in (("encoder.json", "vocab.json"), ("vocab.bpe", "merges.txt")):
        name = ours if args.layout == "openai" else theirs
        shutil.copyfile(args.vocabulary / ours, args.directory / name)


if __name__ == "__main__":
    main()
