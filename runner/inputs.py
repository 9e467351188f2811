"""The files that an input stands for: one, those of a folder, those of a pattern, or a copy."""

import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit

from pyarrow import fs

from reference import DownloadError

from .errors import InputError, PlaceError
from .messages import is_unicode
from .places import NO_UNICODE, READ_ONLY, STDIO, Place, explained, place_of, scheme_of
from .storage import FORMATS, format_of
from .stores import shown_uri

PASSED_OVER = (".", "_")  # what names of files begin with that hold no rows
MANIFEST = ".manifest.json"
PARTS = ".parts"  # a folder of a job under way
WILDCARDS = frozenset("*?[")
ANY_DEPTH = "**"


@contextmanager
def input_files(source: str) -> Iterator[list[Place]]:
    """The files that an input stands for, in the order in which their rows are taken.

    Parameters
    ----------
    source : str
        `-`, a path or URI of a file, of a folder or with wildcards, or an http(s) address.

    Raises
    ------
    InputError
        Where there are none, they are of no format that we read or of two, or they cannot be
        reached.
    """
    if source == STDIO:
        if sys.stdin is None:
            raise InputError("-: stdin is closed; expected JSONL on it. Pipe a file into it.")
        with _copied(sys.stdin.buffer, "stdin.jsonl") as copy:
            yield [Place.local(copy, STDIO, is_copy=True)]
        return
    if scheme_of(source) in READ_ONLY and is_unicode(source):
        with _fetched(source) as copy:
            yield [copy]
        return
    try:
        place = place_of(source)
    except PlaceError as e:
        raise InputError(str(e)) from None
    if place.is_local and _is_read_once(place.path):
        _check_format(place.name, place.path)
        file = Path(place.path)
        with file.open("rb") as stream, _copied(stream, file.name) as copy:
            yield [Place.local(copy, source, is_copy=True)]
        return
    with explained(place, InputError):
        files = _files_at(place)
    _check_one_format(place.name, files)
    yield files


def _is_read_once(path: str) -> bool:
    """Whether it is a pipe or the like."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - a null byte is for this to refuse
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _files_at(place: Place) -> list[Place]:
    if "\0" in place.path:
        raise InputError(f"{place.name!a}: no path has a null byte. Check the path.")
    if place.is_folder():
        return _files_of_folder(place)
    if place.exists():
        _check_format(place.name, place.path)
        return [place]
    if not WILDCARDS.isdisjoint(place.path):
        return _files_of_pattern(place)
    bucket = replace(place, path=place.path.partition("/")[0])
    if not place.is_local and not bucket.exists():
        raise InputError(f"{place.name}: no such bucket; expected one that is there. Check it.")
    raise InputError(f"{place.name}: no such file; expected {FORMATS}. Check the path.")


def _files_of_folder(folder: Place) -> list[Place]:
    files = [
        _at(folder, *parts)
        for parts in _below(folder)
        if not _is_passed_over(parts) and format_of(parts[-1]) is not None
    ]
    if not files:
        raise InputError(
            f"{folder.name}: is a folder without a file to read; expected some of {FORMATS}. "
            f"Names that begin with {' or '.join(PASSED_OVER)} are passed over. Check the path."
        )
    return sorted(files, key=lambda file: file.path)


def _files_of_pattern(pattern: Place) -> list[Place]:
    parts = pattern.path.split("/")
    n_plain = next(i for i, part in enumerate(parts) if not WILDCARDS.isdisjoint(part))
    if n_plain == 0 and not pattern.is_local:
        raise InputError(f"{pattern.name}: a bucket's name has no wildcards. Write it in full.")
    start = "/".join(parts[:n_plain]) or ("/" if n_plain else "")
    folder = replace(pattern, name=pattern.name.removesuffix(pattern.path) + start, path=start)
    found = {file.path: file for file in _matching(folder, parts[n_plain:])}
    if not found:
        raise InputError(
            f"{pattern.name}: matches no file; expected some of {FORMATS}. Check the pattern: "
            f"it has to match files, not folders, and {ANY_DEPTH} stands for folders of any depth."
        )
    for file in found.values():
        _check_format(file.name, file.path)
    return [found[path] for path in sorted(found)]


def _matching(folder: Place, patterns: list[str]) -> Iterator[Place]:
    """Files below a folder, part of the path by part of the pattern."""
    pattern, rest = patterns[0], patterns[1:]
    if pattern == ANY_DEPTH:
        for parts in _below(folder):
            if _matches(parts, patterns):
                yield _at(folder, *parts)
        return
    for name, is_folder in _children(folder):
        if not _name_matches(name, pattern):
            continue
        if rest and is_folder:
            yield from _matching(_at(folder, name), rest)
        elif not rest and not is_folder:
            yield _at(folder, name)


def _matches(parts: tuple[str, ...], patterns: list[str]) -> bool:
    """Whether a path fits a pattern, each in its parts."""
    fits = [True] + [False] * len(parts)  # the patterns so far: the first n parts
    for pattern in patterns:
        if pattern == ANY_DEPTH:
            for n, part in enumerate(parts):
                fits[n + 1] = fits[n + 1] or (fits[n] and not _is_closed(part))
        else:
            fits = [False] + [
                fits[n] and _name_matches(parts[n], pattern) for n in range(len(parts))
            ]
    return fits[-1] and not (patterns[-1] == ANY_DEPTH and _is_passed_over(parts))


def _is_closed(part: str) -> bool:
    """Whether only its own name leads into a folder."""
    return part.startswith(PASSED_OVER) or part.endswith(PARTS)


def _name_matches(name: str, pattern: str) -> bool:
    """As a shell does it; files that a job leaves are not meant either, unless they are named."""
    if WILDCARDS.isdisjoint(pattern):
        return name == pattern
    if name.startswith(PASSED_OVER) and name[0] != pattern[0]:
        return False
    if name.endswith((MANIFEST, PARTS)) and not pattern.endswith((MANIFEST, PARTS)):
        return False
    return fnmatchcase(name, pattern)


def _is_passed_over(parts: tuple[str, ...]) -> bool:
    return (
        any(map(_is_closed, parts[:-1]))
        or parts[-1].startswith(PASSED_OVER)
        or parts[-1].endswith(MANIFEST)
    )


def _at(folder: Place, *parts: str) -> Place:
    """What lies in a folder; the current one has no name."""
    child = "/".join(parts)
    if not is_unicode(child):
        raise InputError(f"{folder.name or '.'}: {child!a}: {NO_UNICODE}")
    return folder / child if folder.path else replace(folder, name=child, path=child)


def _children(folder: Place) -> list[tuple[str, bool]]:
    """Names in a folder, and which are folders; nothing where there is none."""
    if folder.is_local:
        try:
            with os.scandir(folder.path or ".") as entries:
                return sorted((entry.name, entry.is_dir()) for entry in entries)
        except (FileNotFoundError, NotADirectoryError):
            return []
    selector = fs.FileSelector(folder.path, allow_not_found=True)
    return [
        (info.base_name, info.type == fs.FileType.Directory)
        for info in folder.filesystem.get_file_info(selector)
    ]


def _below(folder: Place) -> Iterator[tuple[str, ...]]:
    """The files in a folder and in those within, each as the parts of its path from there."""
    if folder.is_local:
        yield from _local_below(folder.path or ".", (), set())
        return
    selector = fs.FileSelector(folder.path, recursive=True, allow_not_found=True)
    for info in folder.filesystem.get_file_info(selector):
        if info.type == fs.FileType.File:
            yield tuple(info.path[len(folder.path) :].strip("/").split("/"))


def _local_below(
    folder: str, parts: tuple[str, ...], seen: set[tuple[int, int]]
) -> Iterator[tuple[str, ...]]:
    """Links are followed; a folder that several lead to is taken once."""
    try:
        found = os.stat(folder)  # noqa: PTH116 - see below
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    if (found.st_dev, found.st_ino) in seen:
        return
    seen.add((found.st_dev, found.st_ino))
    for entry in listed:
        if entry.is_dir():
            yield from _local_below(entry.path, (*parts, entry.name), seen)
        else:
            yield (*parts, entry.name)


def _check_format(name: str, path: str) -> None:
    if format_of(path) is None:
        raise InputError(f"{name}: no known format; expected {FORMATS}. Rename or convert it.")


def _check_one_format(source: str, files: list[Place]) -> None:
    first = files[0]
    for file in files:
        if format_of(file.path) != format_of(first.path):
            raise InputError(
                f"{source}: stands for files of two formats, {first.name} and {file.name}; "
                f"expected one. Take those of one, such as with */*{Path(file.path).suffix}."
            )


@contextmanager
def _fetched(url: str) -> Iterator[Place]:
    """A temporary copy of a file on the web."""
    from reference.download import fetch_file  # noqa: PLC0415 - most starts need no network

    shown = shown_uri(url)
    try:
        name = unquote(urlsplit(url).path).rpartition("/")[2]
    except ValueError as e:
        raise InputError(f"{shown}: {e}; expected an address. Check it.") from None
    _check_format(shown, name)
    with tempfile.TemporaryDirectory(prefix="picobatch-") as folder:
        copy = Path(folder) / f"fetched{''.join(Path(name).suffixes[-2:])}"
        try:
            fetch_file(url, copy)
        except DownloadError as e:
            raise InputError(str(e)) from None
        yield Place.local(copy, shown, is_copy=True)


@contextmanager
def _copied(stream: IO[bytes], name: str) -> Iterator[Path]:
    """A temporary copy of what can be read only once."""
    with tempfile.TemporaryDirectory(prefix="picobatch-") as folder:
        copy = Path(folder) / name
        try:
            with copy.open("wb") as target:
                shutil.copyfileobj(stream, target)
        except OSError as e:
            raise InputError(
                f"{name}: cannot be copied to {folder} ({e.strerror or e}). Set TMPDIR to a disk "
                "with room for it, or pass a file."
            ) from None
        yield copy
