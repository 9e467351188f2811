"""Values of Arrow columns -> what JSON can write."""

import json
import math
from typing import Any

import pyarrow as pa

from .errors import InputError
from .messages import first_line, shown


def json_values(column: pa.Array, name: str) -> list[Any]:
    """A column as Python values that JSON or `json_line` can write; bad UTF-8 stays bytes.

    Raises
    ------
    InputError
        Naming the column.
    """
    try:
        kind = _without_nanoseconds(column.type)
        if not is_text(column.type):
            return list((column if kind == column.type else column.cast(kind)).to_pylist())
        try:
            return list(column.to_pylist())
        except UnicodeDecodeError:
            raw = column.cast(pa.large_string()).cast(pa.large_binary()).to_pylist()
            return [_decoded(value) for value in raw]
    except (pa.ArrowException, ValueError, OverflowError) as e:
        raise InputError(
            f"column {shown(name)} of type {column.type} cannot be written as JSON "
            f"({first_line(e)}). Write .parquet, which keeps it, or cast it."
        ) from None


def json_line(row: dict[str, Any]) -> bytes:
    """A row of such values as one JSON object."""
    try:
        text = json.dumps(row, ensure_ascii=False, default=_json_value, allow_nan=False)
    except ValueError:  # JSON has no NaN and no infinity
        text = json.dumps(_finite(row), ensure_ascii=False, default=_json_value)
    return text.encode()


def is_text(kind: pa.DataType) -> bool:
    """Whether a column holds texts, dictionaries of them included."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def _finite(value: Any) -> Any:
    """The same value with null for numbers that JSON cannot write."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _without_nanoseconds(kind: pa.DataType) -> pa.DataType:
    """A type with text for what Python has no type for: times finer than a microsecond."""
    if pa.types.is_temporal(kind) and getattr(kind, "unit", None) == "ns":
        return pa.int64() if pa.types.is_duration(kind) else pa.string()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        inner = _without_nanoseconds(kind.value_type)
        made = pa.list_(inner) if pa.types.is_list(kind) else pa.large_list(inner)
        return kind if inner == kind.value_type else made
    if pa.types.is_struct(kind):
        inner = pa.struct([pa.field(f.name, _without_nanoseconds(f.type)) for f in kind])
        return kind if [f.type for f in inner] == [f.type for f in kind] else inner
    return kind


def _decoded(value: bytes | None) -> str | bytes | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return value


def _json_value(value: Any) -> str:
    """JSON for what it has no form of its own: dates in ISO 8601, bytes and decimals as text."""
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    return str(value.isoformat()) if hasattr(value, "isoformat") else str(value)
