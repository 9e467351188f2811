"""Which versions of ONNX the installed onnxruntime takes; asked only where it refuses a model."""

from pathlib import Path

from exporter import TracedModel
from exporter.model import IR_VERSIONS, least_ir_version, least_model, versions
from exporter.tracer import OPSETS

from .engine import RUNTIME_ERRORS, open_session, runtime_version


def takes(opset: int, ir_version: int) -> bool:
    """Whether onnxruntime runs models of these versions at all."""
    try:
        open_session(TracedModel(least_model(opset, ir_version), None), threads=1)
    except RUNTIME_ERRORS:
        return False
    return True


def beyond_runtime(path: Path) -> str | None:
    """What is wrong where onnxruntime takes no model of a file's versions; None where it does."""
    try:
        opset, ir_version = versions(path)
    except Exception:  # noqa: BLE001 (a damaged protobuf fails in many ways)
        return None
    if takes(opset, ir_version):
        return None
    opsets = [n for n in OPSETS if takes(n, least_ir_version(n))]
    ir_versions = [n for n in IR_VERSIONS if takes(OPSETS[0], n)]
    if not (opsets and ir_versions):
        return None
    return (
        f"{path.name}: opset {opset}, IR version {ir_version}; onnxruntime {runtime_version()}, "
        f"which checks it, takes opsets up to {opsets[-1]} and IR versions up to {ir_versions[-1]}."
        " Export for those (--opset, --ir-version), or install a newer onnxruntime."
    )
