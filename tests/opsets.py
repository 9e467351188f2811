"""The opsets that tests try: where an operator of ours is new or another, and the newest."""

from exporter.model import least_ir_version
from exporter.tracer import OPSETS
from runner.reach import takes

TRIED = sorted({13, 17, 18, 20, *range(23, 29), OPSETS[-1]} & {*OPSETS})
IN_ONNXRUNTIME = [n for n in TRIED if takes(n, least_ir_version(n))]
