"""Integer products as this processor carries them out."""

import numpy as np
import pytest

from exporter import Input, TracedModel, to_onnx, trace
from reference.int8 import LIMIT, int8_matmul, quantize_matrix
from runner.engine import open_session
from runner.int8 import exact_signed


@pytest.mark.parametrize("kind", ["chosen", "unsigned"])
@pytest.mark.parametrize(("n_in", "n_out"), [(1, 1), (31, 5), (64, 16), (768, 70), (3072, 33)])
def test_products_of_the_largest_numbers_are_exact(n_in, n_out, kind):
    """In the kind that is chosen here, and in the other one to fall back on; any number of rows."""
    rng = np.random.default_rng(0)
    ends = np.array([-LIMIT, LIMIT], np.float32)
    w, x = rng.choice(ends, (n_in, n_out)), rng.choice(ends, (40, n_in))
    w[:, 0] = x[0] = LIMIT
    matrix = quantize_matrix(w, unsigned=kind == "unsigned" or not exact_signed())
    graph = trace(
        int8_matmul,
        Input(["batch", n_in], np.float32),
        matrix["q"],
        matrix["scale"],
        target="onnxruntime",
    )
    session = open_session(TracedModel(to_onnx(graph).SerializeToString(), None), threads=2)
    for rows in (1, 2, 3, 8, 17, 40):
        found = session.run(None, {session.get_inputs()[0].name: x[:rows]})[0]
        # In float64: sums of 3072 of the largest products are beyond what float32 adds exactly.
        exact = x[:rows].astype(np.float64) @ w
        np.testing.assert_array_equal(found, exact.astype(np.float32))
