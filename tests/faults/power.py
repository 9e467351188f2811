"""What a disk may hold after a loss of power, given what was durable."""

import json
import random
from pathlib import Path


class Loss:
    """Makes the folder that a loss of power leaves.

    Names that were given, taken or changed since their folder's fsync may be as they were before
    or as they are, each for itself; a file that was written to since its own may have any length.

    Parameters
    ----------
    folder : Path
        As a job left it that was killed.
    journal, shadow : Path
        What `Instants` wrote down, and its links to what is durable.
    choose : Random or None
        Decides for each name and each length; without it all that can be lost is lost.
    """

    def __init__(self, folder: Path, journal: Path, shadow: Path, choose: random.Random | None):
        self.folder, self.shadow, self.choose = folder, shadow, choose
        found = json.loads(journal.read_bytes())
        self.files, self.folders = found["files"], found["folders"]
        self.lost = 0

    def make(self, target: Path):
        """Write it to the new folder `target`; returns how many names and files were damaged."""
        self._folder(".", target)
        return self.lost

    def _folder(self, name, target):
        target.mkdir()
        durable = self.folders.get(name, {})
        now = self._now(name)
        for entry in sorted({*durable, *now}):
            before, after = durable.get(entry), now.get(entry)
            chosen = after
            if before != after and (self.choose is None or self.choose.random() < 0.5):
                chosen = before
                self.lost += 1
            if chosen is None:
                continue
            inode, is_folder = chosen
            inner = entry if name == "." else f"{name}/{entry}"
            if is_folder:
                self._folder(inner, target / entry)
            else:
                self._file(inner, inode, chosen is after, target / entry)

    def _now(self, name):
        place = self.folder / name
        if not place.is_dir():
            return {}
        return {p.name: [str(p.stat().st_ino), p.is_dir()] for p in place.iterdir()}

    def _file(self, name, inode, is_there, target):
        source = self.folder / name if is_there else self.shadow / inode
        found, data = source.stat(), source.read_bytes()
        if self.files.get(inode) != [found.st_size, found.st_mtime_ns]:
            data = data[: self.choose.randint(0, len(data))] if self.choose else b""
            self.lost += 1
        target.write_bytes(data)
