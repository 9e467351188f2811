"""Ray with several nodes on this machine, whose processes a test can haunt.

Nothing in the product knows of tests: each node has a folder on its PYTHONPATH, in which a test
puts what is wrong there.
"""

import contextlib
import os
import shutil
import signal
import time
from pathlib import Path

import psutil
import pytest

STORE_BYTES = 100 << 20
N_NODES = 3
PATIENCE_S = 240  # for what comes in a second where nothing else runs
HOOK = '''
"""Runs what a test wrote, after a module was imported."""
import importlib.util, os, sys

class Haunted:
    seen = set()

    def find_spec(self, name, path=None, target=None):
        source = os.path.join(os.environ["HAUNTED"], f"after {name}.py")
        if name in self.seen or not os.path.exists(source):
            return None
        self.seen.add(name)
        spec = importlib.util.find_spec(name)
        self.seen.discard(name)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            exec(compile(open(source).read(), source, "exec"), module.__dict__)

        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Haunted())
'''


@contextlib.contextmanager
def in_environment(folder):
    """Variables of everything that has to do with Ray here; the user's own token is left alone."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [n for n in os.environ if n.startswith("RAY_")]:
            patch.delenv(name)
        patch.setenv("RAY_TMPDIR", str(folder))
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        yield


class Nodes:
    """A cluster: its head takes no tasks, its nodes one each.

    Attributes
    ----------
    address : str
        Of the head.
    workplace : Path
        Ray's, and of what haunts the nodes.
    """

    def __init__(self, folder: Path, variables: dict[str, str]) -> None:
        from ray.cluster_utils import Cluster

        self.workplace = folder
        self._variables = variables
        self._nodes: dict[int, object] = {}
        self._haunted: set[int] = set()
        self._cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 0,
                "object_store_memory": STORE_BYTES,
                "include_dashboard": False,
                "_system_config": {"health_check_period_ms": 500},  # of nodes that were killed
            },
        )
        self.address = self._cluster.address
        for number in range(N_NODES):
            self.add(number)

    def add(self, number: int) -> None:
        folder = self._furnish(number)
        self._nodes[number] = self._cluster.add_node(
            num_cpus=1,
            object_store_memory=STORE_BYTES,
            env_vars={"PYTHONPATH": str(folder), "HAUNTED": str(folder)} | self._variables,
        )

    def remove(self, number: int, *, kill: bool = False) -> None:
        node = self._nodes.pop(number)
        self._cluster.remove_node(node, allow_graceful=not kill)

    def wait_for_few(self) -> None:
        """Until Ray knows which nodes are gone."""
        import ray

        wait_until(lambda: sum(n["Alive"] for n in ray.nodes()) == 1 + len(self._nodes))

    def folder(self, number: int) -> Path:
        return self.workplace / f"node{number}"

    def _furnish(self, number: int) -> Path:
        folder = self.folder(number)
        folder.mkdir(exist_ok=True)
        (folder / "sitecustomize.py").write_text(HOOK)
        return folder

    def name(self, number: int) -> str:
        """What messages call it."""
        node = self._nodes[number]
        return f"{node.node_ip_address} ({node.node_id[:8]})"

    def connect(self) -> None:
        """A new connection: processes of an earlier one end."""
        import ray

        self.disconnect()
        before = signal.getsignal(signal.SIGTERM)
        ray.init(address=self.address, log_to_driver=False, logging_level="ERROR")
        signal.signal(signal.SIGTERM, before)

    def haunt(self, number: int, module: str, source: str) -> None:
        """Let processes of a node run some lines after they imported a module."""
        self.put(number, f"after {module}.py", source)

    def put(self, number: int, name: str, text: str) -> None:
        """A file on the PYTHONPATH of a node's processes."""
        self._haunted.add(number)
        path = self.folder(number) / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)

    def wake(self) -> None:
        """A process on each node, before a job comes that is short."""
        self.connect()
        import ray

        nothing = ray.remote(num_cpus=1)(lambda: None)
        ids = [{"ray.io/node-id": node.node_id} for node in self._nodes.values()]
        ray.get([nothing.options(label_selector=i).remote() for i in ids], timeout=PATIENCE_S)

    def rest(self) -> None:
        """All as it was at first."""
        for number in self._haunted:
            shutil.rmtree(self.folder(number))
            self._furnish(number)
        is_other = bool(self._haunted) or set(self._nodes) != set(range(N_NODES))
        self._haunted.clear()
        for number in [n for n in self._nodes if n >= N_NODES]:
            self.remove(number)
        for number in set(range(N_NODES)) - set(self._nodes):
            self.add(number)
        self.wait_for_few()
        if is_other:
            self.connect()

    def disconnect(self) -> None:
        import ray

        ray.shutdown()

    def close(self) -> None:
        self.disconnect()
        self._cluster.shutdown()


def wait_until(what):
    """Poll for something that comes; returns it."""
    for _ in range(PATIENCE_S * 50):
        if found := what():
            return found
        time.sleep(0.02)
    raise AssertionError("it did not come")


def wait_until_gone(pids):
    """Until processes ended: for a moment they outlive their node, or their driver."""

    def gone(pid):
        try:
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    wait_until(lambda: all(gone(pid) for pid in pids))


class Gate:
    """Where tasks of haunted nodes wait, in the middle of a part, until it is opened.

    Parameters
    ----------
    folder : Path
        For what they say of themselves.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def build(self, nodes: Nodes, numbers, point: str, *, first=0, stubborn=False) -> None:
        """Let tasks of some nodes wait, those that do a part from the first on.

        The stubborn wait on when they are to stop.
        """
        module, source = GATES[point]
        for number in numbers:
            wait = WAIT_AT_THE_GATE.format(folder=str(self.folder), first=first, stubborn=stubborn)
            nodes.haunt(number, module, wait + source)

    def waiting(self) -> list[tuple[int, int, int]]:
        """Part, node and process of each task that waits, or did."""
        return sorted(tuple(map(int, p.name.split("-"))) for p in self.folder.glob("*-*-*"))

    def wait_for(self, n_tasks: int) -> list[tuple[int, int, int]]:
        """Until so many tasks wait."""
        wait_until(lambda: len(self.waiting()) >= n_tasks)
        return self.waiting()

    def wait_for_stubborn(self) -> None:
        """Until one of them was asked to stop."""
        wait_until((self.folder / "asked to stop").exists)

    def open(self, number: int | None = None) -> None:
        """For tasks of one node, or for all."""
        (self.folder / ("open" if number is None else f"open {number}")).touch()


WAIT_AT_THE_GATE = """
def wait_at_the_gate(number):
    import os, pathlib, sys, time
    if number < {first}:
        return
    gate = pathlib.Path({folder!r})
    node = os.environ["HAUNTED"].removesuffix("/")[-1]
    (gate / f"{{number}}-{{node}}-{{os.getpid()}}").touch()
    frame = sys._getframe()  # a task that is at work says now and then how far it is
    while frame is not None and not hasattr(frame.f_locals.get("here"), "tell"):
        frame = frame.f_back
    here = frame and frame.f_locals["here"]
    while not any((gate / name).exists() for name in ("open", f"open {{node}}")):
        time.sleep(0.02)
        try:
            if here:
                here.tell(lambda: None)
        except Exception:
            if not {stubborn}:
                raise
            (gate / "asked to stop").touch()
"""
GATES = {
    "rows are written": (
        "runner.commit",
        """
_writing = FolderCommitter.writing

@contextmanager
def writing(self, part):
    with _writing(self, part) as writer:
        yield writer
        wait_at_the_gate(part.number)

FolderCommitter.writing = writing
""",
    ),
    "a file has its name and no record": (
        "runner.job_folder",
        """
_write_any = JobFolder._write

def _write(self, name, found):
    if name.startswith(PART):
        wait_at_the_gate(found["of"][1])
    _write_any(self, name, found)

JobFolder._write = _write
""",
    ),
}
