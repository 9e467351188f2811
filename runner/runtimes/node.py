"""Runtimes in JavaScript: a script under Node, with packages of the current folder."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from reference import PicobatchError

from .base import Feeds, GraphFile, RuntimeMissingError

SCRIPTS = Path(__file__).parent


class NodeError(PicobatchError):
    """A script under Node has failed."""


def node_package(name: str) -> Callable[[], str]:
    """The version of a package in a `node_modules` of the current folder or above it."""

    def version() -> str:
        package = _modules(name) / name / "package.json"
        return str(json.loads(package.read_text("utf-8"))["version"])

    return version


def _modules(name: str) -> Path:
    """The folder `node_modules` that has a package."""
    if shutil.which("node") is None:
        raise RuntimeMissingError("not installed: Node is not there")
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "node_modules" / name / "package.json").is_file():
            return folder / "node_modules"
    raise RuntimeMissingError(f"not installed: npm install {name} in this folder")


class NodeScript:
    """A script that answers each JSON line on its stdin by one on its stdout."""

    def __init__(self, script: str, package: str, *arguments: str) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own script
            ["node", str(SCRIPTS / script), *arguments],  # noqa: S607 - whichever Node is used here
            cwd=_modules(package).parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def __call__(self, question: dict[str, Any]) -> Any:
        stdin, stdout, stderr = self._process.stdin, self._process.stdout, self._process.stderr
        assert stdin is not None
        assert stdout is not None
        assert stderr is not None
        try:
            stdin.write(json.dumps(question) + "\n")
            stdin.flush()
            for line in stdout:
                if line.startswith("{"):  # libraries print too
                    return json.loads(line)
        except BrokenPipeError:
            pass
        said = stderr.read().strip().splitlines()
        told = next((line for line in said if "Error" in line), said[-1] if said else "no word")
        raise NodeError(f"the script in Node ended: {told}")

    def __del__(self) -> None:
        if hasattr(self, "_process"):
            for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
                if stream is not None:
                    stream.close()
            self._process.kill()
            self._process.wait()


class NodeSession:
    """A graph in a script; arrays travel in files."""

    def __init__(self, script: str, package: str, graph: GraphFile) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="picobatch-")
        files = [str(path.absolute()) for path in (graph.path, *graph.data)]
        self._ask = NodeScript(script, package, *files)

    def __del__(self) -> None:
        self._scratch.cleanup()

    def run(self, outputs: list[str], feeds: Feeds) -> list[Any]:
        folder = Path(self._scratch.name)
        told = {}
        for n, (name, array) in enumerate(feeds.items()):
            file = folder / f"in_{n}"
            np.ascontiguousarray(array).tofile(file)
            told[name] = {"type": array.dtype.name, "dims": array.shape, "file": str(file)}
        found = self._ask({"feeds": told, "outputs": outputs, "folder": str(folder)})
        return [
            np.fromfile(found[name]["file"], found[name]["type"]).reshape(found[name]["dims"])
            for name in outputs
        ]
