"""An evaluation on a cluster: its requests in chunks, each a task, and what scores by them."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

from reference import Model
from runner.checker import Checker
from runner.cluster.dispatch import Counts, Dispatch, reasons
from runner.cluster.node_model import NodeModel, from_anywhere
from runner.cluster.tasks import Cluster, Failure
from runner.engine_scorer import Ids
from runner.errors import TaskError
from runner.interrupts import Interrupts
from runner.places import STDIO
from runner.prefixes import PrefixStore, shared_keys
from runner.records import Reject, Result
from runner.report import cluster_in_words
from runner.sample import checked_rows
from runner.score import Continuation, Scored
from runner.settings import RunSettings

from .chunk_task import Chunk, Completed, ModelOnNodes, PromptChunk, Question, ScoreChunk, do_chunk
from .generator import EngineGenerator, settings_of, taken_in, to_run
from .job_spec import JobSpec
from .progress import TaskProgress

# Of a chunk, which is what is lost with a process: few, so that there are some for each node. With
# fewer still, time is lost. Measured with the demo model in one thread: 25,199 tokens of questions
# are scored as fast in chunks of 1,024 as in one, but 52,268 of prompts and completions take 3 %
# longer in chunks of 4,096 and 9 % in those of 2,048; in chunks of 8,192 they do not.
CHUNK_TOKENS = 8192


class CountedCluster(Cluster, Protocol):
    """A cluster that knows how large it was."""

    most_nodes: int
    most_slots: int


class Nodes:
    """Does chunks of requests on a cluster, one call after the other.

    Parameters
    ----------
    cluster : CountedCluster
        Runs `do_chunk`; its tasks are numbered on over all calls.
    chunks : dict of int to Chunk
        Where it finds what a task is to do.
    cpus_per_task : int
        That it was made with.
    """

    def __init__(
        self, cluster: CountedCluster, chunks: dict[int, Chunk], cpus_per_task: int
    ) -> None:
        self._cluster = cluster
        self._chunks = chunks
        self._cpus_per_task = cpus_per_task
        self._n_begun = 0
        self._counts = Counts()
        self._excluded: dict[str, Failure] = {}
        self._by_processor: Counter[str] = Counter()

    def do(
        self,
        chunks: Sequence[Chunk],
        costs: Sequence[float],
        ended: Callable[[int], None] = lambda _: None,
    ) -> list[Any]:
        """What becomes of each chunk, in the order given.

        Parameters
        ----------
        chunks : sequence of Chunk
        costs : sequence of float
            How long each takes, in any unit.
        ended : callable, optional
            Told the place of each as it is done.

        Raises
        ------
        TaskError
            Where one cannot be done; the others are then stopped.
        ClusterError
            Where no node can do any.
        InterruptedJobError
            Where a signal came.
        """
        first = self._n_begun
        self._n_begun += len(chunks)
        numbers = range(first, self._n_begun)
        self._chunks.update(zip(numbers, chunks, strict=True))
        dispatch = Dispatch(self._cluster, dict(zip(numbers, costs, strict=True)))
        dispatch.excluded.update(self._excluded)
        found: dict[int, Any] = {}
        try:
            with Interrupts() as interrupts:

                def between() -> None:
                    interrupts.check()
                    _refuse(dispatch.failed)

                for number, (result, processor) in dispatch.run(between):
                    found[number] = result
                    self._by_processor[processor] += 1
                    ended(number - first)
        finally:
            self._counts.add(dispatch.counts)
            self._excluded.update(dispatch.excluded)
            for number in numbers:
                del self._chunks[number]
        _refuse(dispatch.failed)
        return [found[number] for number in numbers]

    @property
    def processors(self) -> list[str]:
        """The kinds of processor that computed something."""
        return sorted(self._by_processor)

    def describe(self) -> dict[str, Any]:
        """What the cluster did, as `results.json` has it."""
        return {
            "nodes": self._cluster.most_nodes,
            "tasks_at_a_time": self._cluster.most_slots,
            "cpus_per_task": self._cpus_per_task,
            "chunks": self._n_begun,
            **asdict(self._counts),
            "excluded": [f"{node}: {found.error}" for node, found in self._excluded.items()],
            "processors": self.processors,
        }

    def summary(self) -> str:
        """The same in lines."""
        found = self.describe()
        left_out = [f"left out: node {told}" for told in found["excluded"]]
        return "\n".join([cluster_in_words(found, self._n_begun, "chunk"), *left_out])


def _refuse(failed: Mapping[int, Sequence[Failure]]) -> None:
    for failures in failed.values():
        raise TaskError(reasons(failures))


@contextmanager
def connected(spec: JobSpec) -> Iterator[Callable[[Model], Nodes]]:
    """A connection to Ray while the context lasts: makes the nodes of a model that is loaded.

    Raises
    ------
    SettingsError
        Where Ray is not installed.
    ClusterError
        Where no cluster answers; or, when nodes are made, where none has room and none will come.
    """
    from runner.cluster.ray_session import open_ray  # noqa: PLC0415 - Ray is an extra

    with open_ray(spec.ray_address) as is_ours:
        from runner.cluster.ray_cluster import RayCluster, good_cpus_per_task  # noqa: PLC0415

        def nodes_of(model: Model) -> Nodes:
            cpus = spec.cpus_per_task or good_cpus_per_task(model.hparams, spec.dtype, spec.memory)
            on_nodes = ModelOnNodes(
                NodeModel(
                    from_anywhere(spec.model),
                    spec.models_dir and str(Path(spec.models_dir).absolute()),
                    spec.base_url,
                    model.weights_sha256,
                    model.tokenizer.sha256,
                ),
                spec.dtype,
                cpus,
                spec.memory,
            )
            chunks: dict[int, Chunk] = {}
            cluster = RayCluster(do_chunk, on_nodes, chunks.__getitem__, cpus, spec.memory)
            cluster.look_for_room(grows=not is_ours)
            return Nodes(cluster, chunks, cpus)

        yield nodes_of


class ClusterScorer:
    """Scores on the nodes of a cluster what `EngineScorer` scores in one process: the same bits.

    Parameters
    ----------
    nodes : Nodes
    advance : callable, optional
        Told how many continuations were scored, each time that some were.
    """

    def __init__(self, nodes: Nodes, advance: Callable[[int], None] = lambda _: None) -> None:
        self._nodes = nodes
        self._advance = advance

    def score(self, wanted: Sequence[Continuation]) -> list[Scored]:
        """One result for each continuation, in the order given."""
        asked = [(tuple(w.context), tuple(w.tokens)) for w in wanted]
        times = Counter(asked)
        questions = questions_of(times)
        costs = [question.n_tokens for question in questions]
        places = cut(costs, CHUNK_TOKENS)
        chunks = [questions[at.start : at.stop] for at in places]

        def ended(number: int) -> None:
            self._advance(sum(times[one] for one in _pairs(chunks[number])))

        found = self._nodes.do(
            [ScoreChunk(chunk) for chunk in chunks],
            [sum(costs[at.start : at.stop]) for at in places],
            ended,
        )
        scored: dict[tuple[Ids, Ids], Scored] = {}
        for chunk, (logprobs, greedy) in zip(chunks, found, strict=True):
            start = 0
            for one in _pairs(chunk):
                stop = start + len(one[1])
                scored[one] = Scored(logprobs[start:stop].copy(), greedy[start:stop].copy())
                start = stop
        return [scored[one] for one in asked]


def questions_of(wanted: Iterable[tuple[Ids, Ids]]) -> list[Question]:
    """All continuations of a context together, in their order: the bits of a score follow from it.

    Contexts that begin alike are near each other, and so are others of similar length: a chunk of
    neighbours computes what they share once, and pads little.
    """
    of_context: defaultdict[Ids, list[Ids]] = defaultdict(list)
    for context, tokens in wanted:
        of_context[context].append(tokens)
    questions = [Question(*item) for item in of_context.items()]
    keys = shared_keys([context[:-1] for context in of_context], PrefixStore(0))
    headers = [
        q.context[: shared[-1][0]] if shared else ()
        for q, shared in zip(questions, keys, strict=True)
    ]

    def order(place: int) -> tuple[Ids, int, int]:
        question = questions[place]
        n_scores = sum(map(len, question.continuations))
        return headers[place], n_scores.bit_length(), question.n_tokens

    return [questions[place] for place in sorted(range(len(questions)), key=order)]


def _pairs(questions: Iterable[Question]) -> Iterator[tuple[Ids, Ids]]:
    for context, continuations in questions:
        for tokens in continuations:
            yield context, tokens


def cut(costs: Sequence[int], most: int) -> list[range]:
    """Neighbours together, in pieces of about equal cost: `most`, and what one more adds to it."""
    total, before, pieces = sum(costs), 0, []
    n = -(-total // most)
    for cost in costs:
        pieces.append(before * n // total)
        before += cost
    grouped = [list(group) for _, group in groupby(range(len(costs)), pieces.__getitem__)]
    return [range(group[0], group[-1] + 1) for group in grouped]


class ClusterGenerator:
    """Completes on the nodes of a cluster what `EngineGenerator` does in one process.

    Parameters
    ----------
    nodes : Nodes
    here : EngineGenerator
        Does the same in this process, where a caller has a checker of its own, which looks at
        logits or measures this machine.
    check_rows : int or None
        Prompts of a call whose logits are compared with the reference; None means all.
    seed : int
        Chooses them.
    progress : TaskProgress
        Told how many prompts are to be completed, and how many are.
    """

    def __init__(
        self,
        nodes: Nodes,
        here: EngineGenerator,
        check_rows: int | None,
        seed: int,
        progress: TaskProgress,
    ) -> None:
        self.model = here.model
        self.float32 = here.float32
        self.threads = here.threads
        self.check = here.check  # one for both
        self._nodes = nodes
        self._here = here
        self._check_rows = check_rows
        self._seed = seed
        self._progress = progress

    def complete(
        self,
        prompts: Sequence[str | list[int]],
        max_new_tokens: int,
        stop: Sequence[str] = (),
        *,
        ignore_eos: bool = False,
        truncate: bool = False,
        checker: Checker | None = None,
    ) -> list[Result]:
        how = (ignore_eos, truncate)
        if checker is not None:
            return self._here.complete(
                prompts,
                max_new_tokens,
                stop,
                ignore_eos=ignore_eos,
                truncate=truncate,
                checker=checker,
            )
        settings = settings_of(RunSettings(STDIO, STDIO), max_new_tokens, stop, *how)
        rows = taken_in(prompts, self.model, settings)
        todo = to_run(rows)
        sample = checked_rows(len(todo), self._check_rows, self._seed)
        costs = [sequence.n_tokens for sequence in todo]
        places = cut(costs, CHUNK_TOKENS)
        self._progress.expect(len(todo))
        done: list[Completed] = self._nodes.do(
            [
                PromptChunk(
                    [prompts[sequence.prompt.row] for sequence in todo[at.start : at.stop]],
                    max_new_tokens,
                    tuple(stop),
                    *how,
                    sample.among(at),
                )
                for at in places
            ],
            [sum(costs[at.start : at.stop]) for at in places],
            lambda number: self._progress.advance(len(places[number])),
        )
        for _, check in done:
            self.check.merge(check)
        results = dict(zip(todo, (r for some, _ in done for r in some), strict=True))
        return [
            row
            if isinstance(row, Reject)
            else _of_row(results[row], row.prompt.row)
            if row in results
            else row.result()
            for row in rows
        ]


def _of_row(result: Result, row: int) -> Result:
    """A result by its place among all prompts, not among those of its chunk."""
    return replace(result, row=row) if isinstance(result, Reject) else result
