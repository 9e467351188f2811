"""Python's search for cycles of objects, which a stream of rows does not make."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

THRESHOLDS = (20_000, 20, 20)  # a chunk of rows alone is several thousand objects


@contextmanager
def rare_collections() -> Iterator[None]:
    """Look for cycles less often: by default that is a fifth of what a short row costs.

    The search goes on, so that what does hang in a cycle is given back all the same.
    """
    before = gc.get_threshold()
    gc.set_threshold(
        *(max(pair) if pair[0] else 0 for pair in zip(before, THRESHOLDS, strict=True))
    )
    try:
        yield
    finally:
        gc.set_threshold(*before)
