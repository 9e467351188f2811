"""What an adapter is: something that runs graphs, or that generates from a folder."""

import importlib.metadata
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from exporter import Package
from reference import PicobatchError

Feeds = dict[str, Any]
# (prompts' ids, new tokens) -> each prompt's new ids, up to and with end-of-text at most.
Generate = Callable[[Sequence[Sequence[int]], int], list[list[int]]]


class RuntimeMissingError(PicobatchError):
    """A runtime is not installed here."""


@dataclass(frozen=True)
class GraphFile:
    """A graph of an exported folder, as an adapter needs it.

    Attributes
    ----------
    path : Path
        The model file.
    data : list of Path
        Files with its weights.
    inputs, outputs : list of str
        Names, in the graph's order.
    large : bool
        Whether a second copy of its weights should be avoided.
    """

    path: Path
    data: list[Path]
    inputs: list[str]
    outputs: list[str]
    large: bool


class Session(Protocol):
    """A graph that is ready to run."""

    def run(self, outputs: list[str], feeds: Feeds) -> list[Any]:
        """The arrays of these outputs."""


@dataclass(frozen=True)
class Runtime:
    """A program, and how to have an exported folder run by it.

    Attributes
    ----------
    name : str
        What `--runtime` calls it.
    version : callable
        What is installed; raises `RuntimeMissingError`, which says what to install.
    open : callable, optional
        `(graph file, threads) -> Session`: any graph, with inputs of ours.
    generator : callable, optional
        `(package, dtype, threads) -> Generate`: the program generates by itself.
    slow : bool
        Whether it is run only where it is named.
    """

    name: str
    version: Callable[[], str]
    open: Callable[[GraphFile, int], Session] | None = None
    generator: Callable[[Package, str, int], Generate] | None = None
    slow: bool = False


def python_package(*modules: str, install: str) -> Callable[[], str]:
    """The version of the first of these modules, if all of them are here."""

    def version() -> str:
        for module in modules:
            try:
                found = importlib.util.find_spec(module)
            except ImportError:  # a part of a package that is not here
                found = None
            if found is None:
                raise RuntimeMissingError(f"not installed: pip install {install}")
        return importlib.metadata.version(install)

    return version
