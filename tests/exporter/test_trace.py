"""The tracer as a tool in its own right: small functions that have nothing to do with GPT-2."""

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from exporter import Input, TraceError, to_onnx, trace
from exporter.tracer import NEWEST_TESTED, OPSETS
from reference import composite
from tests import opsets

X = Input(["batch", 4], np.float32, "x")


def run(graph, **feeds):
    return ReferenceEvaluator(to_onnx(graph)).run(None, feeds)


def test_a_perceptron_with_its_weights_named_by_place():
    def mlp(x, layers):
        for layer in layers:
            x = np.maximum(x @ layer["w"] + layer["b"], 0)
        return x

    rng = np.random.default_rng(0)
    shapes = [(4, 8), (8, 300)]
    layers = [
        {"w": rng.standard_normal(s).astype(np.float32), "b": np.ones(s[1], np.float32)}
        for s in shapes
    ]
    graph = trace(mlp, X, layers)
    assert list(graph.weights) == ["layers.0.w", "layers.0.b", "layers.1.w", "layers.1.b"]
    assert [value.name for value in graph.outputs] == ["mlp"]
    x = rng.standard_normal((6, 4)).astype(np.float32)
    np.testing.assert_array_equal(run(graph, x=x)[0], mlp(x, layers))


def test_euclidean_distances_between_points():
    def distances(a, b):
        difference = a[:, :, None, :] - b[None, None]
        return np.sqrt(np.sum(difference * difference, axis=-1))

    points = np.random.default_rng(1).standard_normal((5, 2)).astype(np.float32)
    graph = trace(distances, Input(["batch", 3, 2], np.float32), points)
    a = np.random.default_rng(2).standard_normal((2, 3, 2)).astype(np.float32)
    np.testing.assert_array_equal(run(graph, a=a)[0], distances(a, points))


def test_several_results_and_their_names():
    def stats(x):
        return x.mean(-1), x.std(-1), x

    graph = trace(stats, X)
    assert [value.name for value in graph.outputs] == ["stats_0", "stats_1", "stats_2"]
    x = np.ones((2, 4), np.float32)
    for found, expected in zip(run(graph, x=x), stats(x), strict=True):
        np.testing.assert_array_equal(found, expected)
    graph = trace(stats, X, outputs=["mean", "std", "same"])
    assert [value.name for value in graph.outputs] == ["mean", "std", "same"]


def test_the_same_result_twice_and_a_constant_result():
    graph = trace(lambda x: ((y := x + 1), y, np.arange(3)), X, outputs=["a", "b", "c"])
    a, b, c = run(graph, x=np.zeros((1, 4), np.float32))
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(c, [0, 1, 2])


def test_a_shared_weight_is_stored_once():
    w = np.random.default_rng(3).standard_normal((4, 4)).astype(np.float32)
    graph = trace(lambda x, encode, decode: x @ encode @ decode.T, X, w, w)
    assert list(graph.weights) == ["encode"]


def test_what_no_input_reaches_is_computed_once_by_numpy():
    def masked(x):
        mask = (1 - np.tri(4, dtype=x.dtype)) * -1e10
        return x + mask, x * ((1 - np.tri(4, dtype=x.dtype)) * -1e10)

    graph = trace(masked, Input(["batch", 4, 4], np.float32))
    assert [node.op for node in graph.nodes] == ["Add", "Mul"]
    assert len(graph.constants) == 1


def test_what_is_computed_twice_is_recorded_once():
    graph = trace(lambda x: np.tanh(x) * np.tanh(x) + np.tanh(x + 1), X)
    assert [node.op for node in graph.nodes] == ["Tanh", "Mul", "Add", "Tanh", "Add"]


def test_a_reshape_takes_symbolic_lengths_from_the_inputs():
    """Also where an axis turns out to have no elements."""

    def apart(x, y):
        (batch, n_seq), n = x.shape, y.shape[1]
        flat = np.reshape(y, (batch * n, 4)) * 2
        return np.reshape(np.reshape(x, batch * n_seq) + 1, (batch, n_seq)), np.reshape(
            flat, (batch, n, 4)
        )

    inputs = Input(["batch", "n_seq"], np.float32), Input(["batch", "n", 4], np.float32)
    with pytest.raises(TraceError, match="needs opset 15; the trace is at 14"):
        trace(apart, *inputs, opset=14)
    session = onnxruntime.InferenceSession(to_onnx(trace(apart, *inputs)).SerializeToString())
    for batch, n_seq, n in ((2, 3, 5), (1, 1, 1), (3, 2, 0)):
        x, y = np.ones((batch, n_seq), np.float32), np.ones((batch, n, 4), np.float32)
        for found, expected in zip(session.run(None, {"x": x, "y": y}), apart(x, y), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_what_no_output_needs_is_left_out():
    def wasteful(x, w):
        np.tanh(x @ w)
        return x + 1

    graph = trace(wasteful, X, np.ones((4, 4), np.float32))
    assert [node.op for node in graph.nodes] == ["Add"]
    assert not graph.weights


def test_float64_is_welcome_where_it_is_declared():
    graph = trace(lambda x: np.sqrt(x * x) / 3, Input(["batch"], np.float64, "x"))
    x = np.array([1.0, -2.0])
    np.testing.assert_array_equal(run(graph, x=x)[0], np.sqrt(x * x) / 3)


def test_what_a_function_asks_about_an_array():
    graph = trace(lambda x: x.reshape(np.size(x)) * np.ndim(x), X, outputs=["y"])
    assert str(graph.outputs[0]) == "y float32 [4 * batch]"


def test_several_symbolic_axes():
    def join(past, new):
        both = np.concatenate([past, new], axis=1)
        return both, np.max(both, axis=1)

    graph = trace(
        join,
        Input(["batch", "past", 2], np.float32),
        Input(["batch", "new", 2], np.float32),
        outputs=["both", "highest"],
    )
    assert str(graph.outputs[0]) == "both float32 [batch, past + new, 2]"
    assert str(graph.outputs[1]) == "highest float32 [batch, 2]"
    past, new = np.ones((3, 5, 2), np.float32), np.zeros((3, 1, 2), np.float32)
    for found, expected in zip(run(graph, past=past, new=new), join(past, new), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_composite_without_a_row_is_traced_by_its_body():
    @composite
    def swish(x):
        return x / (1 + np.exp(-x))

    graph = trace(swish, X)
    assert [node.op for node in graph.nodes] == ["Neg", "Exp", "Add", "Div"]


def test_a_graph_prints_as_it_reads():
    graph = trace(lambda x: np.tanh(x) * 2, X, outputs=["y"])
    assert str(graph).splitlines()[1:] == [
        "  tanh_1 = Tanh(x)",
        "  y = Mul(tanh_1, constant.0)",
        "  return y float32 [batch, 4]",
    ]


@given(
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    batch=st.integers(1, 4),
    data=st.data(),
)
def test_any_slice_of_fixed_axes(lengths, batch, data):
    key = tuple(
        data.draw(
            st.one_of(
                st.integers(-n, n - 1),
                st.slices(n).filter(lambda s, n=n: len(range(*s.indices(n))) > 0),
            )
        )
        for n in lengths
    )

    def cut(x):
        return x[(slice(None), *key)] * 1

    x = np.arange(batch * np.prod(lengths), dtype=np.float32).reshape(batch, *lengths)
    graph = trace(cut, Input(["batch", *lengths], np.float32))
    np.testing.assert_array_equal(run(graph, x=x)[0], cut(x))


# Refusals. Each names the function or the construct, and says what to write instead.


def branch(x):
    return x if x.sum(-1)[0] > 0 else -x


def in_place(x):
    x += 1
    return x


def assign(x):
    x[0] = 1
    return x


def loop(x):
    return sum(row for row in x)


REFUSED = {
    "no row": (lambda x: np.sort(x), "no ONNX row for sort"),
    "no ufunc row": (lambda x: np.logaddexp(x, x), "no ONNX row for logaddexp"),
    "no method": (lambda x: x.argsort(), "no ONNX row for the method argsort"),
    "ufunc method": (lambda x: np.add.reduce(x), "add.reduce has no ONNX row"),
    "if": (lambda x: x if (x[:, 0] > 0) else -x, "Write np.where instead of `if`"),
    "int": (lambda x: int(x.sum(-1)), "is unknown while tracing"),
    "float": (lambda x: float(x.sum(-1)), "is unknown while tracing"),
    "np.array": (lambda x: np.array(x), "np.array"),
    "np.full": (lambda x: np.full((2,), x), "np.array"),
    "index of an array": (lambda x: np.ones(9)[x.astype(np.int64)], "index into a plain array"),
    "in place": (in_place, "instead of `x \\+= y`"),
    "out": (lambda x: np.exp(x, out=np.ones(4, np.float32)), "in-place write"),
    "assignment": (assign, "in-place write"),
    "loop": (loop, "a loop over, x float32"),
    "len": (lambda x: x / len(x), "Write x.shape\\[0\\]"),
    "in": (lambda x: 1 in x, "is unknown while tracing"),
    "float64 leak": (lambda x: x / np.sqrt(2.0), "divide gives float64 from float32"),
    "float64 array": (lambda x: x + np.arange(4.0), "add gives float64 from float32"),
    "float64 cast": (lambda x: x.astype(np.float64), "astype gives float64"),
    "integer division": (lambda x: x.astype(np.int64) / 2, "use math.sqrt, a Python float"),
    "batch sum": (lambda x: x.sum(), "sum works along the batch axis"),
    "batch mean": (lambda x: np.mean(x, axis=0), "mean works along the batch axis"),
    "batch var": (lambda x: np.var(x, axis=0), "var works along the batch axis"),
    "batch argmax": (lambda x: np.argmax(x, axis=0), "argmax works along the batch axis"),
    "batch cumsum": (lambda x: np.cumsum(x, axis=0), "cumsum works along the batch axis"),
    "batch matmul": (lambda x: x.T @ x, "matmul works along the batch axis"),
    "batch einsum": (lambda x: np.einsum("bi->i", x), "einsum works along the batch axis"),
    "batch concatenate": (lambda x: np.concatenate([x, x]), "concatenate along the batch axis"),
    "batch row": (lambda x: x[0], "picks rows out of the batch"),
    "batch slice": (lambda x: x[1:], "slices the batch axis"),
    "batch take": (lambda x: np.take(x, [0], axis=0), "picks rows out of the batch"),
    "batch tile": (lambda x: np.tile(x, (2, 1)), "tile repeats the batch axis"),
    "batch pad": (lambda x: np.pad(x, 1), "pad of the batch axis"),
    "rows meet": (lambda x: x[:, None] * x[None], "pairs the rows"),
    "argmax of all": (lambda x: np.argmax(x), "argmax without an axis"),
    "keyword": (lambda x: np.sum(x, axis=-1, where=[True] * 4), "unexpected keyword.*'where'"),
    "ufunc keyword": (lambda x: np.exp(x, dtype=np.float32), "unexpected keyword.*'dtype'"),
    "mean dtype": (lambda x: np.mean(x, axis=-1, dtype=np.float32), "its ONNX row takes a, axis"),
    "zero-length slice": (lambda x: x[:, 2:2], "zero-length axis"),
    "zero-length constant": (lambda x: np.stack([x, np.ones((1, 0))]), "zero-length axis"),
    "mask": (
        lambda x: x[:, np.array([True, False, True, True])],
        "Write np.where instead of a mask",
    ),
    "float remainder": (lambda x: x % 2, "remainder of floats"),
    "integer bits": (lambda x: x.astype(np.int64) & 1, "needs opset 18"),
    "decimals": (lambda x: np.round(x, 2), "round to 2 decimals"),
    "squeeze": (lambda x: np.squeeze(x), "depends on the length of the batch"),
    "reshape": (lambda x: x.reshape(x.shape[0], 5), "the numbers of elements differ"),
    "reshape -1": (lambda x: x.reshape(-1, 2), "-1 would hold a symbolic length"),
    "range": (lambda x: x + np.arange(x.shape[0]), "length of axis `batch` is used as a number"),
    "length compared": (lambda x: x if x.shape[0] == 1 else -x, "length of axis `batch`"),
    "shapes": (lambda x: x + np.ones(3, np.float32), "NumPy refuses this call"),
    "axis": (lambda x: np.sum(x, axis=5), "sum: axis 5 is out of bounds"),
    "swapaxes": (lambda x: np.swapaxes(x, 0, 7), "swapaxes: "),
    "complex": (lambda x: x * 1j, "an operand has type complex128"),
    "a string": (lambda x: "text", "the function returns str"),
    "einsum dots": (lambda x: np.einsum("...i->...i", x), "every axis named"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_traced_is_refused_by_name(name):
    function, message = REFUSED[name]
    with pytest.raises(TraceError, match=message):
        trace(function, X)


def test_control_flow_on_values_of_several_axes():
    with pytest.raises(TraceError, match="picks rows out of the batch"):
        trace(branch, X)


def test_specs_that_make_no_sense():
    with pytest.raises(TraceError, match="a zero-length axis would be taken"):
        trace(lambda x: x, Input(["batch", 0], np.float32))
    with pytest.raises(TraceError, match="weight w: shape .* zero-length"):
        trace(lambda x, w: x, X, np.ones((0, 3)))
    for bad in (-1, 2.0, True, None):
        with pytest.raises(TraceError, match="expected whole numbers from 1"):
            trace(lambda x: x, Input(["batch", bad], np.float32))
    for dtype in ("zzz", ">f4", "U3", np.complex64, np.longdouble):
        with pytest.raises(TraceError, match="input x: |input x has type"):
            trace(lambda x: x, Input(["batch", 2], dtype))
    for w in (np.ones(2, ">f4"), np.ma.array([1.0]), np.array(["a"])):
        with pytest.raises(TraceError, match="an operand"):
            trace(lambda x, w: x * w, X, w)
    with pytest.raises(TraceError, match="is a tuple with an Input or an array"):
        trace(lambda x: x[0], (X,))
    with pytest.raises(TraceError, match="two inputs or weights are called 'x'"):
        trace(lambda a, x: a - x, X, np.ones(4, np.float32))
    with pytest.raises(TraceError, match="two inputs or weights are called 'w.a.b'"):
        trace(lambda x, w: x, X, {"a.b": np.ones(1), "a": {"b": np.ones(2)}})
    with pytest.raises(TraceError, match="returns nothing"):
        trace(lambda x: [], X)
    with pytest.raises(TraceError, match="two inputs or weights are called 'x'"):
        trace(lambda a, b: a + b, X, X)
    with pytest.raises(TraceError, match=f"opset 12: expected 13 to {OPSETS[-1]}"):
        trace(np.tanh, X, opset=12)
    with pytest.raises(TraceError, match="target 'cuda': expected one of"):
        trace(np.tanh, X, target="cuda")
    with pytest.raises(TraceError, match="1 results and the output names"):
        trace(np.tanh, X, outputs=["a", "b"])
    with pytest.raises(TraceError, match="both called 'x'"):
        trace(lambda x: x + 1, X, outputs=["x"])


def test_opsets_up_to_the_newest_that_is_tested_and_that_onnx_knows():
    assert OPSETS[0] == 13
    assert OPSETS[-1] == min(NEWEST_TESTED, onnx.defs.onnx_opset_version())
    for opset in OPSETS:
        assert to_onnx(trace(np.tanh, X, opset=opset)).opset_import[0].version == opset
    with pytest.raises(TraceError, match=f"opset {NEWEST_TESTED + 1}: expected 13 to"):
        trace(np.tanh, X, opset=NEWEST_TESTED + 1)


# Found by trying to break it: each of these once traced into a graph that computed something else.

ROWS_MEET = {
    "reshape into the batch": lambda x: x.T.reshape(x.shape[0], 4),
    "reshape before the batch": lambda x: x.reshape(4, x.shape[0]),
    "reshape across it": lambda x: x.reshape(2, x.shape[0], 2),
    "triu": np.triu,
    "tril": lambda x: np.tril(x[:, None, :].swapaxes(0, 1)),
}


@pytest.mark.parametrize("name", ROWS_MEET)
def test_rows_never_meet(name):
    with pytest.raises(TraceError, match="mixes the rows of the batch|work along the batch axis"):
        trace(ROWS_MEET[name], X)


@pytest.mark.parametrize("target", ["primitives", "portable", "onnxruntime"])
def test_rows_never_meet_in_composites(target):
    from reference.gpt2 import layer_norm, softmax

    ones = np.ones(4, np.float32)
    for function in (lambda x, w: softmax(x.T), lambda x, w: layer_norm(x.T, w, w)):
        with pytest.raises(TraceError, match="along the batch axis|NumPy refuses"):
            trace(function, X, ones, target=target)


def head(*lengths, dtype=np.float32):
    return Input(["batch", *lengths], dtype)


CAUSAL = ((1 - np.tri(3, 5)) * -1e10).astype(np.float32)
# q, k, v, mask, and whether ONNX's Attention says the same.
ATTENTION = {
    "a constant mask": (head(2, 3, 8), head(2, 5, 8), head(2, 5, 8), CAUSAL, True),
    "a mask of rows": (head(2, 3, 8), head(2, 5, 8), head(2, 5, 8), head(1, 3, 5), True),
    "a mask of heads": (head(2, 3, 8), head(2, 5, 8), head(2, 5, 8), head(2, 3, 5), True),
    "wide values": (head(2, 3, 8), head(2, 5, 8), head(2, 5, 6), CAUSAL, True),
    "float16": (
        *(head(2, n, 8, dtype=np.float16) for n in (3, 5, 5)),
        CAUSAL.clip(-1e4).astype(np.float16),
        True,
    ),
    "a mask of a query": (head(2, 3, 8), head(2, 5, 8), head(2, 5, 8), CAUSAL[:1], False),
    "a mask of a key": (head(2, 3, 8), head(2, 5, 8), head(2, 5, 8), CAUSAL[:, :1], False),
    "a vector": (head(2, 3, 8), head(2, 5, 8), head(2, 5, 8), CAUSAL[0], False),
    "three axes": (head(2, 3, 8), head(2, 5, 8), head(2, 5, 8), np.stack([CAUSAL] * 2), False),
    "booleans": (head(2, 3, 8), head(2, 5, 8), head(2, 5, 8), CAUSAL < 0, False),
    "a number": (head(2, 3, 8), head(2, 5, 8), head(2, 5, 8), 0.5, False),
    "one head of keys": (head(2, 3, 8), head(1, 5, 8), head(2, 5, 8), CAUSAL, False),
    "no heads": (head(3, 8), head(5, 8), head(5, 8), CAUSAL, False),
    "more axes": (head(1, 2, 3, 8), head(1, 2, 5, 8), head(1, 2, 5, 8), CAUSAL, False),
    "float64": (
        *(head(2, n, 8, dtype=np.float64) for n in (3, 5, 5)),
        CAUSAL.astype(np.float64),
        False,
    ),
}


# Largest differences measured, of numbers up to 3.8: 2.0e-3, 4.8e-7, 4.5e-16.
ATTENTION_BOUNDS = {np.float16: 4e-3, np.float32: 2e-6, np.float64: 2e-15}


@pytest.mark.parametrize("name", ATTENTION)
@pytest.mark.parametrize("opset", [n for n in opsets.IN_ONNXRUNTIME if n >= 23])
def test_attention_as_an_operator_or_by_its_body(name, opset):
    from reference.gpt2 import attention

    *specs, fused = ATTENTION[name]
    graph = trace(attention, *specs, opset=opset, outputs=["y"])
    assert ("Attention" in [node.op for node in graph.nodes]) == fused
    rng = np.random.default_rng(0)
    arrays = [
        rng.standard_normal([2, *x.shape[1:]]).astype(x.dtype) if isinstance(x, Input) else x
        for x in specs
    ]
    expected = attention(*arrays)
    feeds = dict(zip(("q", "k", "v", "mask"), arrays, strict=True))
    feeds = {value.name: feeds[value.name] for value in graph.inputs}
    bound = ATTENTION_BOUNDS[expected.dtype.type]
    session = onnxruntime.InferenceSession(to_onnx(graph).SerializeToString())
    # onnxruntime 1.31 itself keeps the scale of a product in float32: 2e-8.
    for found, least in ((run(graph, **feeds)[0], 0), (session.run(None, feeds)[0], 1e-7)):
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=0, atol=max(bound, least))


def test_rows_never_meet_in_attention():
    from reference.gpt2 import attention

    def by_keys(x):
        keys = np.moveaxis(x, 0, 2)  # [2, 3, batch, 8]
        return attention(keys, keys, keys, np.zeros((1, 1), np.float32))

    with pytest.raises(TraceError, match="pairs the rows of a batch"):
        trace(by_keys, Input(["batch", 2, 3, 8], np.float32), opset=23)


def test_arrays_that_the_function_goes_on_to_write_into():
    def f(x):
        b = np.zeros(4, np.float32)
        y = x + b
        b += 1
        return y * b

    x = np.ones((2, 4), np.float32)
    np.testing.assert_array_equal(run(trace(f, X, outputs=["y"]), x=x)[0], f(x))


def test_a_value_of_another_trace():
    kept = []
    trace(lambda x: kept.append(np.exp(x)) or x, X)
    with pytest.raises(TraceError, match="comes from another trace"):
        trace(lambda x: x + kept[0], X)
    with pytest.raises(TraceError, match="comes from another trace"):
        trace(lambda x: kept[0], X)


def test_names_that_a_graph_would_give_itself():
    def f(add_1, constant):
        return (add_1 + constant[0]) * 3 + 4

    x, w = np.ones((2, 4), np.float32), np.arange(4, dtype=np.float32)
    graph = trace(f, Input(["batch", 4], np.float32), [w], outputs=["result"])
    np.testing.assert_array_equal(run(graph, add_1=x)[0], f(x, [w]))
    with pytest.raises(TraceError, match="both called"):
        trace(np.tanh, X, outputs=[""])


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x[:, -2:],
        lambda x: x[:, :2],
        lambda x: x[:, 1:],
        lambda x: x.sum(1) / x.shape[1],
        lambda x: x * x.shape[0],
        lambda x: x if x.shape[0] == x.shape[1] else -x,
        lambda x: x if x.shape[0] != x.shape[1] else -x,
        lambda x: x.reshape(x.shape[0], round(x.shape[1] * 0.5)),
        lambda x: np.sqrt(x.shape[0]) + x,
        lambda x: np.pad(x, ((0, 0), (0, 5))),
        lambda x: np.take_along_axis(x[:, :, None], np.array([[[0]]]), axis=2),
    ],
)
def test_lengths_that_are_unknown_decide_nothing(function):
    with pytest.raises(TraceError, match="symbolic|length"):
        trace(function, Input(["batch", "past"], np.float32, "x"))


def test_a_symbolic_axis_backwards():
    graph = trace(lambda x: x[:, ::-1] * 1, Input(["batch", "n"], np.float32, "x"), outputs=["y"])
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(run(graph, x=x)[0], x[:, ::-1])


ODD = {
    "part of a diagonal": (lambda x: np.tril(x[:, None] * x[:, :, None], 1.5), "tril: "),
    "two -1": (lambda x: x.reshape(x.shape[0], -1, -1), "more than one -1"),
    "take_along_axis": (
        lambda x: np.take_along_axis(x, np.array([[0, 1]]), 1),
        "axis 0 has length",
    ),
    "pad values": (lambda x: np.pad(x, ((0, 0), (1, 1)), constant_values=(1, 2)), "one number"),
    "integer power": (lambda x: x.astype(np.int64) ** 3, "power of integers"),
    "negative power": (lambda x: x.astype(np.int64) ** -1, "power of integers"),
    "None": (lambda x: x == None, "an operand has type object"),  # noqa: E711
    "masked": (lambda x: x * np.ma.array(np.ones(4), mask=[1, 0, 0, 0]), "is a MaskedArray"),
    "method keyword": (lambda x: x.astype(np.float32, copy=False), "the method astype"),
    "method order": (lambda x: x.reshape(4, order="C"), "the method reshape"),
    "True as index": (lambda x: x[:, True], "True or False"),
    "empty part": (lambda x: np.split(x, [2, 2], axis=1)[0], "no part is empty"),
    "flat concatenate": (lambda x: np.concatenate([x, x], axis=None), "without an axis"),
    "ragged": (lambda x: (x, (np.ones(2), np.ones(3))), "the function returns tuple"),
    "format": (lambda x: round(x), "is unknown while tracing"),
    "delete": (lambda x: x.__delitem__(0), "in-place write"),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_calls_are_refused(name):
    function, message = ODD[name]
    with pytest.raises(TraceError, match=message):
        trace(function, X)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x**2,
        lambda x: abs(x) ** 0.5,
        lambda x: x + True,
        lambda x: x @ np.eye(4, dtype=np.float32) + np.asarray([1, 2, 3, 4], np.float32),
        lambda x: np.concatenate([x, x * 2, x[:, ::-1]], axis=1).sum(axis=()),
        lambda x: np.where(x > 0, np.float32(2), x),
        lambda x: np.take_along_axis(x, np.argmax(x, axis=1)[:, None].astype(np.uint8), axis=1),
    ],
)
@pytest.mark.parametrize("opset", [13, 17, 18, OPSETS[-1]])
def test_odd_calls_that_are_fine(function, opset):
    x = np.random.default_rng(5).standard_normal((3, 4)).astype(np.float32)
    graph = trace(function, X, opset=opset, outputs=["y"])
    np.testing.assert_array_equal(run(graph, x=x)[0], function(x))


def test_two_symbolic_axes_that_meet():
    inputs = [Input(["batch", "m", 2], np.float32, "p"), Input(["batch", "n", 2], np.float32, "q")]
    with pytest.raises(TraceError, match="axes of lengths m and n meet|NumPy refuses"):
        trace(lambda p, q: p + q, *inputs)


def test_constant_arrays_that_are_empty():
    with pytest.raises(TraceError, match="zero-length axis"):
        trace(lambda x: np.where(x > 0, x, np.ones((0, 1, 4), np.float32)), X)


def test_an_axis_that_is_as_long_as_two_others_together():
    def joined(x, y, both):
        return np.concatenate([x, y], axis=1) + both

    one, other = Input(["batch", "past"], np.float32), Input(["batch", "new"], np.float32)
    graph = trace(joined, one, other, Input(["batch", "past + new"], np.float32))
    assert str(graph.outputs[0]) == "joined float32 [batch, past + new]"
    x, y, both = (np.ones((2, n), np.float32) for n in (3, 4, 7))
    session = onnxruntime.InferenceSession(to_onnx(graph).SerializeToString())
    found = session.run(None, {"x": x, "y": y, "both": both})[0]
    np.testing.assert_array_equal(found, joined(x, y, both))
    with pytest.raises(TraceError, match="`old \\+ new` names 'old', which no input has"):
        trace(joined, one, other, Input(["batch", "old + new"], np.float32))
