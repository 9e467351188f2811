"""A parser on trial: the files that it reads, and a call that reads them.

An input is a byte that chooses one of a target's files, and what this file then holds.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from stat import S_ISREG
from typing import Any

from reference import cache

from . import seeds
from .law import BreachError, obey
from .mutate import Mutator, Random

OUTSIDE = "canary"  # a file that nothing may touch
UNTOUCHED = b'{"prompt": "untouched"}\n'  # which rows of a file would be
TRIED_CACHE = seeds.ROOT / "cache"  # no job of another target starts with what was damaged here


@dataclass
class Target:
    """A parser on trial.

    Attributes
    ----------
    make : callable
        A folder of real files, which are left as they are.
    files : dict of str to Mutator
        Those that an input may replace, and how each is changed.
    call : callable
        Reads the folder, given the name of the file that was replaced.
    write : callable, optional
        Puts what an input holds into the folder, with checksums that are right again.
    seeds : dict of str to list of bytes
        What such a file may hold beside what it does.
    """

    make: Callable[[], Path]
    files: dict[str, Mutator]
    call: Callable[[Path, str], Any]
    write: Callable[[Path, str, bytes], None] | None = None
    seeds: dict[str, list[bytes]] = field(default_factory=dict)

    @cached_property
    def folder(self) -> Path:
        """A copy that is written to, in a folder of its own."""
        box = seeds.ROOT / f"box-{id(self)}"
        box.mkdir()
        (box / OUTSIDE).write_bytes(UNTOUCHED)
        return Path(shutil.copytree(self.make(), box / "folder"))

    def inputs(self) -> list[bytes]:
        """Real ones, to begin with."""
        found = []
        for n, name in enumerate(self.files):
            path = self.make() / name
            whole = [path.read_bytes()] if path.is_file() else []
            found += [bytes([n]) + content for content in [*whole, *self.seeds.get(name, [])]]
        return found

    def change(self, rng: Random, data: bytes) -> bytes:
        """Another input that is like this one."""
        if not data:
            return rng.choice(self.inputs())
        names = list(self.files)
        return data[:1] + self.files[names[data[0] % len(names)]](rng, data[1:])

    def try_input(self, data: bytes) -> Exception | None:
        """Hold the parser to the law; returns the error of ours, if it came to one."""
        names = list(self.files)
        name = names[data[0] % len(names)] if data else names[0]
        folder = self.folder
        before = {*folder.parent.iterdir()}
        (self.write or write)(folder, name, data[1:])
        try:
            error = obey(
                lambda: self.call(folder, name),
                *(folder, cache.folder(), TRIED_CACHE, seeds.huggingface_dir()),
            )
        finally:
            _restore(self.make(), folder)
        after = {*folder.parent.iterdir()}
        if before != after or (folder.parent / OUTSIDE).read_bytes() != UNTOUCHED:
            raise BreachError(f"wrote outside of its folder: {sorted(after)}")
        return error


def write(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)


def _restore(original: Path, folder: Path) -> None:
    """Make a copy what it was, whatever is in its place now."""
    kept = {path.relative_to(original): path for path in original.rglob("*")}
    for path in sorted(folder.rglob("*"), reverse=True):  # what is in a folder before the folder
        was = kept.get(path.relative_to(folder))
        if is_folder(path):
            if was is None or not was.is_dir():
                path.rmdir()
        elif was is None or was.is_dir() or not S_ISREG(path.lstat().st_mode):
            path.unlink()
    for name, path in sorted(kept.items()):
        copy = folder / name
        if path.is_dir():
            copy.mkdir(exist_ok=True)
            continue
        found, expected = copy.stat() if copy.is_file() else None, path.stat()
        # Copied with its time: another one was written to.
        if found is None or (found.st_size, found.st_mtime_ns) != (
            expected.st_size,
            expected.st_mtime_ns,
        ):
            shutil.copy2(path, copy)


def is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
