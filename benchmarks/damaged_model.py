"""A model whose matrices were rounded to a few bits: what a gate has to notice.

    python -m benchmarks.damaged_model demo DIR --bits 4

Each column has one scale, so that its largest number is kept. DIR is in Hugging Face's layout.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from reference.models import find_model

FILES = ("config.json", "merges.txt", "vocab.json")
MATRICES = (".c_attn.weight", ".c_proj.weight", ".c_fc.weight")


def rounded(w: np.ndarray, bits: int) -> np.ndarray:
    """A matrix [n_in, n_out] with at most 2 ** bits values in each column."""
    scale = np.max(np.abs(w), axis=0, keepdims=True) / (2 ** (bits - 1) - 1)
    found: np.ndarray = (np.rint(w / scale) * scale).astype(w.dtype)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="a directory in Hugging Face's layout, or demo")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--bits", type=int, default=4)
    args = parser.parse_args()
    source = find_model(args.model)
    assert source is not None
    args.directory.mkdir(parents=True)
    for name in FILES:
        shutil.copy(source / name, args.directory)
    tensors = load_file(source / "model.safetensors")
    damaged = {
        name: rounded(w, args.bits) if name.endswith(MATRICES) else w for name, w in tensors.items()
    }
    save_file(damaged, args.directory / "model.safetensors")


if __name__ == "__main__":
    main()
