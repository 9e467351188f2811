"""The instants at which a job changes what lies on the disk: counted, one of them made the last.

Runs in a child of `server.py`. Besides that it keeps a journal of what would outlive a loss of
power: a file's content since its last fsync, a folder's names since the folder's own.
"""

import builtins
import functools
import io
import json
import os
import signal
from pathlib import Path

from runner.job_folder import JobFolder
from runner.places import Place
from runner.writer import JsonlWriter, ParquetRows

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
NAMES = ("replace", "rename", "link", "unlink", "remove", "rmdir", "mkdir", "truncate")


class Instants:
    """Counts the calls that change what lies below `root`.

    Parameters
    ----------
    root : Path
        Only what lies there counts.
    stop_at : int, optional
        The call to die at, counted from 1.
    after : bool
        Die when that call is done, not before it.
    fail_at, error : int, optional
        The call that fails, and with what errno; with `on`, the first so many of calls so named.
    journal : str, optional
        Where to write what is durable at that instant.
    shadow : str, optional
        A folder of the same disk that keeps hard links to what is durable.
    log : str, optional
        Gets a line for every call.
    """

    def __init__(
        self,
        root,
        stop_at=None,
        fail_at=None,
        error=None,
        on=None,
        journal=None,
        shadow=None,
        log=None,
        *,
        after=False,
    ):
        self.root = str(root)
        self.stop_at, self.after = stop_at, after
        self.fail_at, self.error, self.on = fail_at, error, on
        self.journal = journal
        self.shadow = shadow
        self.log = log and os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.n = self.n_on = 0
        self.inside = False
        self.files, self.folders = {}, {}
        self.real_fsync, self.real_link = os.fsync, os.link

    def install(self):
        if self.journal:
            for folder, _, names in os.walk(self.root):
                for name in names:
                    self.note_file(Path(folder, name).stat())
                self.note_folder(folder)
        for name in NAMES:
            self.wrap(os, name, lambda *args, **_: [a for a in args if not isinstance(a, int)])
        self.wrap(os, "open", self.opened)
        self.wrap(io, "open", self.opened_file)
        builtins.open = io.open
        self.wrap(os, "fsync", lambda handle: [path_of(handle)])
        self.wrap(Place, "remove", lambda place: [place.path])
        self.halve_small_writes()
        for owner, name in (
            (JsonlWriter, "write"),
            (ParquetRows, "__init__"),
            (ParquetRows, "_write_row_group"),
            (ParquetRows, "__exit__"),
        ):
            self.wrap(owner, name, lambda *_, **__: [self.root], nested=True)

    def wrap(self, owner, name, paths, *, nested=False):
        real = getattr(owner, name)

        @functools.wraps(real)
        def wrapped(*args, **kwargs):
            if self.inside or not any(map(self.concerns, paths(*args, **kwargs))):
                return real(*args, **kwargs)
            n = self.before(name)
            self.inside = not nested
            try:
                return self.fsync(*args) if name == "fsync" else real(*args, **kwargs)
            finally:
                self.inside = False
                self.done(n)

        setattr(owner, name, wrapped)

    def concerns(self, path):
        return os.path.abspath(os.fspath(path)).startswith(self.root)  # noqa: PTH100

    def opened(self, path, flags, *_, **__):
        return [path] if flags & WRITING else []

    def opened_file(self, path, mode="r", *_, **__):
        return [path] if set(mode) & set("wax") and not isinstance(path, int) else []

    def halve_small_writes(self):
        """A small file may be there half."""
        real = Path.write_bytes

        def write_bytes(path, data):
            if not self.concerns(path):
                return real(path, data)
            with path.open("wb") as stream:
                stream.write(data[: len(data) // 2])
                stream.flush()
                n = self.before("write")
                stream.write(data[len(data) // 2 :])
                stream.flush()
                self.done(n)
            return len(data)

        Path.write_bytes = write_bytes

    def before(self, name):
        """Count a call that is about to be made; returns its number."""
        self.n += 1
        self.n_on += name == self.on
        if self.log:
            os.write(self.log, f"{name}\n".encode())
        if self.fail_at == (self.n_on if self.on else self.n) and self.on in (None, name):
            raise OSError(self.error, os.strerror(self.error))
        if self.stop_at == self.n and not self.after:
            self.die()
        return self.n

    def done(self, n):
        if self.stop_at == n and self.after:
            self.die()

    def die(self):
        if self.journal:
            self.inside = True
            found = {"files": self.files, "folders": self.folders}
            Path(self.journal).write_text(json.dumps(found), "utf-8")
        os.kill(os.getpid(), signal.SIGKILL)

    # What is durable.

    def fsync(self, handle):
        if not self.journal:
            return  # the tests' disk need not be slow
        found = os.fstat(fileno(handle))
        path = path_of(handle)
        if path.is_dir():
            self.note_folder(path)
        else:
            self.note_file(found)
        return

    def note_file(self, found):
        self.files[str(found.st_ino)] = [found.st_size, found.st_mtime_ns]

    def note_folder(self, path):
        entries = {}
        for entry in os.scandir(path):
            inode = str(entry.inode())
            entries[entry.name] = [inode, entry.is_dir()]
            kept = Path(self.shadow, inode)
            if not entry.is_dir() and not kept.exists():
                self.real_link(entry.path, kept)
        self.folders[os.path.relpath(path, self.root)] = entries


def fileno(handle):
    return handle if isinstance(handle, int) else handle.fileno()


def path_of(handle):
    """What an open file is called."""
    return Path(f"/proc/self/fd/{fileno(handle)}").readlink()


def log_work(path):
    """Write down each row that is generated and each part that is done, as it happens."""
    from runner.intake import Intake

    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    commit, finish = JobFolder.commit, Intake.finish

    def committed(folder, part, record):
        commit(folder, part, record)
        os.write(handle, f"part {part.number} {part.rows.start} {part.rows.stop}\n".encode())

    def finished(intake, sequence):
        finish(intake, sequence)
        os.write(handle, f"row {sequence.prompt.row}\n".encode())

    JobFolder.commit, Intake.finish = committed, finished
