"""Prompts -> completions, through the pieces that `runner batch` is made of."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from reference import Model
from reference.generate import greedy_step
from reference.kv_cache import empty_cache
from reference.tree import tree_map
from runner.batch_size import BatchSize, cache_bytes
from runner.check_report import CheckReport
from runner.checker import Checker
from runner.clock import used_bytes
from runner.effort import Figures
from runner.engine import Engine
from runner.generate import RunningSequence
from runner.messages import shown
from runner.places import STDIO
from runner.progress import Progress
from runner.prompts import to_prompt
from runner.records import Reject, Request, Result
from runner.sample import RowSample, checked_rows
from runner.scheduler import Scheduler
from runner.settings import RunSettings, available_threads

CHECK_SHARE = 8  # one part in so many, of the memory for rows that run, is for logits to compare


class Generator(Protocol):
    """Completes prompts, greedily.

    Attributes
    ----------
    model : Model
        That is run.
    float32 : Model or None
        What it was before it was rounded to 8 bits; None where it was not.
    threads : int
        That it computes with.
    check : CheckReport
        What came of comparing generated logits with the reference, over all calls.
    """

    model: Model
    float32: Model | None
    threads: int
    check: CheckReport

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
        """A completion of each prompt, or why there is none, in the order given.

        Parameters
        ----------
        prompts : sequence of str or list of int
            Texts, or token ids.
        max_new_tokens : int
            For each.
        stop : sequence of str
            Texts that end a completion; they are not part of it.
        ignore_eos : bool
            Go on after end-of-text.
        truncate : bool
            Keep the end of a prompt that is too long; otherwise it has no completion.
        checker : Checker, optional
            In place of the generator's own: chooses prompts, and is given their logits.
        """


class EngineGenerator:
    """The engine of `runner batch`, many prompts at a time.

    Parameters
    ----------
    model : Model
        As it is to be run, in 8 bits maybe.
    float32 : Model, optional
        What it was before it was rounded to 8 bits.
    threads, memory, check_rows, seed
        As in `RunSettings`; rows are those of one call.
    share : float
        Of the memory that is free, where `memory` does not say how much to take.

    Attributes
    ----------
    make_room : callable
        Called before memory is taken for the engine, which is done when it is needed.
    """

    def __init__(
        self,
        model: Model,
        float32: Model | None = None,
        *,
        threads: int | None = None,
        memory: int | None = None,
        check_rows: int | None = 8,
        seed: int = 0,
        share: float = 1.0,
    ) -> None:
        self.model = model
        self.float32 = float32
        self.threads = threads or available_threads()
        self.check = CheckReport()
        self._settings = RunSettings(
            STDIO,
            STDIO,
            threads=self.threads,
            memory=memory,
            check_rows=check_rows,
            seed=seed,
        )
        self.make_room: Callable[[], None] = lambda: None
        self._engine: Engine | None = None
        self._size = BatchSize(None)
        self._share = share
        self._bytes = 0

    def complete(
        self,
        prompts: Sequence[str | list[int]],
        max_new_tokens: int,
        stop: Sequence[str] = (),
        *,
        ignore_eos: bool = False,
        truncate: bool = False,
        checker: Checker | None = None,
        sample: RowSample | None = None,
    ) -> list[Result]:
        """As `Generator.complete`; a sample chooses the prompts that are compared instead."""
        settings = settings_of(self._settings, max_new_tokens, stop, ignore_eos, truncate)
        rows = taken_in(prompts, self.model, settings)
        waiting = dict.fromkeys(to_run(rows))
        engine = self._opened()
        check_bytes = self._bytes // CHECK_SHARE
        if checker is None:
            sample = sample or checked_rows(len(waiting), settings.check_rows, settings.seed)
            checker = Checker(self.model, sample, self.float32, check_bytes)
        for sequence in waiting:
            sequence.keep_logits = checker.wants(usable=True)
        scheduler = Scheduler(engine, self._size, self._bytes - check_bytes)
        scheduler.add(list(waiting))
        with Progress(len(waiting), lambda: _figures(engine, scheduler)) as progress:
            while waiting:
                finished = scheduler.step()
                for sequence in finished:
                    if sequence.keep_logits:
                        checker.check(sequence)
                    del waiting[sequence]
                checker.make_room(scheduler.recording)
                progress.advance(len(finished), sum(len(s.ids) for s in finished))
        for report in checker.reports.values():
            self.check.merge(report)
        return _results(rows)

    def _opened(self) -> Engine:
        if self._engine is None:
            self.make_room()
            engine = Engine(self.model, self.threads)
            self._bytes = cache_bytes(
                self.model.hparams, engine.cache.token_bytes, self._settings.memory, self._share
            )
            self._engine = engine
        return self._engine

    def release(self) -> None:
        """Give the engine's memory back; it is made anew where it is needed again."""
        self._engine = None


class ReferenceGenerator:
    """The NumPy reference, one prompt at a time: the truth, and slow.

    Parameters
    ----------
    model : Model
        As it is to be run.
    dtype : dtype
        To compute in: float32, or float64 for what is rounded nowhere.
    float32 : Model, optional
        What it was before it was rounded to 8 bits.
    """

    def __init__(
        self,
        model: Model,
        dtype: type[np.floating] = np.float32,
        float32: Model | None = None,
    ) -> None:
        self.model = model
        self.float32 = float32
        self.threads = available_threads()  # NumPy's own affair, in truth
        self.check = CheckReport()  # of itself there is nothing to compare
        self._dtype = dtype
        self._params = (
            model.params
            if dtype is np.float32
            else tree_map(lambda _, a: a.astype(dtype), model.params)
        )

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
        settings = settings_of(
            RunSettings(STDIO, STDIO), max_new_tokens, stop, ignore_eos, truncate
        )
        rows = taken_in(prompts, self.model, settings)
        for sequence in to_run(rows):
            sequence.keep_logits = checker is not None and checker.wants(usable=True)
            self._run(sequence)
            if checker is not None and sequence.keep_logits:
                checker.check(sequence)
        return _results(rows)

    def _run(self, sequence: RunningSequence) -> None:
        """Complete one prompt."""
        model, ids = self.model, sequence.prompt.ids
        cache = empty_cache(model.hparams, 1, sequence.n_tokens, model.kv_scales)
        if model.kv_scales is None:
            cache = tree_map(lambda _, a: a.astype(self._dtype), cache)
        new, past = ids, 0
        while sequence.finish_reason is None:
            tokens, logprobs, logits, cache = greedy_step(
                np.array([new]),
                np.array([past]),
                np.array([[len(new) - 1]]),
                cache,
                model.tokenizer.choices,
                **self._params,
                n_head=model.hparams["n_head"],
            )
            past += len(new)
            new = [int(tokens[0])]
            if sequence.keep_logits:
                sequence.record(new[0], logits[0])
            sequence.append(new[0], float(logprobs[0]))


def settings_of(
    settings: RunSettings,
    max_new_tokens: int,
    stop: Sequence[str],
    ignore_eos: bool,
    truncate: bool,
) -> RunSettings:
    """The settings of one call."""
    return replace(
        settings,
        max_new_tokens=max_new_tokens,
        stop=tuple(stop),
        ignore_eos=ignore_eos,
        truncate_prompt="left" if truncate else None,
    )


def taken_in(
    prompts: Sequence[str | list[int]], model: Model, settings: RunSettings
) -> list[RunningSequence | Reject]:
    """What is to be run for each prompt, once where it repeats, or what is wrong with it."""
    eos_id = None if settings.ignore_eos else model.tokenizer.eos_id
    n_ctx = model.hparams["n_ctx"]
    known: dict[tuple[int, ...], RunningSequence] = {}
    rows: list[RunningSequence | Reject] = []
    for number, text in enumerate(prompts):
        prompt = to_prompt(Request(number, shown(text), text, None), model, settings)
        if isinstance(prompt, Reject):  # its last words are for the command line
            rows.append(replace(prompt, reason=prompt.reason.partition(" (--")[0]))
            continue
        key = tuple(prompt.ids)
        if key not in known:
            known[key] = RunningSequence(
                prompt, model.tokenizer, settings.stop, eos_id, n_ctx, keep_logits=False
            )
        rows.append(known[key])
    return rows


def to_run(rows: Sequence[RunningSequence | Reject]) -> list[RunningSequence]:
    """Each sequence once, but for those that are asked for nothing."""
    each = dict.fromkeys(row for row in rows if isinstance(row, RunningSequence))
    return [sequence for sequence in each if sequence.finish_reason is None]


def _results(rows: Sequence[RunningSequence | Reject]) -> list[Result]:
    return [row if isinstance(row, Reject) else row.result() for row in rows]


def _figures(engine: Engine, scheduler: Scheduler) -> Figures:
    """How the engine does, as `Progress` shows it."""
    found = scheduler.occupancy
    return {
        "prefill_tokens_per_s": engine.prefilled.tokens_per_s,
        "decode_tokens_per_s": engine.decoded.tokens_per_s,
        "running": scheduler.n_running,
        "occupancy": found.live_rows / max(found.rows, 1),
        "memory_bytes": used_bytes(),
    }
