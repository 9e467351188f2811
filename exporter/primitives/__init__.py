"""One row per NumPy function: how it is written in standard ONNX operators.

A row takes the recorder and the call's own arguments and returns the name of its result.
Its signature is its contract: a keyword that it lacks is refused by name. Shapes and types
are NumPy's business (`recorder.py`); a row only refuses what NumPy would let pass on probes.
"""

from . import elementwise, lookup, shapes, sums
from .rows import Rows

PRIMITIVES = Rows(elementwise.ROWS | sums.ROWS | shapes.ROWS | lookup.ROWS)

__all__ = ["PRIMITIVES"]
