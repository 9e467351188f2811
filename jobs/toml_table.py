"""A TOML file, and all that is wrong with it: told at once, each fault with file, line and keys."""

import hashlib
import re
import tomllib
from pathlib import Path
from stat import S_ISREG
from typing import Any

from reference.messages import message
from runner.errors import SettingsError
from runner.messages import cut, printable, shown
from runner.shape import is_deep

from .tasks.kind import OptionShape, told, unknown

Keys = tuple[str, ...]

MOST_BYTES = 1 << 18  # of a job file
MOST_DOTS = 200  # on a line: the parser takes time by the square of a key's parts
MOST_LINES, MOST_CHARACTERS = 500, 1 << 15  # of a file whose faults are told with their lines
TOLD_FAULTS, TOLD_CHARACTERS = 20, 3500  # of a message; the rest is counted
BARE_KEY = re.compile(r"[A-Za-z0-9_-]{1,60}\Z", re.ASCII)
POSITION = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)\Z")


class JobFileError(SettingsError):
    """A job file with faults; its text is a line for each."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults

    def __str__(self) -> str:
        lines: list[str] = []
        length = 0
        for fault in self.faults[:TOLD_FAULTS]:
            line = message(fault)
            length += len(line)
            if lines and length > TOLD_CHARACTERS:
                break
            lines.append(line)
        more = len(self.faults) - len(lines)
        return "\n".join([*lines, *([f"... and {more:,} faults more."] if more else [])])


class TomlFile:
    """A file that holds TOML.

    Parameters
    ----------
    path : Path
        Where it lies.

    Attributes
    ----------
    name : str
        What messages call it.
    sha256 : str
        Of its bytes.
    root : Table
        What it holds.

    Raises
    ------
    JobFileError
        Where it cannot be read, or is no TOML.
    """

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        content = _content(path, self.name)
        self.sha256 = hashlib.sha256(content).hexdigest()
        self._faults: list[tuple[Keys, str]] = []
        for number, line in enumerate(content.split(b"\n"), 1):
            n_dots = line.count(b".")
            if n_dots > MOST_DOTS:
                raise JobFileError(
                    [
                        f"{self.name}:{number}: has {n_dots:,} dots; expected {MOST_DOTS} at most "
                        "on a line. Break it, or correct it."
                    ]
                )
        try:
            self._text = content.decode("utf-8-sig")
            found = tomllib.loads(self._text)
        except UnicodeDecodeError as e:
            number = content.count(b"\n", 0, e.start) + 1
            raise JobFileError(
                [f"{self.name}:{number}: byte {e.start} is not UTF-8; expected TOML. Save it so."]
            ) from None
        except RecursionError:
            raise JobFileError(
                [f"{self.name}: is nested too deeply; expected a job file. Correct it."]
            ) from None
        except ValueError as e:
            raise JobFileError([_no_toml(self.name, e)]) from None
        if is_deep(found):
            raise JobFileError(
                [f"{self.name}: is nested too deeply; expected a job file. Correct it."]
            )
        self.root = Table(self, (), found)
        self._refuse_large_numbers(found)

    def fault(self, keys: Keys, said: str) -> None:
        """Take down what is wrong at some place."""
        self._faults.append((keys, said))

    def check(self) -> None:
        """Make sure that nothing was taken down.

        Raises
        ------
        JobFileError
            With all of it, in the order of the file where that is known.
        """
        if not self._faults:
            return
        lines = self._lines()
        placed = sorted(
            ((_line_of(keys, lines), keys, said) for keys, said in self._faults),
            key=lambda fault: fault[0],
        )
        where = [f"{self.name}:{line}" if line else self.name for line, _, _ in placed]
        raise JobFileError(
            [
                f"{at}: {dotted(keys)} {said}"
                for at, (_, keys, said) in zip(where, placed, strict=True)
            ]
        )

    def _refuse_large_numbers(self, found: dict[str, Any]) -> None:
        """TOML's integers have 64 bits; what Python reads beyond them breaks where it is used."""
        waiting: list[tuple[Keys, Any]] = [((), found)]
        while waiting:
            keys, value = waiting.pop()
            if isinstance(value, dict):
                waiting += [((*keys, key), child) for key, child in value.items()]
            elif isinstance(value, list):
                waiting += [(keys, child) for child in value]
            elif type(value) is int and not -(2**63) <= value < 2**63:
                self.fault(keys, "is a number beyond 64 bits, which TOML has not. Correct it.")
        self.check()

    def _lines(self) -> dict[Keys, int]:
        """The line on which each key first stands, as far as that can be told.

        What the first lines of a document define is found by parsing them alone: a value over
        several lines has begun after the last line with which the document was whole.
        """
        lines = self._text.split("\n")
        found: dict[Keys, int] = {}
        if len(lines) > MOST_LINES or len(self._text) > MOST_CHARACTERS:
            return found
        begun = 1
        for n in range(1, len(lines) + 1):
            try:
                document = tomllib.loads("\n".join(lines[:n]))
            except ValueError:
                continue
            _note(document, (), begun, found)
            begun = n + 1
        return found


class Table:
    """A table of a file. What is taken from it is known; all else is a fault.

    Parameters
    ----------
    file : TomlFile
    keys : tuple of str
        Down to it.
    found : dict
        What it holds.
    """

    def __init__(self, file: TomlFile, keys: Keys, found: dict[str, Any]) -> None:
        self.file, self.keys, self.found = file, keys, found
        self._known: list[str] = []

    def fault(self, key: str, said: str) -> None:
        """Take down what is wrong with a key."""
        self.file.fault((*self.keys, key), said)

    def take(self, key: str, shape: OptionShape) -> Any:
        """The value of a key; its default where it is not there, or not what is expected."""
        self._known.append(key)
        if key not in self.found:
            if shape.required:
                self.fault(key, f"is missing; expected {shape.expected}. Add it.")
            return shape.default
        value = self.found[key]
        if not shape.accepts(value):
            self.fault(key, f"is {told(value)}; expected {shape.expected}. Correct it.")
            return shape.default
        return value

    def table(self, key: str) -> "Table":
        """A table within; an empty one where there is none."""
        self._known.append(key)
        value = self.found.get(key, {})
        if not isinstance(value, dict):
            self.fault(key, f"is {told(value)}; expected a table. Correct it.")
            value = {}
        return Table(self.file, (*self.keys, key), value)

    def rest(self) -> dict[str, Any]:
        """What nobody took."""
        return {key: value for key, value in self.found.items() if key not in self._known}

    def finish(self, whose: str) -> None:
        """Refuse what nobody took."""
        for key in self.rest():
            self.fault(key, f"is {unknown('key', key, self._known, whose)}")


def dotted(keys: Keys) -> str:
    """Keys as TOML writes them: `tasks.lambada.thresholds.acc.min`."""
    return ".".join(key if BARE_KEY.match(key) else _quoted(key) for key in keys)


def _quoted(key: str) -> str:
    """A key that is not bare, in quotes and without what a terminal would obey."""
    return f'"{shown(key)[1:-1]}"' if shown(key).endswith("'") else f'"{shown(key)[1:]}"'


def _content(path: Path, name: str) -> bytes:
    try:
        stat = path.stat()
        if not S_ISREG(stat.st_mode):
            raise JobFileError([f"{name}: is no file; expected a job file. Check the path."])
        if stat.st_size > MOST_BYTES:
            raise JobFileError(
                [
                    f"{name}: has {stat.st_size:,} bytes; expected a job file of at most "
                    f"{MOST_BYTES:,}. Check the path."
                ]
            )
        return path.read_bytes()
    except (OSError, ValueError) as e:  # ValueError: no name of a file
        said = getattr(e, "strerror", None) or e
        raise JobFileError([f"{name}: {said}; expected a job file. Check the path."]) from None


def _no_toml(name: str, error: ValueError) -> str:
    """What the parser says, with the place where others put it."""
    said = str(error)
    place = POSITION.search(said)
    at = f":{place[1]}:{place[2]}" if place and place[1] else ""
    end = " at its end" if place and not place[1] else ""
    said = printable(cut(POSITION.sub("", said)))
    return f"{name}{at}: is no TOML: {said}{end}. Correct it."


def _note(document: dict[str, Any], keys: Keys, line: int, found: dict[Keys, int]) -> None:
    for key, value in document.items():
        found.setdefault((*keys, key), line)
        if isinstance(value, dict):
            _note(value, (*keys, key), line, found)


def _line_of(keys: Keys, lines: dict[Keys, int]) -> int:
    """The line of a key, or of the table that should have it; 0 where that is not known."""
    while keys and keys not in lines:
        keys = keys[:-1]
    return lines.get(keys, 0)
