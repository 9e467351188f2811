"""GPT-2 traced: the graph against the very functions it was traced from."""

from collections import Counter

import numpy as np
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator

from exporter import to_onnx, trace_forward, trace_next_logits
from exporter.targets import TARGETS
from reference import HParams, gpt2, next_logits

# onnxruntime against NumPy, in standard deviations of the logits: measured 1e-6 on these
# models; the formats' own bound for float32 is 2e-3.
TOLERANCE = 1e-5


def feeds_of(hparams, batch, seed=0):
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, hparams["n_vocab"], (batch, hparams["n_ctx"]))
    return ids, rng.integers(0, hparams["n_ctx"], batch)


@pytest.mark.parametrize("opset", [13, 17, 18, 20, 23, 26])
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


@pytest.mark.parametrize("opset", [13, 17, 18, 20, 23, 26])
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
    assert ops(target="onnxruntime")["FastGelu"] == hparams["n_layer"]


def test_gpt2_124m_sizes_of_the_graph():
    """Structure only, on weights that take no memory: the count of nodes in the documentation."""
    hparams = HParams(n_vocab=50257, n_ctx=1024, n_embd=768, n_head=12, n_layer=12)
    from reference import param_shapes
    from reference.tree import tree_map

    zeros = tree_map(lambda _, s: np.broadcast_to(np.float32(0), s), param_shapes(hparams))
    graph = trace_forward(zeros, hparams, n_ctx=32, target="primitives")
    assert str(graph.outputs[0]) == "logits float32 [batch, 32, 50257]"
    assert sum(w.size for w in graph.weights.values()) == 124_439_808
