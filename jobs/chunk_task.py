"""Requests of an evaluation on a node: some are scored together, or completed together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from reference import PicobatchError
from runner.check_report import CheckReport
from runner.cluster.node_model import NodeModel
from runner.cluster.shipped import Here
from runner.engine import IntArray, is_large
from runner.engine_scorer import EngineScorer, Ids
from runner.errors import NodeError, SettingsError, TaskError
from runner.int8 import in_int8
from runner.kv_cache import FloatArray
from runner.processor import processor
from runner.records import Result
from runner.sample import RowSample
from runner.score import Continuation

from .generator import EngineGenerator


@dataclass(frozen=True)
class ModelOnNodes:
    """What all chunks of an evaluation need on a node.

    Attributes
    ----------
    model : NodeModel
    dtype : str
        `float32` or `int8`.
    threads : int
        Of one model call.
    memory : int or None
        As in `JobSpec`.
    """

    model: NodeModel
    dtype: str
    threads: int
    memory: int | None


class Question(NamedTuple):
    """A context, and all the continuations of it that are asked for: their scores' bits follow."""

    context: Ids
    continuations: list[Ids]

    @property
    def n_tokens(self) -> int:
        return len(self.context) + sum(map(len, self.continuations))


class Scores(NamedTuple):
    """Of all tokens of all continuations, one after the other."""

    logprobs: FloatArray
    greedy: IntArray


class Completed(NamedTuple):
    """A result for each prompt, and what came of comparing some with the reference."""

    results: list[Result]
    check: CheckReport


@dataclass(frozen=True)
class ScoreChunk:
    """Questions to be scored."""

    questions: list[Question]

    def do(self, runners: "Runners") -> Scores:
        wanted = [
            Continuation(context, tokens)
            for context, continuations in self.questions
            for tokens in continuations
        ]
        scored = runners.scorer.score(wanted)
        return Scores(
            np.concatenate([found.logprobs for found in scored]),
            np.concatenate([found.greedy for found in scored]),
        )


@dataclass(frozen=True)
class PromptChunk:
    """Prompts to be completed: all of them sound, none twice.

    Attributes
    ----------
    prompts, max_new_tokens, stop, ignore_eos, truncate
        As in `Generator.complete`.
    sample : RowSample
        Chooses those whose logits are compared.
    """

    prompts: list[str | list[int]]
    max_new_tokens: int
    stop: Sequence[str]
    ignore_eos: bool
    truncate: bool
    sample: RowSample

    def do(self, runners: "Runners") -> Completed:
        generator = runners.generator
        generator.check = CheckReport()
        try:
            results = generator.complete(
                self.prompts,
                self.max_new_tokens,
                self.stop,
                ignore_eos=self.ignore_eos,
                truncate=self.truncate,
                sample=self.sample,
            )
        except SettingsError as e:  # there is no room for a single sequence
            raise NodeError(f"cannot hold the model: {e}") from None
        return Completed(results, generator.check)


Chunk: TypeAlias = ScoreChunk | PromptChunk


class Done(NamedTuple):
    """What became of a chunk, and the kind of processor that it was computed by."""

    found: Any
    processor: str


@dataclass(frozen=True)
class Runners:
    """What scores and what generates in this process."""

    scorer: EngineScorer
    generator: EngineGenerator

    @classmethod
    def of(cls, shared: ModelOnNodes, share: float) -> "Runners":
        """Load the model; engines are made when they are needed."""
        loaded = shared.model.load()
        model = in_int8(loaded) if shared.dtype == "int8" else loaded
        float32 = None if model is loaded else loaded
        scorer = EngineScorer(model, shared.threads)
        generator = EngineGenerator(
            model, float32, threads=shared.threads, memory=shared.memory, share=share
        )
        if is_large(model.params):
            scorer.make_room, generator.make_room = generator.release, scorer.release
        return cls(scorer, generator)


_kept: dict[ModelOnNodes, Runners] = {}  # of this process: a model is loaded once


def do_chunk(shared: ModelOnNodes, chunk: Chunk, here: Here) -> Done:
    """Score or complete what a chunk holds.

    Raises
    ------
    NodeError
        Where this node has no such model, or no memory for it.
    TaskError
        Where it fails.
    """
    try:
        if shared not in _kept:
            _kept.clear()
            _kept[shared] = Runners.of(shared, here.share)
        return Done(chunk.do(_kept[shared]), processor())
    except TaskError:
        raise
    except PicobatchError as e:
        raise TaskError(str(e)) from None
    except MemoryError:
        raise TaskError("there was not enough memory") from None
