"""Small JSON files that say when they are damaged."""

import hashlib
import json
from typing import Any

from .shape import is_deep

CONTENT, SEAL = "content", "sha256"


def seal(found: dict[str, Any]) -> bytes:
    """An object as JSON, with its hash beside it."""
    return json.dumps({CONTENT: found, SEAL: _hash(found)}, indent=1).encode() + b"\n"


def unseal(data: bytes) -> dict[str, Any]:
    """The object that `seal` made this of.

    Raises
    ------
    ValueError
        Where it is not what was written.
    """
    try:
        found = json.loads(data)
    except RecursionError as e:
        raise ValueError(str(e)) from None
    content = found.get(CONTENT) if isinstance(found, dict) else None
    if not isinstance(content, dict) or is_deep(content) or found.get(SEAL) != _hash(content):
        raise ValueError("not what was written")
    return content


def _hash(found: dict[str, Any]) -> str:
    text = json.dumps(found, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
