import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator

from exporter import ExportError, Input, Weights, check_file, save, to_onnx, trace
from exporter.graph import Graph, Node, Value
from exporter.model import least_ir_version, least_model, versions

W = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
X = Input(["batch", 64], np.float32, "x")


def linear(x, w, b):
    return x @ w + b


@pytest.fixture
def graph():
    return trace(linear, X, W, W[0].copy(), outputs=["y"])


def test_small_weights_stay_inside(tmp_path, graph):
    save(graph, tmp_path / "m.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


def test_large_weights_go_into_a_file_beside(tmp_path, graph):
    save(graph, tmp_path / "m.onnx", limit=1000)
    data = tmp_path / "m.onnx_data"
    assert data.stat().st_size == W.nbytes
    proto = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    places = {t.name: t.data_location for t in proto.graph.initializer}
    assert places == {"w": onnx.TensorProto.EXTERNAL, "b": onnx.TensorProto.DEFAULT}
    x = np.ones((2, 64), np.float32)
    for run in (
        ReferenceEvaluator(str(tmp_path / "m.onnx")).run,
        onnxruntime.InferenceSession(str(tmp_path / "m.onnx")).run,
    ):
        np.testing.assert_allclose(run(None, {"x": x})[0], linear(x, W, W[0]), atol=1e-5)


def test_weights_are_aligned_so_that_they_can_be_mapped():
    weights = Weights.lay_out("f", {"a": W[:, :33], "b": W, "tiny": W[0, :2]})
    assert weights.places == {"a": ("f", 0), "b": ("f", 12288)}


def test_weights_beyond_one_protobuf_message_are_refused_inside():
    # Broadcast from one number: three gigabytes that take no memory.
    huge = np.broadcast_to(np.float32(1), (3, 1024, 1024, 256))
    graph = trace(lambda x, w: x + w[0, 0, 0, :3], Input(["batch", 3], np.float32), huge)
    with pytest.raises(ExportError, match="one model file holds at most 2,147,483,647"):
        to_onnx(graph)


@pytest.mark.nightly
def test_weights_beyond_the_protobuf_limit_really_run(tmp_path):
    n = 24_000
    huge = np.full((n, n), 2, np.float32)
    graph = trace(lambda x, w: x @ w, Input(["batch", n], np.float32), huge, outputs=["y"])
    save(graph, tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx_data").stat().st_size > 2**31
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
    (y,) = session.run(None, {"x": np.ones((1, n), np.float32)})
    np.testing.assert_array_equal(y, np.full((1, n), 2 * n, np.float32))


def test_a_graph_that_onnx_refuses_is_never_handed_out():
    value = Value("y", np.dtype(np.float32), (2,))
    x = Value("x", np.dtype(np.float32), (3,))
    graph = Graph("bad", 17, [x], [value], [Node("Tanh", ("x",), ("y",), {})])
    with pytest.raises(ExportError, match="graph bad: .*"):
        to_onnx(graph)


def test_shapes_are_checked_even_where_weights_lie_outside(graph):
    graph.outputs = [Value("y", np.dtype(np.float32), (graph.outputs[0].shape[0], 65))]
    with pytest.raises(ExportError, match="graph linear: .*"):
        to_onnx(graph, Weights.lay_out("w", graph.weights))


def test_operators_are_checked_even_where_weights_lie_outside(graph):
    graph.nodes.append(Node("NoSuchOperator", ("x",), ("z",), {}))
    with pytest.raises(ExportError, match="NoSuchOperator"):
        to_onnx(graph, Weights.lay_out("w", graph.weights))


def test_a_damaged_model_file_is_named(tmp_path, graph):
    save(graph, tmp_path / "m.onnx", limit=1000)
    (tmp_path / "m.onnx_data").unlink()
    with pytest.raises(ExportError, match="m.onnx: .*expected a valid model"):
        check_file(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("opset", "least"), [(13, 7), (17, 8), (19, 9), (21, 10), (23, 11), (24, 12), (25, 13)]
)
def test_the_ir_version_is_the_smallest_or_the_one_chosen(opset, least):
    graph = trace(np.tanh, X, opset=opset)
    assert to_onnx(graph).ir_version == least_ir_version(opset) == least
    for ir_version in (least, onnx.IR_VERSION):
        assert to_onnx(graph, ir_version=ir_version).ir_version == ir_version
    for ir_version in (least - 1, onnx.IR_VERSION + 1, 0, -1, True, 8.0, "8"):
        with pytest.raises(ExportError, match=f"IR version .*: expected {least}, the smallest for"):
            to_onnx(graph, ir_version=ir_version)


def test_what_a_file_says_of_its_versions(tmp_path, graph):
    (tmp_path / "m.onnx").write_bytes(to_onnx(graph, ir_version=9).SerializeToString())
    assert versions(tmp_path / "m.onnx") == (17, 9)
    (tmp_path / "m.onnx").write_bytes(least_model(18, 10))
    assert versions(tmp_path / "m.onnx") == (18, 10)
    check_file(tmp_path / "m.onnx")


def test_the_same_graph_has_the_same_bytes(graph):
    again = trace(linear, X, W, W[0].copy(), outputs=["y"])
    one, two = (to_onnx(g).SerializeToString(deterministic=True) for g in (graph, again))
    assert one == two
