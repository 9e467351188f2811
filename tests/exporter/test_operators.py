"""What graphs of an export are made of: all of it is ours, and nothing else is run."""

import json

import onnx
import pytest
from onnx import TensorProto, helper

from exporter import ExportError, export, open_package
from exporter.operators import OPERATORS, stranger
from exporter.package import fingerprint
from exporter.targets import TARGETS
from exporter.variants import VARIANTS
from runner.parity import parity_record
from tests import opsets
from tests.fuzz import seeds


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exports")
    return [
        export(
            seeds.model(),
            folder / f"{target}-{opset}",
            opset=opset,
            n_ctx=8,
            target=target,
            dtypes=tuple(VARIANTS),
            verify=parity_record,
        )
        for opset, target in [*((n, "portable") for n in opsets.IN_ONNXRUNTIME)]
        + [(17, target) for target in TARGETS if target != "portable"]
    ]


def test_every_export_holds_only_these(exports):
    used = set()
    for package in exports:
        for path in package.directory.rglob("*.onnx"):
            model = onnx.load(path, load_external_data=False)
            assert stranger(model) is None
            used |= {(node.domain, node.op_type) for node in model.graph.node}
    known = {(domain, op) for domain, ops in OPERATORS.items() for op in ops}
    unused = {op for domain, op in known - used if domain == ""}
    assert unused <= {"Gelu", "GatherND"}, "an operator that no export holds is listed"


def loop(model):
    body = helper.make_graph([], "forever", [], [])
    model.graph.node.append(helper.make_node("Loop", ["", ""], ["x"], body=body))


def condition(model):
    empty = helper.make_graph([], "nothing", [], [])
    model.graph.node[0].attribute.append(helper.make_attribute("then_branch", empty))


def pattern(model):
    node = helper.make_node("RegexFullMatch", ["input_ids"], ["x"], pattern="(a+)+b")
    model.graph.node.append(node)


def function(model):
    node = helper.make_node("Abs", ["x"], ["y"])
    model.functions.append(
        helper.make_function("own", "f", ["x"], ["y"], [node], [helper.make_opsetid("", 17)])
    )


def other_domain(model):
    model.graph.node[0].domain = "com.example"


def sparse(model):
    values = helper.make_tensor("s", TensorProto.FLOAT, [1], [1.0])
    places = helper.make_tensor("i", TensorProto.INT64, [1], [0])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [2**40]))


def escape(model):
    model.graph.node[0].name = "\x1b[2J"


def constant(model):
    value = helper.make_tensor("v", TensorProto.FLOAT, [1], [1.0])
    model.graph.node[0].attribute.append(helper.make_attribute("value", value))


STRANGE = {
    loop: "the operator :Loop",
    condition: "a graph or a tensor inside of",
    pattern: "the operator :RegexFullMatch",
    function: "functions of its own",
    other_domain: "the operator com.example:",
    sparse: "sparse weights",
    escape: r"a name like '.x1b.2J'",
    constant: "a graph or a tensor inside of",
}


@pytest.mark.parametrize("edit", STRANGE, ids=lambda edit: edit.__name__)
def test_what_no_export_holds_is_not_run(demo, tmp_path, edit):
    directory = export(demo, tmp_path / "x", n_ctx=8).directory
    path = directory / "onnx" / "model.onnx"
    model = onnx.load(path, load_external_data=False)
    edit(model)
    path.write_bytes(model.SerializeToString())
    manifest = json.loads((directory / "manifest.json").read_text())
    manifest["files"]["onnx/model.onnx"] = fingerprint(path)
    (directory / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ExportError, match=f"holds {STRANGE[edit]}.*; expected a graph that"):
        open_package(directory)
