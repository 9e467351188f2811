"""Every row of the primitives table: bit-identical to NumPy in ONNX's reference evaluator.

The inputs have a symbolic batch axis; graphs are traced once and run with two batch sizes.
"""

import operator

import numpy as np
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator

from exporter import Input, to_onnx, trace
from exporter.primitives import PRIMITIVES
from exporter.primitives.elementwise import astype
from tests import opsets

C = np.arange(12, dtype=np.float32).reshape(3, 4) / 5 - 1

# Function -> uses of it with x, y float32 [batch, 3, 4], i int64 [batch, 3], b bool [batch, 3, 4],
# and w, where they have it: C as a weight.
CASES = {
    np.add: [lambda x, y, i, b: x + y, lambda x, y, i, b: 1 + x, lambda x, y, i, b: i + i],
    np.subtract: [lambda x, y, i, b: x - C, lambda x, y, i, b: 2 - i],
    np.multiply: [lambda x, y, i, b: x * y, lambda x, y, i, b: x * np.float32(3)],
    np.divide: [lambda x, y, i, b: x / (y + 9), lambda x, y, i, b: 1 / (x + 9)],
    np.power: [lambda x, y, i, b: x**2, lambda x, y, i, b: abs(x) ** 0.5],
    np.negative: [lambda x, y, i, b: -x],
    np.absolute: [lambda x, y, i, b: abs(x), lambda x, y, i, b: np.abs(-i)],
    np.fabs: [lambda x, y, i, b: np.fabs(x)],
    np.sign: [lambda x, y, i, b: np.sign(x)],
    np.sqrt: [lambda x, y, i, b: np.sqrt(abs(x))],
    np.square: [lambda x, y, i, b: np.square(x)],
    np.reciprocal: [lambda x, y, i, b: np.reciprocal(x + 9)],
    np.exp: [lambda x, y, i, b: np.exp(x)],
    np.log: [lambda x, y, i, b: np.log(abs(x) + 1)],
    np.floor: [lambda x, y, i, b: np.floor(x * 3)],
    np.ceil: [lambda x, y, i, b: np.ceil(x * 3)],
    np.rint: [lambda x, y, i, b: np.rint(x * 2)],
    np.round: [lambda x, y, i, b: np.round(x * 2), lambda x, y, i, b: (x * 2).round()],
    np.sin: [lambda x, y, i, b: np.sin(x)],
    np.cos: [lambda x, y, i, b: np.cos(x)],
    np.tan: [lambda x, y, i, b: np.tan(x)],
    np.arcsin: [lambda x, y, i, b: np.arcsin(np.tanh(x))],
    np.arccos: [lambda x, y, i, b: np.arccos(np.tanh(x))],
    np.arctan: [lambda x, y, i, b: np.arctan(x)],
    np.sinh: [lambda x, y, i, b: np.sinh(x)],
    np.cosh: [lambda x, y, i, b: np.cosh(x)],
    np.tanh: [lambda x, y, i, b: np.tanh(x)],
    np.arcsinh: [lambda x, y, i, b: np.arcsinh(x)],
    np.arccosh: [lambda x, y, i, b: np.arccosh(abs(x) + 1)],
    np.arctanh: [lambda x, y, i, b: np.arctanh(x / 9)],
    np.maximum: [lambda x, y, i, b: np.maximum(x, y), lambda x, y, i, b: np.maximum(i, 1)],
    np.minimum: [lambda x, y, i, b: np.minimum(x, 0.25)],
    np.equal: [lambda x, y, i, b: i == 2],
    np.not_equal: [lambda x, y, i, b: i != 2],
    np.less: [lambda x, y, i, b: x < y],
    np.less_equal: [lambda x, y, i, b: i <= 1],
    np.greater: [lambda x, y, i, b: x > 0],
    np.greater_equal: [lambda x, y, i, b: x >= y],
    np.isnan: [lambda x, y, i, b: np.isnan(x)],
    np.isinf: [lambda x, y, i, b: np.isinf(x)],
    np.isfinite: [lambda x, y, i, b: np.isfinite(x)],
    np.logical_and: [lambda x, y, i, b: np.logical_and(b, i[:, :, None])],
    np.logical_or: [lambda x, y, i, b: np.logical_or(b, x > 0)],
    np.logical_xor: [lambda x, y, i, b: np.logical_xor(b, x > 0)],
    np.logical_not: [lambda x, y, i, b: np.logical_not(b)],
    np.bitwise_and: [lambda x, y, i, b: b & (x > 0)],
    np.bitwise_or: [lambda x, y, i, b: b | (x > 0)],
    np.bitwise_xor: [lambda x, y, i, b: b ^ (x > 0)],
    np.invert: [lambda x, y, i, b: ~b],
    np.remainder: [lambda x, y, i, b: (i - 2) % 3],
    np.fmod: [lambda x, y, i, b: np.fmod(x, 0.5)],
    np.clip: [lambda x, y, i, b: np.clip(x, -0.5, 0.5), lambda x, y, i, b: x.clip(None, C)],
    np.where: [lambda x, y, i, b: np.where(b, x, -1), lambda x, y, i, b: np.where(b, 1.5, y)],
    np.matmul: [
        lambda x, y, i, b: x @ C.T,
        lambda x, y, i, b: x @ np.swapaxes(y, 1, 2),
        lambda x, y, i, b: x @ C[0],
    ],
    np.dot: [lambda x, y, i, b: np.dot(x, C.T), lambda x, y, i, b: x.dot(C[1])],
    np.einsum: [lambda x, y, i, b: np.einsum("bij,bkj->bik", x, y)],
    np.sum: [
        lambda x, y, i, b: np.sum(x, axis=-1),
        lambda x, y, i, b: x.sum((1, 2), keepdims=True),
        lambda x, y, i, b: np.sum(b, axis=2),
    ],
    np.mean: [lambda x, y, i, b: np.mean(x, axis=1), lambda x, y, i, b: x.mean(-1, keepdims=True)],
    np.max: [lambda x, y, i, b: np.max(x, axis=-1), lambda x, y, i, b: x.max((1, 2))],
    np.amax: [lambda x, y, i, b: np.amax(x, axis=(1, 2))],
    np.amin: [lambda x, y, i, b: np.amin(x, axis=-1)],
    np.min: [lambda x, y, i, b: np.min(x, axis=1, keepdims=True)],
    np.prod: [lambda x, y, i, b: np.prod(x, axis=-1)],
    np.var: [lambda x, y, i, b: np.var(x, axis=-1), lambda x, y, i, b: x.var(1, keepdims=True)],
    np.std: [lambda x, y, i, b: np.std(x, axis=-1, keepdims=True)],
    np.argmax: [lambda x, y, i, b: np.argmax(x, axis=-1), lambda x, y, i, b: x.argmax(1)],
    np.argmin: [lambda x, y, i, b: np.argmin(x, axis=1, keepdims=True)],
    np.cumsum: [lambda x, y, i, b: np.cumsum(x, axis=1), lambda x, y, i, b: b.cumsum(-1)],
    astype: [lambda x, y, i, b: i.astype(np.float32), lambda x, y, i, b: (x * 9).astype(np.int32)],
    np.astype: [lambda x, y, i, b: np.astype(b, np.int64)],
    np.reshape: [
        lambda x, y, i, b: x.reshape(x.shape[0], 12),
        lambda x, y, i, b: np.reshape(x, (x.shape[0], 2, 2, -1)),
        lambda x, y, i, b: x.swapaxes(0, 1).reshape(3, x.shape[0] * 4),
        lambda x, y, i, b: x.reshape(x.shape[0] * 3, 4),
    ],
    np.ravel: [lambda x, y, i, b, w: x[:, 0] + w.ravel()[:4], lambda x, y, i, b: np.ravel(x)],
    np.transpose: [lambda x, y, i, b: x.T, lambda x, y, i, b: x.transpose(1, 0, 2)],
    np.swapaxes: [lambda x, y, i, b: x.swapaxes(-1, -2)],
    np.matrix_transpose: [lambda x, y, i, b: np.matrix_transpose(x)],
    np.moveaxis: [lambda x, y, i, b: np.moveaxis(x, (0, 2), (1, 0))],
    np.expand_dims: [lambda x, y, i, b: np.expand_dims(x, (1, -1))],
    np.squeeze: [
        lambda x, y, i, b: np.squeeze(x[:, :1], axis=1),
        lambda x, y, i, b: x[..., :1].squeeze(-1),
    ],
    np.broadcast_to: [lambda x, y, i, b: np.broadcast_to(x[:, :1], (x.shape[0], 3, 4))],
    np.tile: [lambda x, y, i, b: np.tile(x, (2, 1)), lambda x, y, i, b: np.tile(x, 2)],
    np.copy: [lambda x, y, i, b: np.copy(x), lambda x, y, i, b: x.copy()],
    np.full_like: [
        lambda x, y, i, b: np.full_like(x, 7),
        lambda x, y, i, b: np.full_like(b, 1, int),
    ],
    np.zeros_like: [lambda x, y, i, b: np.zeros_like(x)],
    np.ones_like: [lambda x, y, i, b: np.ones_like(x, dtype=np.int64)],
    np.concatenate: [
        lambda x, y, i, b: np.concatenate([x, y], axis=1),
        lambda x, y, i, b: np.concatenate([x, y, x], -1),
    ],
    np.stack: [
        lambda x, y, i, b: np.stack([x, y], axis=1),
        lambda x, y, i, b: np.stack([x, y], -1),
    ],
    np.split: [
        lambda x, y, i, b: np.split(x, 2, axis=-1)[1],
        lambda x, y, i, b: np.split(x, [1, 3], axis=2)[1],
    ],
    np.pad: [lambda x, y, i, b: np.pad(x, ((0, 0), (1, 0), (0, 2)), constant_values=3)],
    np.triu: [lambda x, y, i, b: np.triu(x), lambda x, y, i, b: np.triu(x, 1)],
    np.tril: [lambda x, y, i, b: np.tril(x, -1)],
    operator.getitem: [
        lambda x, y, i, b: x[:, 1],
        lambda x, y, i, b: x[:, -1, ::2],
        lambda x, y, i, b: x[..., None, 1:3],
        lambda x, y, i, b: x[:, ::-1],
        lambda x, y, i, b: x[:, [2, 0, 0]],
        lambda x, y, i, b: x[:, :, np.array([[3], [1]])],
    ],
    np.take: [
        lambda x, y, i, b, w: np.take(w, i, axis=0),
        lambda x, y, i, b: x.take([1, 2], axis=-1),
    ],
    np.take_along_axis: [
        lambda x, y, i, b: np.take_along_axis(x, i[:, None, :1], axis=1),
        lambda x, y, i, b: np.take_along_axis(x, i[..., None], axis=-1),
    ],
}

INPUTS = [
    Input(["batch", 3, 4], np.float32, "x"),
    Input(["batch", 3, 4], np.float32, "y"),
    Input(["batch", 3], np.int64, "i"),
    Input(["batch", 3, 4], np.bool_, "b"),
]


def values(batch):
    rng = np.random.default_rng(batch)
    return {
        "x": rng.standard_normal((batch, 3, 4)).astype(np.float32),
        "y": rng.standard_normal((batch, 3, 4)).astype(np.float32),
        "i": rng.integers(0, 3, (batch, 3)),
        "b": rng.random((batch, 3, 4)) < 0.5,
    }


def names(function):
    return getattr(function, "__name__", str(function))


# ONNX's evaluator sums these in another order than NumPy: equal to rounding only.
ROUNDED = [*CASES[np.dot], *CASES[np.einsum]]

EVERY_USE = [
    pytest.param(use, id=f"{names(function)}-{position}")
    for function, uses in CASES.items()
    for position, use in enumerate(uses)
]


def test_every_row_has_a_case():
    assert {names(f) for f in PRIMITIVES.keys() - CASES.keys()} == set()
    assert {names(f) for f in CASES.keys() - PRIMITIVES.keys()} == set()


@pytest.mark.parametrize("use", EVERY_USE)
@pytest.mark.parametrize("opset", [17, 18, 24, opsets.TRIED[-1]])
def test_a_row_computes_what_numpy_computes(use, opset):
    weights = [C.copy()] if use.__code__.co_argcount == 5 else []
    graph = trace(use, *INPUTS, *weights, opset=opset, outputs=["result"])
    used = {value.name for value in graph.inputs}
    proto = to_onnx(graph)
    in_onnxruntime = opset in opsets.IN_ONNXRUNTIME
    session = onnxruntime.InferenceSession(proto.SerializeToString()) if in_onnxruntime else None
    for batch in (1, 5):
        feeds = {name: array for name, array in values(batch).items() if name in used}
        expected = use(*values(batch).values(), *weights)
        (evaluated,) = ReferenceEvaluator(proto).run(None, feeds)
        if use in ROUNDED:
            np.testing.assert_allclose(evaluated, expected, atol=1e-6)
        else:
            np.testing.assert_array_equal(evaluated, expected)
        assert evaluated.dtype == expected.dtype
        if session is None:
            continue
        (run,) = session.run(None, feeds)
        # onnxruntime has its own exp, tanh and the like: a few units in the last place.
        np.testing.assert_allclose(run, expected, rtol=2e-6, atol=2e-6)


def test_every_use_really_goes_through_its_row():
    """A case whose function is computed by NumPy alone would prove nothing."""
    for function, uses in CASES.items():
        called = []
        original = PRIMITIVES[function]

        def spy(recorder, *args, original=original, called=called, **kwargs):
            called.append(1)
            return original(recorder, *args, **kwargs)

        import functools

        PRIMITIVES[function] = functools.wraps(original)(spy)
        try:
            for use in uses:
                called.clear()
                trace(
                    use, *INPUTS, *([C.copy()] if use.__code__.co_argcount == 5 else []), opset=18
                )
                assert called, f"{names(function)}: a case does not call its row"
        finally:
            PRIMITIVES[function] = original


def test_integer_bits_from_opset_18():
    for use in (lambda i: i & 3, lambda i: i | 4, lambda i: i ^ 5, lambda i: ~i):
        graph = trace(use, Input(["batch", 3], np.int64, "i"), opset=18, outputs=["result"])
        i = np.array([[1, 6, -9]])
        (found,) = ReferenceEvaluator(to_onnx(graph)).run(None, {"i": i})
        np.testing.assert_array_equal(found, use(i))
