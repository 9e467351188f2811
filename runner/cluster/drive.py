"""A job on a cluster: its parts as tasks, and what is made of what they return."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

from reference import Model
from reference.progress import say

from ..clock import Clock
from ..effort import Effort, Figures
from ..errors import ClusterError
from ..interrupts import Interrupts
from ..messages import printable
from ..outcome import Outcome
from ..output import Output
from ..parts import FailedPart, Part
from ..places import Place
from ..planner import PlannedJob
from ..process import DonePart, Samples
from ..progress import Progress
from ..settings import RunSettings
from .dispatch import Dispatch, reasons
from .node_model import from_anywhere
from .part_task import HowFar, PartsOnNodes, PartTask, do_part
from .ray_cluster import RayCluster, good_cpus_per_task, slots_now


def n_slots(settings: RunSettings, model: Model) -> int:
    """Tasks that the nodes which are there now can run at a time."""
    return sum(slots_now(_cpus_per_task(settings, model), settings.memory).values())


def _cpus_per_task(settings: RunSettings, model: Model) -> int:
    return settings.cpus_per_task or good_cpus_per_task(
        model.hparams, settings.dtype, settings.memory
    )


def do_on_nodes(
    job: PlannedJob,
    files: Sequence[Place],
    model: Model,
    todo: Sequence[Part],
    output: Output,
    clock: Clock,  # noqa: ARG001
    interrupts: Interrupts,
    *,
    grows: bool,
) -> Outcome:
    """Do some parts on the Ray that this process is connected to, each as a task.

    Parameters
    ----------
    job, files, model, todo, output, clock, interrupts
        As `do_here` takes them.
    grows : bool
        Whether nodes may come that are not there yet.

    Raises
    ------
    ClusterError
        Where no node is left that can do any.
    InterruptedJobError
        Where a signal came. Parts that are done count.
    """
    settings = job.settings
    cpus_per_task = _cpus_per_task(settings, model)
    place, name = output.shared()
    on_nodes = PartsOnNodes(_as_on_nodes(job, cpus_per_task), place, name)
    parts = {part.number: part for part in todo}
    cluster = RayCluster(do_part, on_nodes, _arguments(job, todo), cpus_per_task, settings.memory)
    costs = {part.number: job.cost(part) for part in todo}
    cluster.look_for_room(grows=grows)
    dispatch = Dispatch(cluster, costs)
    found = Outcome()
    so_far = _SoFar(cluster)
    told: set[str] = set()  # nodes that are left out
    n_rows = sum(len(part.rows) for part in todo)
    with Progress(n_rows, so_far.figures, settings.metrics) as progress:

        def between() -> None:
            interrupts.check()
            for node in dispatch.excluded.keys() - told:
                told.add(node)
                say(printable(f"node {node} gets no more parts: {dispatch.excluded[node].error}"))
            progress.advance(*so_far.take())

        try:
            for number, done in dispatch.run(between):
                assert isinstance(done, DonePart)
                output.count(parts[number], done.record)
                found.add(done.found)
                so_far.add(parts[number], done)
        except ClusterError:
            job.refuse_changed(files)  # each node said that it sees another file
            raise
        finally:
            cluster.settle()
        progress.advance(*so_far.take())
    job.refuse_changed(files)
    found.failed = [
        FailedPart(parts[number], reasons(failures))
        for number, failures in sorted(dispatch.failed.items())
    ]
    found.cluster = {
        "nodes": cluster.most_nodes,
        "tasks_at_a_time": cluster.most_slots,
        "cpus_per_task": cpus_per_task,
        "attempts": dispatch.counts.attempts,
        "failures": dispatch.counts.failures,
        "losses": dispatch.counts.losses,
        "spares": dispatch.counts.spares,
        "excluded": {node: str(failure.error) for node, failure in dispatch.excluded.items()},
    }
    return found


def _as_on_nodes(job: PlannedJob, cpus_per_task: int) -> PlannedJob:
    """The same job with settings that hold on any node."""
    settings = job.settings
    return replace(
        job,
        settings=replace(
            settings,
            threads=cpus_per_task,
            model=from_anywhere(settings.model),
            models_dir=settings.models_dir and str(Path(settings.models_dir).absolute()),
            metrics=None,
        ),
    )


def _arguments(job: PlannedJob, todo: Sequence[Part]) -> Callable[[int], PartTask]:
    """What is sent with each part, made when it is: the samples are of all rows to be done."""
    parts = {part.number: part for part in todo}
    stops = dict(zip(parts, accumulate(len(part.rows) for part in todo), strict=True))
    samples = Samples.of(job.settings, sum(len(part.rows) for part in todo))

    def argument(number: int) -> PartTask:
        part, stop = parts[number], stops[number]
        return PartTask(part, samples.among(range(stop - len(part.rows), stop)))

    return argument


class _SoFar:
    """How far the tasks of a cluster are, all together.

    Parameters
    ----------
    cluster : RayCluster
        Knows what those that run said last.
    """

    def __init__(self, cluster: RayCluster) -> None:
        self._cluster = cluster
        self._done_rows = self._done_tokens = 0
        self._told_rows = self._told_tokens = 0
        self._effort = Effort()

    def add(self, part: Part, done: DonePart) -> None:
        """Count a part that is done."""
        self._done_rows += len(part.rows)
        self._done_tokens += done.found.effort.generated_tokens
        self._effort.add(done.found.effort)

    def take(self) -> tuple[int, int]:
        """Rows and tokens since this was last asked for; fewer than none where a task was lost."""
        running = self._running()
        rows = self._done_rows + sum(how.rows for how in running.values())
        tokens = self._done_tokens + sum(how.tokens for how in running.values())
        found = rows - self._told_rows, tokens - self._told_tokens
        self._told_rows, self._told_tokens = rows, tokens
        return found

    def figures(self) -> Figures:
        """How all engines do together; those that said nothing yet as the others do."""
        figures: list[Mapping[str, Any]] = [how.figures for how in self._running().values()]
        n_tasks = len(self._cluster.begun())
        done = self._effort.figures()
        if not figures:
            figures = [done | {"running": 0, "memory_bytes": self._effort.peak_bytes}]
        each = n_tasks / len(figures)
        together = ("prefill_tokens_per_s", "decode_tokens_per_s", "running", "memory_bytes")
        return (
            done
            | {name: round(each * sum(found[name] for found in figures)) for name in together}
            | {
                "occupancy": round(sum(found["occupancy"] for found in figures) / len(figures), 4),
                "tasks": n_tasks,
                "nodes": len(self._cluster.nodes()),
            }
        )

    def _running(self) -> dict[int, HowFar]:
        """By task: of two attempts the one that is further."""
        found: dict[int, HowFar] = {}
        for attempt, how in self._cluster.told().items():
            if attempt.task not in found or how.rows > found[attempt.task].rows:
                found[attempt.task] = how
        return found
