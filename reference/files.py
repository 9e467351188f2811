"""Small text and JSON files of a model, and what is wrong with them."""

import json
from pathlib import Path
from stat import S_ISREG
from typing import Any

from .errors import PicobatchError
from .messages import quoted

REMEDY = "Copy the file again from the model's source."
# Of a text; GPT-2's whole tokenizer takes 2 MB. Python takes up to 50 times as much for JSON.
MOST_BYTES = 1 << 25


def read_bytes(path: Path, error: type[PicobatchError], *, most: int = MOST_BYTES) -> bytes:
    """A plain file that is not larger than such files are.

    Raises
    ------
    PicobatchError
        Of the type `error`, where it is missing, another thing than a file, or too large.
    """
    try:
        stat = path.stat()
        if not S_ISREG(stat.st_mode):
            raise error(f"{path}: is no file; expected one. {REMEDY}")
        if stat.st_size > most:
            raise error(f"{path}: has {stat.st_size:,} bytes; expected {most:,} at most. {REMEDY}")
        return path.read_bytes()
    except OSError as e:
        raise error(f"{path}: {e.strerror or e}; expected a file to read. {REMEDY}") from None


def read_text(path: Path, error: type[PicobatchError], *, most: int = MOST_BYTES) -> str:
    """A file in UTF-8, with or without a byte order mark.

    Raises
    ------
    PicobatchError
        Of the type `error`, where it is missing or no text.
    """
    try:
        return read_bytes(path, error, most=most).decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise error(
            f"{path}: byte {e.start} is not UTF-8; expected a text file. {REMEDY}"
        ) from None


def read_object(
    path: Path, error: type[PicobatchError], *, most: int = MOST_BYTES
) -> dict[str, Any]:
    """A JSON file that holds one object.

    Raises
    ------
    PicobatchError
        Of the type `error`, where it does not.
    """
    try:
        found = json.loads(read_text(path, error, most=most))
    except (ValueError, RecursionError) as e:
        raise error(f"{path}: not JSON ({str(e)[:120]}); expected one object. {REMEDY}") from None
    return as_object(found, str(path), error)


def as_object(found: Any, where: str, error: type[PicobatchError]) -> dict[str, Any]:
    """What was read from JSON, if it is an object.

    Raises
    ------
    PicobatchError
        Of the type `error`, where it is not.
    """
    if not isinstance(found, dict):
        raise error(f"{where}: is {quoted(found)}; expected a JSON object. {REMEDY}")
    return found
