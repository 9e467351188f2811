"""Whether what JSON holds has the shape of what we write."""

import math
import re
from collections.abc import Callable
from typing import Any

from .messages import is_unicode

SHA256 = re.compile("[0-9a-f]{64}")
MOST_NESTED = 100  # levels; what we write has a dozen

# A test of one value; or a dict of what is needed by name; a list of whatever many alike; a tuple
# of one by one.
Shape = Any


def fits(found: Any, shape: Shape) -> bool:
    """Whether a value has a shape; of an object more names are fine."""
    if isinstance(shape, dict):
        return isinstance(found, dict) and all(
            name in found and fits(found[name], of) for name, of in shape.items()
        )
    if isinstance(shape, list):
        return isinstance(found, list) and all(fits(item, shape[0]) for item in found)
    if isinstance(shape, tuple):
        return (
            isinstance(found, list)
            and len(found) == len(shape)
            and all(fits(item, of) for item, of in zip(found, shape, strict=True))
        )
    return bool(shape(found))


def is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def is_token(value: Any) -> bool:
    """A count that a column of the output can hold."""
    return type(value) is int and 0 <= value < 2**31


def is_number(value: Any) -> bool:
    """Also one that is not finite."""
    return type(value) is float or (type(value) is int and abs(value) < 2**63)


def is_finite(value: Any) -> bool:
    return is_number(value) and math.isfinite(value)


def is_text(value: Any) -> bool:
    return isinstance(value, str) and is_unicode(value)


def is_sha256(value: Any) -> bool:
    """A hash as it stands in names of files too."""
    return isinstance(value, str) and SHA256.fullmatch(value) is not None


def or_none(shape: Shape) -> Callable[[Any], bool]:
    return lambda value: value is None or fits(value, shape)


def of_any_name(shape: Shape) -> Callable[[Any], bool]:
    """Of an object whose values have one shape, whatever they are called."""
    return lambda found: isinstance(found, dict) and all(fits(v, shape) for v in found.values())


def is_deep(found: Any) -> bool:
    """Whether a value is nested so deeply that not everybody can write it again."""
    layer = [found]
    for _ in range(MOST_NESTED):
        layer = [
            child
            for value in layer
            if isinstance(value, (dict, list))
            for child in (value.values() if isinstance(value, dict) else value)
        ]
        if not layer:
            return False
    return True
