"""GPT-2 traced: the graph against the very functions it was traced from."""

from collections import Counter

import numpy as np
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator

from exporter import (
    to_onnx,
    trace_forward,
    trace_next_logits,
    trace_prefill,
    trace_step,
    trace_with_past,
    writes_in_place,
)
from exporter.targets import TARGETS
from reference import HParams, gpt2, next_logits
from reference.generate import greedy_step
from reference.int8 import kv_scales
from reference.kv_cache import empty_cache
from reference.tree import leaves
from reference.with_past import logits_with_past
from tests import opsets

# onnxruntime against NumPy, in standard deviations of the logits: measured 1e-6 on these
# models; the formats' own bound for float32 is 2e-3.
TOLERANCE = 1e-5


def feeds_of(hparams, batch, seed=0):
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, hparams["n_vocab"], (batch, hparams["n_ctx"]))
    return ids, rng.integers(0, hparams["n_ctx"], batch)


@pytest.mark.parametrize("opset", opsets.TRIED)
@pytest.mark.parametrize("batch", [1, 3])
def test_bit_identical_in_the_reference_evaluator_by_primitives(tiny, opset, batch):
    hparams, params = tiny
    ids, last = feeds_of(hparams, batch)
    sizes = {"n_ctx": hparams["n_ctx"], "target": "primitives", "opset": opset}
    forward = ReferenceEvaluator(to_onnx(trace_forward(params, hparams, **sizes)))
    (found,) = forward.run(None, {"input_ids": ids})
    np.testing.assert_array_equal(found, gpt2(ids, **params, n_head=hparams["n_head"]))
    following = ReferenceEvaluator(to_onnx(trace_next_logits(params, hparams, **sizes)))
    (found,) = following.run(None, {"input_ids": ids, "last": last})
    expected = next_logits(ids, last, **params, n_head=hparams["n_head"])
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("opset", opsets.IN_ONNXRUNTIME)
@pytest.mark.parametrize("target", TARGETS)
def test_every_target_and_opset_in_onnxruntime(tiny, target, opset):
    hparams, params = tiny
    ids, last = feeds_of(hparams, 3)
    sizes = {"n_ctx": hparams["n_ctx"], "target": target, "opset": opset}
    graphs = {
        "forward": (trace_forward, {"input_ids": ids}),
        "next_logits": (trace_next_logits, {"input_ids": ids, "last": last}),
    }
    expected = gpt2(ids, **params, n_head=hparams["n_head"])
    for name, (trace_graph, feeds) in graphs.items():
        proto = to_onnx(trace_graph(params, hparams, **sizes))
        (found,) = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, feeds)
        reference = expected if name == "forward" else expected[np.arange(3), last]
        assert np.max(np.abs(found - reference)) <= TOLERANCE * np.std(expected)


def test_the_demo_model_bit_identical_too(demo):
    ids, _ = feeds_of(demo.hparams, 2)
    graph = trace_forward(
        demo.params, demo.hparams, n_ctx=demo.hparams["n_ctx"], target="primitives"
    )
    (found,) = ReferenceEvaluator(to_onnx(graph)).run(None, {"input_ids": ids})
    np.testing.assert_array_equal(found, gpt2(ids, **demo.params, n_head=demo.hparams["n_head"]))


def test_inputs_outputs_and_names(tiny):
    hparams, params = tiny
    graph = trace_forward(params, hparams, n_ctx=8)
    assert [str(value) for value in graph.inputs] == ["input_ids int64 [batch, 8]"]
    assert [str(value) for value in graph.outputs] == ["logits float32 [batch, 8, 97]"]
    assert "blocks.1.mlp.c_fc.w" in graph.weights
    assert len(graph.weights) == 4 + 12 * hparams["n_layer"]
    proto = to_onnx(graph)
    assert proto.ir_version == 8
    assert [(o.domain, o.version) for o in proto.opset_import] == [("", 17)]


def test_composites_make_the_graph_smaller(tiny):
    hparams, params = tiny

    def ops(**options):
        return Counter(n.op for n in trace_forward(params, hparams, n_ctx=16, **options).nodes)

    primitives, portable = ops(target="primitives"), ops()
    assert portable.total() < primitives.total()
    assert "LayerNormalization" not in primitives
    assert portable["LayerNormalization"] == 2 * hparams["n_layer"] + 1
    assert portable["Softmax"] == hparams["n_layer"]
    assert ops(opset=16)["LayerNormalization"] == 0
    assert ops(opset=20)["Gelu"] == hparams["n_layer"]
    assert ops(opset=22)["Attention"] == 0
    assert ops(opset=23)["Attention"] == hparams["n_layer"]
    assert ops(opset=23)["Softmax"] == 0
    assert ops(opset=23, target="primitives")["Attention"] == 0
    assert ops(target="onnxruntime")["FastGelu"] == hparams["n_layer"]
    # There it is no faster, see exporter/targets.py.
    assert ops(opset=23, target="onnxruntime")["Attention"] == 0


def test_gpt2_124m_sizes_of_the_graph():
    """Structure only, on weights that take no memory: the count of nodes in the documentation."""
    hparams = HParams(n_vocab=50257, n_ctx=1024, n_embd=768, n_head=12, n_layer=12)
    from reference import param_shapes
    from reference.tree import tree_map

    zeros = tree_map(lambda _, s: np.broadcast_to(np.float32(0), s), param_shapes(hparams))
    graph = trace_forward(zeros, hparams, n_ctx=32, target="primitives")
    assert str(graph.outputs[0]) == "logits float32 [batch, 32, 50257]"
    assert sum(w.size for w in graph.weights.values()) == 124_439_808


# The step of generation.


def step_feeds(hparams, *, n_seq, n_read, past, n_cap, scales=None, seed=0):
    rng = np.random.default_rng(seed)
    batch = len(past)
    cache = empty_cache(hparams, batch, n_cap, scales)
    for layer in cache:
        for name in ("k", "v"):
            numbers = rng.standard_normal(layer[name].shape)
            layer[name] = (numbers * (1 if scales is None else 40)).astype(layer[name].dtype)
    return {
        "inputs": rng.integers(0, hparams["n_vocab"], (batch, n_seq)),
        "past": np.array(past),
        "read": rng.integers(0, n_seq, (batch, n_read)),
    }, cache


def run_step(session, feeds, cache):
    return session.run(None, feeds | dict(keys_and_values(cache, "cache")))


def keys_and_values(cache, what):
    return [(f"{what}.{n}.{x}", layer[x]) for n, layer in enumerate(cache) for x in ("k", "v")]


STEPS = [
    {"n_seq": 1, "n_read": 1, "past": [5, 0, 11], "n_cap": 16},  # decode, ragged
    {"n_seq": 7, "n_read": 0, "past": [0, 0], "n_cap": 7},  # several begin
    {"n_seq": 4, "n_read": 2, "past": [6], "n_cap": 12},  # one goes on
]


@pytest.mark.parametrize("sizes", STEPS)
@pytest.mark.parametrize("choices", [slice(None), slice(90), np.array([3, 40, 96])])
@pytest.mark.parametrize("kept", ["float32", "int8"])
def test_the_step_bit_identical_in_the_reference_evaluator(tiny, sizes, choices, kept):
    hparams, params = tiny
    scales = kv_scales(params, hparams) if kept == "int8" else None
    graph = trace_step(params, hparams, choices=choices, kv_scales=scales, target="primitives")
    feeds, cache = step_feeds(hparams, **sizes, scales=scales)
    found = run_step(ReferenceEvaluator(to_onnx(graph)), feeds, cache)
    *results, grown = greedy_step(
        **feeds, cache=cache, choices=choices, **params, n_head=hparams["n_head"]
    )
    named = keys_and_values(grown, "grown")
    assert [value.name for value in graph.outputs[3:]] == [name for name, _ in named]
    expected = [*results, *(array for _, array in named)]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype


@pytest.mark.parametrize("sizes", STEPS)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("head", [8, 5])  # what GroupQueryAttention takes, and what it does not
@pytest.mark.parametrize("kept", ["float32", "int8"])
def test_the_step_of_every_target_in_onnxruntime(random_params, sizes, target, head, kept):
    hparams = HParams(n_vocab=97, n_ctx=16, n_embd=3 * head, n_head=3, n_layer=2)
    params = random_params(hparams)
    scales = kv_scales(params, hparams) if kept == "int8" else None
    graph = trace_step(params, hparams, kv_scales=scales, target=target)
    ops = Counter(node.op for node in graph.nodes)
    assert ops["GroupQueryAttention"] == (2 if target == "onnxruntime" and head == 8 else 0)
    assert ops["Attention"] == 0
    assert writes_in_place(hparams, target) == bool(ops["GroupQueryAttention"])
    assert_step_computes(graph, hparams, params, sizes, scales)


@pytest.mark.parametrize("opset", opsets.IN_ONNXRUNTIME[1:])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kept", ["float32", "int8"])
def test_the_step_of_every_opset_in_onnxruntime(random_params, opset, target, kept):
    """With ONNX's Attention where a target has it; `cached_attention` goes before it."""
    hparams = HParams(n_vocab=97, n_ctx=16, n_embd=24, n_head=3, n_layer=2)
    params = random_params(hparams)
    scales = kv_scales(params, hparams) if kept == "int8" else None
    graph = trace_step(params, hparams, kv_scales=scales, target=target, opset=opset)
    ops = Counter(node.op for node in graph.nodes)
    assert ops["GroupQueryAttention"] == (2 if target == "onnxruntime" else 0)
    assert ops["Attention"] == (2 if target == "portable" and opset >= 23 else 0)
    for sizes in STEPS:
        assert_step_computes(graph, hparams, params, sizes, scales)


def assert_step_computes(graph, hparams, params, sizes, scales):
    feeds, cache = step_feeds(hparams, **sizes, scales=scales)
    session = onnxruntime.InferenceSession(to_onnx(graph).SerializeToString())
    found = run_step(session, feeds, cache)
    tokens, logprobs, logits, grown = greedy_step(
        **feeds, cache=cache, choices=slice(None), **params, n_head=3
    )
    np.testing.assert_array_equal(found[0], tokens)
    np.testing.assert_allclose(found[1], logprobs, atol=1e-5)
    spread = gpt2(feeds["inputs"], **params, n_head=3).std()
    np.testing.assert_allclose(found[2], logits, rtol=0, atol=TOLERANCE * spread)
    # What a cache holds up to the last of the new tokens; behind it, nobody looks.
    for (_, one), other in zip(keys_and_values(grown, "grown"), found[3:], strict=True):
        for row, past in enumerate(feeds["past"]):
            end = past + sizes["n_seq"]
            np.testing.assert_allclose(one[row, :, :end], other[row, :, :end], atol=1e-5)


@pytest.mark.parametrize("sizes", STEPS[1:])
@pytest.mark.parametrize("kept", ["float32", "int8"])
def test_prefill_leaves_what_the_step_leaves(random_params, sizes, kept):
    """By attention in float32 in either case; in 8 bits the first block's numbers are the same."""
    hparams = HParams(n_vocab=97, n_ctx=16, n_embd=24, n_head=3, n_layer=2)
    params = random_params(hparams)
    scales = kv_scales(params, hparams) if kept == "int8" else None
    graph = trace_prefill(params, hparams, kv_scales=scales)
    attention = [node for node in graph.nodes if node.op == "GroupQueryAttention"]
    assert len(attention) == 2
    assert not any("kv_cache_bit_width" in node.attributes for node in attention)
    assert "ln_f.g" not in graph.weights  # nothing is read
    feeds, cache = step_feeds(hparams, **sizes, scales=scales)
    *_, grown = greedy_step(**feeds, cache=cache, choices=slice(None), **params, n_head=3)
    session = onnxruntime.InferenceSession(to_onnx(graph).SerializeToString())
    found = run_step(session, feeds, cache)
    for n, (one, other) in enumerate(zip(keys_and_values(grown, "grown"), found, strict=True)):
        for row, past in enumerate(feeds["past"]):
            end = past + sizes["n_seq"]
            expected = one[1][row, :, :end].astype(float)
            diff = np.abs(expected - other[row, :, :end])
            assert diff.max() <= (1e-5 if kept == "float32" else 0 if n < 2 else 1)


# The graph with past, which other programs drive.


def with_past_feeds(hparams, past, n_seq):
    """Rows with padding on either side, and a past of random numbers."""
    rng = np.random.default_rng(0)
    mask = np.ones((3, past + n_seq), np.int64)
    mask[0, :1], mask[1, -1:] = 0, 0
    shape = (3, hparams["n_head"], past, hparams["n_embd"] // hparams["n_head"])
    cache = [
        {name: rng.standard_normal(shape, np.float32) for name in ("key", "value")}
        for _ in range(hparams["n_layer"])
    ]
    return {
        "input_ids": rng.integers(0, hparams["n_vocab"], (3, n_seq)),
        "attention_mask": mask,
        "position_ids": np.maximum(np.cumsum(mask, axis=1) - 1, 0)[:, past:],
    }, cache


@pytest.mark.parametrize("opset", opsets.TRIED[1:])
@pytest.mark.parametrize(("past", "n_seq"), [(0, 5), (4, 1), (3, 2)])
def test_with_past_bit_identical_in_the_reference_evaluator(tiny, past, n_seq, opset):
    hparams, params = tiny
    graph = trace_with_past(params, hparams, target="primitives", opset=opset)
    feeds, cache = with_past_feeds(hparams, past, n_seq)
    logits, present = logits_with_past(**feeds, past_key_values=cache, **params, n_head=3)
    named = {f"past_key_values.{path}": array for path, array in leaves(cache)}
    found = ReferenceEvaluator(to_onnx(graph)).run(None, feeds | named)
    for one, other in zip(found, [logits, *(a for _, a in leaves(present))], strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("opset", opsets.IN_ONNXRUNTIME[1:])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("past", "n_seq"), [(0, 5), (4, 1), (3, 2)])
def test_with_past_in_onnxruntime_under_the_names_that_clients_know(
    tiny, target, past, n_seq, opset
):
    hparams, params = tiny
    graph = trace_with_past(params, hparams, target=target, opset=opset)
    shapes = {value.name: [str(n) for n in value.shape] for value in graph.inputs + graph.outputs}
    new, both = "sequence_length", "past_sequence_length + sequence_length"
    assert shapes["attention_mask"] == ["batch_size", both]
    assert shapes["past_key_values.1.value"][2] == "past_sequence_length"
    assert shapes["present.1.value"][2] == both
    assert shapes["logits"] == ["batch_size", new, "97"]
    feeds, cache = with_past_feeds(hparams, past, n_seq)
    logits, present = logits_with_past(**feeds, past_key_values=cache, **params, n_head=3)
    named = {f"past_key_values.{path}": array for path, array in leaves(cache)}
    session = onnxruntime.InferenceSession(to_onnx(graph).SerializeToString())
    found = session.run(None, feeds | named)
    assert [output.name for output in session.get_outputs()][:3] == [
        "logits",
        "present.0.key",
        "present.0.value",
    ]
    np.testing.assert_allclose(found[0], logits, rtol=0, atol=TOLERANCE * logits.std())
    for one, (_, other) in zip(found[1:], leaves(present), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)
