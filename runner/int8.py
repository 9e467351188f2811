"""A model in 8 bits, of the kind that this processor multiplies exactly."""

import functools

import numpy as np

from exporter import Input, TracedModel, to_onnx, trace
from reference import Model
from reference.int8 import LIMIT, int8_matmul

from .engine import TARGET, open_session

TRIED_ROWS = (1, 16)  # onnxruntime may take another product for a single one


def in_int8(model: Model) -> Model:
    """The same model with its matrices in 8 bits; what it answers is the same either way."""
    return model.in_int8(unsigned=not exact_signed())


@functools.cache
def exact_signed() -> bool:
    """Whether products of unsigned by signed numbers are exact.

    Processors without such an instruction add two products in 16 bits, in which two large ones find
    no room (x86 before VNNI).
    """
    rng = np.random.default_rng(0)
    x = rng.choice(np.array([-LIMIT, LIMIT], np.float32), (max(TRIED_ROWS), 256))
    q = rng.choice(np.array([-LIMIT, LIMIT], np.int8), (256, 64))
    q[:, 0] = LIMIT
    x[0] = LIMIT
    scale = np.ones(64, np.float32)
    graph = trace(int8_matmul, Input(["batch", 256], np.float32), q, scale, target=TARGET)
    session = open_session(TracedModel(to_onnx(graph).SerializeToString(), None), threads=1)
    found = (session.run(None, {session.get_inputs()[0].name: x[:n]})[0] for n in TRIED_ROWS)
    return all(np.array_equal(y, int8_matmul(x[: len(y)], q, scale)) for y in found)
