"""A part on a node: what `process_part` needs there, and what a node can lack."""

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from reference import PicobatchError

from ..clock import Clock
from ..commit import FolderCommitter
from ..effort import Figures
from ..errors import BadRowError, NodeError, OutputError, StopError, TaskError
from ..folder_access import part_folder
from ..job_folder import FOLDER_SUFFIX, JobFolder
from ..parts import Part
from ..places import Place
from ..planner import PlannedJob, stamps_of
from ..process import DonePart, Samples, Worker, process_part
from ..storage import suffix_of
from ..store_errors import StoreError
from .node_model import NodeModel, loading
from .shipped import Here

SEEN_ALIKE = ("n_bytes", "mtime_ns", "ETag", "generation")  # of one file, from any machine


@dataclass(frozen=True)
class PartsOnNodes:
    """What all parts of a job need on a node.

    Attributes
    ----------
    job : PlannedJob
        With settings as they hold there.
    output : Place
        Of the finished file; no link.
    name : str
        Of the job, in the folder of its parts.
    """

    job: PlannedJob
    output: Place
    name: str


class PartTask(NamedTuple):
    """A part, and which of its rows are chosen for what is dear."""

    part: Part
    samples: Samples


class HowFar(NamedTuple):
    """How far a part is."""

    rows: int
    tokens: int
    figures: Figures


def do_part(shared: PartsOnNodes, task: PartTask, here: Here) -> DonePart:
    """Do a part and commit it.

    Raises
    ------
    NodeError
        Where this node can do none of the job's.
    StopError
        Where none is to be done any more.
    TaskError
        Where this part cannot be done.
    """
    job, output = shared.job, shared.output
    with _by_whose_fault(output):
        inputs = job.source.places_of(task.part.rows)
        job = replace(job, stamps=_stamps_here(job, inputs))
        with _folder(shared) as folder:
            committer = FolderCommitter(output.name, folder, job.schema, job.settings.our_prefix)
            clock = Clock()
            with clock.measure("load"):
                worker = _worker(job, here.share)
            told = _Told(here).advance
            return process_part(
                job, inputs, task.part, worker, task.samples, clock, committer, told
            )


class _Told:
    """Tells the driver how far a part is."""

    def __init__(self, here: Here) -> None:
        self._here = here
        self._rows = self._tokens = 0

    def advance(self, rows: int, tokens: int, figures: Callable[[], Figures]) -> None:
        self._rows += rows
        self._tokens += tokens
        self._here.tell(lambda: HowFar(self._rows, self._tokens, figures()))


@contextmanager
def _by_whose_fault(output: Place) -> Iterator[None]:
    """Make errors say whether the node, the job or the part is at fault."""
    try:
        yield
    except TaskError:
        raise
    except BadRowError as e:
        raise StopError(str(e)) from None
    except OutputError as e:
        cause = e.__context__
        if isinstance(cause, pa.ArrowException):  # columns that the format cannot hold
            raise StopError(str(e)) from None
        if isinstance(cause, OSError) and not isinstance(cause, StoreError):
            raise NodeError(_about_disk(e, cause, output)) from None
        raise TaskError(str(e)) from None
    except PicobatchError as e:
        raise TaskError(str(e)) from None
    except MemoryError:
        raise TaskError("there was not enough memory; pass --memory") from None


def _about_disk(error: OutputError, cause: OSError, output: Place) -> str:
    """What is said of a disk: of a node's own one, where the output lies in a store."""
    if output.is_local or cause.errno != errno.ENOSPC:
        return str(error)
    return (
        "its disk for temporary files is full; expected room for a part. Make room there, or set "
        "TMPDIR to another."
    )


def _stamps_here(job: PlannedJob, inputs: Sequence[Place]) -> dict[str, Any]:
    """What tells that inputs are the files that were planned with, and stay so."""
    found = {}
    for place in inputs:
        name = place.name
        try:
            stamp = stamps_of([place]).get(name)
            if place.is_copy and not Path(place.path).is_file():
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        except StoreError as e:
            raise TaskError(f"{name}: {e}") from None
        except OSError as e:
            raise NodeError(
                f"cannot read the input {name}: {e.strerror or e}; expected one that all nodes "
                "see. Put it on a shared file system, or into an object store."
            ) from None
        planned = job.stamps.get(name) or {}
        if stamp is not None and any(
            stamp[key] != planned.get(key) for key in SEEN_ALIKE if key in stamp
        ):
            raise NodeError(
                f"sees another file as the input {name}; expected the one that was planned with, "
                "or a copy with its times (cp -p)."
            )
        if stamp is not None:
            found[name] = stamp
    return found


@contextmanager
def _folder(shared: PartsOnNodes) -> Iterator[JobFolder]:
    """The folder of the job's parts, as this node sees it."""
    output = shared.output
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(part_folder(output, suffix_of(output.path), shared.name))
        except StoreError as e:
            raise TaskError(f"{output.name}: {e}") from None
        except ValueError as e:
            told = f"{output.name}{FOLDER_SUFFIX} {e}"
            if not output.is_local:  # all nodes see the same
                raise StopError(
                    f"{told}; expected what the driver made, until the job ends: another job may "
                    "write the same output. Run one at a time: this one goes on where it was."
                ) from None
            raise NodeError(
                f"does not see the output: {told}; expected the folder that the driver made. "
                "Choose an output on a file system that all nodes share, or in an object store."
            ) from None
        except OSError as e:
            raise NodeError(
                f"cannot write beside the output {output.name}: {e.strerror or e}; expected room "
                "for a part. Mend that, or set TMPDIR to a folder that can be written to."
            ) from None
        yield folder


_kept: dict[str, Worker] = {}  # of this process: a model is loaded once


def _worker(job: PlannedJob, share: float) -> Worker:
    """A model in this process, which is the job's.

    Raises
    ------
    NodeError
        Where this node has no such model, or no memory for it.
    """
    settings, key = job.settings, job.key
    name = f"{key['weights_sha256']} {key['tokenizer_sha256']} {settings}"
    if name not in _kept:
        _kept.clear()
        model = NodeModel(
            settings.model,
            settings.models_dir,
            settings.base_url,
            key["weights_sha256"],
            key["tokenizer_sha256"],
        ).load()
        with loading():
            worker = Worker(model, settings, share)
        _kept[name] = worker
    return _kept[name]
