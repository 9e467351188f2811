"""Number formats: the graphs of each are those of its reference, and come back as they went in."""

from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator

from exporter import (
    ExportError,
    Input,
    export,
    open_package,
    to_onnx,
    trace,
    trace_forward,
    trace_next_logits,
    trace_with_past,
)
from exporter.targets import TARGETS
from exporter.variants import VARIANTS, read_leaf
from reference import gpt2
from reference.checkpoint.weights import Checkpoint
from reference.int8 import int8_matmul, quantize_matrix
from reference.models import DEMO_DIR
from reference.tree import leaves, tree_map
from reference.with_past import logits_with_past

ROUNDED = ["float16", "int8"]
# onnxruntime against NumPy in float32, in standard deviations of the logits: measured 1e-6.
TOLERANCE = 1e-5


def most(logits, exact):
    """What a runtime may add to a format's rounding: both may be as far off, on opposite sides."""
    return max(TOLERANCE * exact.std(), 2 * np.abs(logits - exact).max())


def in_onnxruntime(graph, feeds):
    session = onnxruntime.InferenceSession(to_onnx(graph).SerializeToString())
    return session.run(None, feeds)


def proved(package, model):
    """What stands for a proof that has been made."""
    return dict.fromkeys(package.dtypes)


@pytest.mark.parametrize("dtype", ROUNDED)
@pytest.mark.parametrize("opset", [13, 17, 18, 20, 26])
def test_bit_identical_in_the_reference_evaluator_by_primitives(tiny, dtype, opset):
    hparams, params = tiny
    rounded = VARIANTS[dtype].rounded(params)
    ids = np.random.default_rng(0).integers(0, 97, (3, 16))
    graph = trace_forward(rounded, hparams, target="primitives", opset=opset)
    (found,) = ReferenceEvaluator(to_onnx(graph)).run(None, {"input_ids": ids})
    np.testing.assert_array_equal(found, gpt2(ids, **rounded, n_head=3))


@pytest.mark.parametrize("dtype", VARIANTS)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("opset", [17, 20, 26])
def test_every_target_in_onnxruntime(tiny, dtype, target, opset):
    hparams, params = tiny
    rounded = VARIANTS[dtype].rounded(params)
    rng = np.random.default_rng(0)
    ids, last = rng.integers(0, 97, (3, 16)), rng.integers(0, 16, 3)
    exact, expected = (gpt2(ids, **tree, n_head=3) for tree in (params, rounded))
    options = {"target": target, "opset": opset}
    (found,) = in_onnxruntime(trace_forward(rounded, hparams, **options), {"input_ids": ids})
    np.testing.assert_allclose(found, expected, rtol=0, atol=most(expected, exact))
    graph = trace_next_logits(rounded, hparams, **options)
    (found,) = in_onnxruntime(graph, {"input_ids": ids, "last": last})
    wanted = expected[np.arange(3), last]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=most(expected, exact))


@pytest.mark.parametrize("dtype", ROUNDED)
@pytest.mark.parametrize("target", ["primitives", "portable"])
def test_the_graph_with_past(tiny, dtype, target):
    hparams, params = tiny
    variant = VARIANTS[dtype]
    rounded, rng = variant.rounded(params), np.random.default_rng(0)
    graph = trace_with_past(rounded, hparams, past=variant.past, target=target)
    assert {v.dtype for v in graph.inputs[3:] + graph.outputs[1:]} == {np.dtype(variant.past)}
    assert graph.outputs[0].dtype == np.float32
    past = [
        {n: rng.standard_normal((2, 3, 4, 8)).astype(variant.past) for n in ("key", "value")}
        for _ in range(2)
    ]
    feeds = {
        "input_ids": rng.integers(0, 97, (2, 3)),
        "attention_mask": np.array([[0, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 0]]),
        "position_ids": np.array([[3, 4, 5], [4, 5, 6]]),
    }
    (logits, present), (exact, exact_present) = (
        logits_with_past(**feeds, past_key_values=past, **tree, n_head=3)
        for tree in (rounded, params)
    )
    named = {f"past_key_values.{path}": array for path, array in leaves(past)}
    found = in_onnxruntime(graph, feeds | named)
    np.testing.assert_allclose(found[0], logits, rtol=0, atol=most(logits, exact))
    both = zip(leaves(present), leaves(exact_present), strict=True)
    for one, ((_, other), (_, exactly)) in zip(found[1:], both, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=0, atol=most(other, exactly))


@pytest.mark.parametrize("dtype", ROUNDED)
def test_a_row_does_not_depend_on_its_neighbours(tiny, dtype):
    """As it does where 8 bits are laid over a whole batch at once."""
    hparams, params = tiny
    rounded = VARIANTS[dtype].rounded(params)
    graph = trace_forward(rounded, hparams)
    session = onnxruntime.InferenceSession(to_onnx(graph).SerializeToString())
    ids = np.random.default_rng(0).integers(0, 97, (5, 16))
    (together,) = session.run(None, {"input_ids": ids})
    for row, logits in zip(ids, together, strict=True):
        (alone,) = session.run(None, {"input_ids": row[None]})
        np.testing.assert_array_equal(alone[0], logits)


@pytest.mark.parametrize("target", ["portable", "onnxruntime"])
def test_a_row_of_large_numbers_changes_nothing_in_the_others(target):
    rng = np.random.default_rng(0)
    w = quantize_matrix(rng.standard_normal((16, 8), np.float32), unsigned=True)
    x = rng.standard_normal((4, 16)).astype(np.float32)
    graph = trace(
        int8_matmul, Input(["batch", 16], np.float32, "x"), w["q"], w["scale"], target=target
    )
    (before,) = in_onnxruntime(graph, {"x": x})
    np.testing.assert_allclose(before, x @ w, rtol=1e-6)
    x[0] *= 1e6
    (after,) = in_onnxruntime(graph, {"x": x})
    np.testing.assert_array_equal(before[1:], after[1:])


def test_the_portable_graphs_are_of_standard_operators(tiny):
    hparams, params = tiny
    for dtype, op in (("float16", "MatMul"), ("int8", "MatMulInteger")):
        graph = trace_forward(VARIANTS[dtype].rounded(params), hparams)
        assert {node.domain for node in graph.nodes} == {""}
        assert sum(node.op == op for node in graph.nodes) >= 4 * hparams["n_layer"]
        assert not any("DynamicQuantize" in node.op for node in graph.nodes)


def test_a_folder_with_every_format(demo, tmp_path):
    directory = export(
        demo, tmp_path / "x", n_ctx=16, dtypes=["int8", "float32", "float16"], verify=proved
    ).directory
    package = open_package(directory)
    assert package.dtypes == ["float32", "float16", "int8"]
    names = {path.name for path in (directory / "onnx").iterdir()}
    assert names == {
        f"{stem}{suffix}.onnx{data}"
        for suffix in ("", "_fp16", "_quantized")
        for stem, data in (("model", ""), ("model", "_data"), ("forward", ""), ("next_logits", ""))
    }
    sizes = {
        dtype: (directory / "onnx" / VARIANTS[dtype].weights_file).stat().st_size
        for dtype in package.dtypes
    }
    assert sizes["float16"] < 0.55 * sizes["float32"]
    assert sizes["int8"] < 0.35 * sizes["float32"]
    shortened = {**demo.params, "wpe": demo.params["wpe"][:16]}
    for dtype in package.dtypes:
        expected = dict(leaves(VARIANTS[dtype].rounded(shortened)))
        found = package.params(dtype)
        assert dict(leaves(found)).keys() == expected.keys()
        for path, array in leaves(found):
            np.testing.assert_array_equal(array, expected[path], err_msg=path)
            assert array.dtype == expected[path].dtype
        gpt2(np.arange(5), **found, n_head=4)


@pytest.mark.parametrize("dtype", ROUNDED)
def test_an_output_projection_of_its_own(demo, tmp_path, dtype):
    params = {**demo.params, "lm_head": np.roll(demo.params["wte"], 1, axis=0)}
    untied = replace(demo, checkpoint=Checkpoint.in_memory(demo.hparams, params))
    package = export(untied, tmp_path / "x", n_ctx=8, dtypes=[dtype], verify=proved)
    found = package.params()
    assert "lm_head" in found
    ids = np.arange(8)
    logits, exact = (gpt2(ids, **tree, n_head=4) for tree in (found, untied.params))
    assert np.abs(logits - exact).mean() < 0.05 * exact.std()


def test_no_record_no_variant(demo, tmp_path):
    with pytest.raises(ExportError, match=r"dtypes \['int8'\] without `verify`"):
        export(demo, tmp_path / "x", dtypes=["int8"])
    with pytest.raises(ExportError, match="expected one or several of float32, float16, int8"):
        export(demo, tmp_path / "x", dtypes=["float64"])
    with pytest.raises(ExportError, match="expected one or several"):
        export(demo, tmp_path / "x", dtypes=[])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("found", [{}, {"float32": {}}, {"int8": {}, "float16": {}}])
def test_a_proof_of_other_formats(demo, tmp_path, found):
    with pytest.raises(ExportError, match="expected a record of each of float32, int8"):
        export(demo, tmp_path / "x", n_ctx=8, dtypes=["float32", "int8"], verify=lambda *_: found)
    assert not list(tmp_path.iterdir())


def test_beside_a_models_weights_there_is_only_what_they_are(demo):
    with pytest.raises(ExportError, match="is the model's own .* float16 would need others"):
        export(demo, DEMO_DIR, dtypes=["float16"], verify=proved)


def test_weights_that_float16_cannot_hold(demo, tmp_path):
    params = tree_map(lambda _, array: array.copy(), demo.params)
    params["blocks"][0]["mlp"]["c_proj"]["w"][0, 0] = 1e5
    large = replace(demo, checkpoint=Checkpoint.in_memory(demo.hparams, params))
    with pytest.raises(ExportError, match=r"demo in float16: blocks.0.mlp.c_proj.w: numbers up to"):
        export(large, tmp_path / "x", n_ctx=8, dtypes=["float16"], verify=proved)
    assert not list(tmp_path.iterdir())


Q, HALF = np.zeros((4, 3), np.uint8), np.zeros((4, 3), np.float16)


@pytest.mark.parametrize(
    ("name", "found", "right"),
    [
        ("a.w", {"a.w": HALF.astype(np.float32)}, True),
        ("a.w", {"a.w": HALF}, False),
        ("a.w", {"a.w.half": HALF}, True),
        ("a.w", {"a.w.half": HALF.T}, False),
        ("a.w", {"a.w.half": Q}, False),
        ("a.w", {"a.w.q": Q, "a.w.scale": np.zeros(3, np.float32)}, True),
        ("wte", {"wte.q": Q, "wte.scale": np.zeros(4, np.float32)}, True),
        ("wte", {"wte.q": Q, "wte.scale": np.zeros(3, np.float32)}, False),
        ("a.w", {"a.w.q": Q}, False),
        ("a.w", {"a.w.q": Q.T, "a.w.scale": np.zeros(3, np.float32)}, False),
        ("a.w", {"a.w.q": HALF, "a.w.scale": np.zeros(3, np.float32)}, False),
        ("a.w", {"a.w.scale": np.zeros(3, np.float32)}, False),
        ("a.w", {}, False),
    ],
)
def test_a_weight_is_read_only_as_it_must_be(name, found, right):
    assert (read_leaf(name, (4, 3), found) is not None) == right
