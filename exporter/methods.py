"""What a tracer offers as an array's methods: the functions with the rows."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .primitives.elementwise import astype


def _astype_method(x: Any, dtype: Any) -> Any:
    return x.recorder.call(astype, (x, dtype), {})


def _reshape_method(x: Any, *shape: Any) -> Any:
    return np.reshape(x, shape[0] if len(shape) == 1 else shape)


def _transpose_method(x: Any, *axes: Any) -> Any:
    return np.transpose(x, axes[0] if len(axes) == 1 else axes or None)


METHODS: dict[str, Callable[..., Any]] = {
    "argmax": np.argmax,
    "argmin": np.argmin,
    "astype": _astype_method,
    "clip": np.clip,
    "copy": np.copy,
    "cumsum": np.cumsum,
    "dot": np.dot,
    "flatten": np.ravel,
    "max": np.max,
    "mean": np.mean,
    "min": np.min,
    "prod": np.prod,
    "ravel": np.ravel,
    "reshape": _reshape_method,
    "round": np.round,
    "squeeze": np.squeeze,
    "std": np.std,
    "sum": np.sum,
    "swapaxes": np.swapaxes,
    "take": np.take,
    "transpose": _transpose_method,
    "var": np.var,
}
