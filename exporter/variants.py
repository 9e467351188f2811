"""What is exported: the graphs, and the number formats that each is written in."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from reference.float16 import HALF, TABLES, Float16Matrix, Float16Table, in_float16
from reference.gpt2 import Params
from reference.int8 import Int8Matrix, Int8Table, quantize_whole

# Graphs by the beginning of their files' names. Programs that generate look for `model.onnx`.
GRAPHS = {"with_past": "model", "forward": "forward", "next_logits": "next_logits"}


@dataclass(frozen=True)
class Variant:
    """A number format.

    Attributes
    ----------
    suffix : str
        Of its files' names: what transformers.js calls the format.
    rounded : callable
        The float32 parameter tree in this format.
    past : dtype
        Of keys and values in the graph with past.
    called : str
        transformers.js's name of it.
    most_kl, most_perplexity_change : float
        What it may cost on a text, beside the float32 reference: nats per token, and a share.
    """

    suffix: str
    rounded: Callable[[Params], Params]
    past: Any
    called: str
    most_kl: float
    most_perplexity_change: float

    def file(self, graph: str) -> str:
        """The name of a graph's file."""
        return f"{GRAPHS[graph]}{self.suffix}.onnx"

    @property
    def weights_file(self) -> str:
        """The weights that its graphs share."""
        return f"{self.file('with_past')}_data"


# What a format may cost. Measured on a page of English: KL 1.4e-12, 1.2e-6 and 0.0031 on the demo
# model, 5e-11, 2.5e-5 and 0.045 on random weights of 124M shapes, which round worse;
# perplexity changed by up to 0.08 % in float16 and 1.3 % in 8 bits. Four bits in place of eight, or
# one scale for a whole matrix, are beyond it (tests/runner/test_parity.py).
VARIANTS = {
    "float32": Variant("", dict, np.float32, "fp32", 1e-6, 1e-4),
    "float16": Variant("_fp16", in_float16, np.float16, "fp16", 1e-3, 0.005),
    "int8": Variant("_quantized", quantize_whole, np.float32, "q8", 0.1, 0.05),
}


def read_leaf(name: str, shape: tuple[int, ...], found: Mapping[str, Any]) -> Any:
    """A weight among a graph's initializers, in the format that it has there.

    None where it is not there, or not of this shape.
    """
    whole, half, q = (found.get(n) for n in (name, f"{name}.{HALF}", f"{name}.q"))
    if whole is not None:
        return whole if (whole.shape, whole.dtype) == (shape, np.float32) else None
    if half is not None:
        kind = Float16Table if name in TABLES else Float16Matrix
        return kind(half=half) if (half.shape, half.dtype) == (shape, np.float16) else None
    scale = found.get(f"{name}.scale")
    if q is None or scale is None or q.shape != shape or len(shape) != 2:
        return None
    channels = shape[0] if name in TABLES else shape[1]
    right = (scale.shape, scale.dtype, q.dtype) == ((channels,), np.float32, np.uint8)
    return (Int8Table if name in TABLES else Int8Matrix)(q=q, scale=scale) if right else None
