"""The files that an input stands for: one, those of a folder, those of a pattern, or a copy."""

import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit

from pyarrow import fs

from reference import DownloadError
from reference.progress import say

from .errors import InputError, PlaceError
from .messages import is_unicode, printable, shown
from .passed import A_JOBS, AGAIN, JOB, PARTS, PASSED_OVER, Parts, Passed, Tree
from .places import (
    NO_UNICODE,
    READ_ONLY,
    STDIO,
    Place,
    explained,
    no_uri,
    place_of,
    scheme_of,
)
from .storage import FORMATS, MANIFEST_SUFFIX, format_of, manifest_of
from .stores import shown_uri

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
        passed = Passed()
        try:
            files = _files_at(place, passed)
        except InputError:
            if not passed.any_output:
                raise
            passed = Passed(takes_outputs=True)
            files = _files_at(place, passed)
    _check_one_format(place.name, files)
    if told := str(passed):
        say(printable(f"{place.name}: {_count(files)}; passed over {told}"))
    yield files


def _count(files: list[Place]) -> str:
    return f"{len(files):,} file{'s' if len(files) > 1 else ''}"


def _is_read_once(path: str) -> bool:
    """Whether it is a pipe or the like."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - a null byte is for this to refuse
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _files_at(place: Place, passed: Passed) -> list[Place]:
    if "\0" in place.path:
        raise InputError(f"{place.name!a}: no path has a null byte. Check the path.")
    if place.is_folder():
        return _files_of_folder(place, passed)
    if place.exists():
        _check_format(place.name, place.path)
        return [place]
    if not WILDCARDS.isdisjoint(place.path):
        return _files_of_pattern(place, passed)
    bucket = replace(place, path=place.path.partition("/")[0])
    if not place.is_local and not bucket.exists():
        raise InputError(f"{place.name}: no such bucket; expected one that is there. Check it.")
    raise InputError(f"{place.name}: no such file; expected {FORMATS}. Check the path.")


def _files_of_folder(folder: Place, passed: Passed) -> list[Place]:
    tree = Tree(frozenset(_below(folder)))
    files = []
    for parts in tree.files:
        if (found := tree.passed_over(parts, outputs_too=passed.takes_outputs)) is not None:
            passed.add(found[0], _name_in(folder, found[1]))
        elif not parts[-1].endswith(MANIFEST_SUFFIX):
            files.append(_at(folder, *parts))
    files = _each_once(files, passed)
    if not files:
        raise InputError(
            f"{folder.name}: is a folder without a file to read; expected some of {FORMATS}"
            f"{_and(passed)}. Check the path."
        )
    return files


def _each_once(files: Iterable[Place], passed: Passed) -> list[Place]:
    """Files by their paths; of links and the files that they lead to only the files."""
    taken: dict[str, Place] = {}
    seen: set[tuple[int, int]] = set()
    for file in sorted(files, key=lambda file: (file.is_link, file.path)):
        if (inode := _inode(file)) is not None and inode in seen:
            passed.add(AGAIN, file.name)
            continue
        if file.is_link and not passed.takes_outputs and manifest_of(file).exists():
            passed.add(A_JOBS, file.name)
            continue
        if inode is not None:
            seen.add(inode)
        taken[file.path] = file
    return [taken[path] for path in sorted(taken)]


def _inode(file: Place) -> tuple[int, int] | None:
    """What a file is on this machine, whatever it is called; None where that cannot be seen."""
    if not file.is_local:
        return None
    try:
        found = Path(file.path).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _and(passed: Passed) -> str:
    """What more was passed over, in a message, and how it is taken nevertheless."""
    told = str(passed)
    return (
        f". Passed over are {told}; such a file is read where it is named in full" if told else ""
    )


def _files_of_pattern(pattern: Place, passed: Passed) -> list[Place]:
    parts = pattern.path.split("/")
    n_plain = next(i for i, part in enumerate(parts) if not WILDCARDS.isdisjoint(part))
    if n_plain == 0 and not pattern.is_local:
        raise InputError(f"{pattern.name}: a bucket's name has no wildcards. Write it in full.")
    start = "/".join(parts[:n_plain]) or ("/" if n_plain else "")
    name = start if pattern.is_local else pattern.name.removesuffix(pattern.path) + start
    folder = replace(pattern, name=name, path=start)
    found = _each_once(_matching(folder, parts[n_plain:], passed), passed)
    if not found and (told := str(passed)):
        raise InputError(
            f"{pattern.name}: matches only files that are passed over: {told}; expected others. "
            "Name such a file in full to read it."
        )
    if not found:
        raise InputError(
            f"{pattern.name}: matches no file; expected some of {FORMATS}. Check the pattern: "
            f"it has to match files, not folders, and {ANY_DEPTH} stands for folders of any depth."
        )
    for file in found:
        _check_format(file.name, file.path)
    return found


def _matching(folder: Place, patterns: list[str], passed: Passed) -> Iterator[Place]:
    """Files below a folder, part of the path by part of the pattern."""
    pattern, rest = patterns[0], patterns[1:]
    if pattern == ANY_DEPTH:
        tree = Tree(frozenset(_below(folder)))
        found = [parts for parts in tree.files if _matches(parts, patterns, tree)]
    else:
        children = _children(folder)
        tree = Tree(frozenset((name,) for name, is_folder in children if not is_folder))
        named = [child for child in children if _name_matches(child[0], pattern)]
        for name, is_folder in named:
            if rest and is_folder and not _is_job_matched(folder, name, pattern):
                yield from _matching(_at(folder, name), rest, passed)
        found = [(name,) for name, is_folder in named if not rest and not is_folder]
    for parts in found:
        if not passed.takes_outputs and tree.is_output(parts):
            passed.add(A_JOBS, _name_in(folder, parts))
        else:
            yield _at(folder, *parts)


def _is_job_matched(folder: Place, name: str, pattern: str) -> bool:
    """Whether a folder is of a job under way and the pattern does not ask for such."""
    return not _is_meant(name, pattern, PARTS) and (_at(folder, name) / JOB).exists()


def _matches(parts: Parts, patterns: list[str], tree: Tree) -> bool:
    """Whether a path fits a pattern, each in its parts."""
    jobs = [tree.is_job(parts[: n + 1]) for n in range(len(parts))]
    fits = [True] + [False] * len(parts)  # the patterns so far: the first n parts
    for pattern in patterns:
        if pattern == ANY_DEPTH:
            for n, part in enumerate(parts):
                closed = jobs[n] or part.startswith(PASSED_OVER)
                fits[n + 1] = fits[n + 1] or (fits[n] and not closed)
        else:
            fits = [False] + [
                fits[n]
                and _name_matches(part, pattern)
                and (not jobs[n] or _is_meant(part, pattern, PARTS))
                for n, part in enumerate(parts)
            ]
    if patterns[-1] == ANY_DEPTH and parts[-1].startswith(PASSED_OVER):
        return False
    return fits[-1] and _is_meant(parts[-1], patterns[-1], MANIFEST_SUFFIX)


def _name_matches(name: str, pattern: str) -> bool:
    """As a shell does it; manifests are not meant either, unless they are named."""
    if WILDCARDS.isdisjoint(pattern):
        return name == pattern
    if name.startswith(PASSED_OVER) and name[0] != pattern[0]:
        return False
    return _is_meant(name, pattern, MANIFEST_SUFFIX) and fnmatchcase(name, pattern)


def _is_meant(name: str, pattern: str, ending: str) -> bool:
    """Whether a pattern asks for what a job leaves, where a name ends like that."""
    return not name.endswith(ending) or pattern.endswith(ending)


def _name_in(folder: Place, parts: Parts) -> str:
    """What the user calls a file in a folder; the current one has no name."""
    child = "/".join(parts)
    return (folder / child).name if folder.path else child


def _at(folder: Place, *parts: str) -> Place:
    """What lies in a folder; the current one has no name."""
    child = "/".join(parts)
    if not is_unicode(child):
        raise InputError(f"{folder.name or '.'}: {child!a}: {NO_UNICODE}")
    return folder / child if folder.path else replace(folder, name=child, path=no_uri(child))


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


def _below(folder: Place) -> Iterator[Parts]:
    """The files in a folder and in those within, each as the parts of its path from there."""
    if folder.is_local:
        yield from _local_below(folder.path or ".", (), set())
        return
    selector = fs.FileSelector(folder.path, recursive=True, allow_not_found=True)
    for info in folder.filesystem.get_file_info(selector):
        if info.type == fs.FileType.File:
            yield tuple(info.path[len(folder.path) :].strip("/").split("/"))


def _local_below(folder: str, parts: Parts, seen: set[tuple[int, int]]) -> Iterator[Parts]:
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
        if not is_unicode(file.path):
            raise InputError(
                f"{shown(file.name)}: its name is not UTF-8; expected one that is. Rename it."
            )
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
