"""A job's tasks, one after the other, with one model; and its scores against the reference."""

import datetime as dt
import secrets
import time
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np

from reference import Model, PicobatchError, load_model
from reference.progress import say
from runner.engine import is_large
from runner.engine_scorer import EngineScorer
from runner.errors import InterruptedJobError
from runner.garbage import rare_collections
from runner.int8 import in_int8
from runner.messages import printable
from runner.report import ExitCode
from runner.score import ReferenceScorer

from .cluster import ClusterGenerator, ClusterScorer, Nodes, connected
from .environment import environment, on_cluster
from .generator import EngineGenerator, ReferenceGenerator
from .job_spec import EXACT, JobSpec
from .language_model import LanguageModel
from .progress import TaskProgress
from .results import EvalResult
from .score_check import RequestSample, SampledScorer, as_check, check_scores
from .tasks import KINDS


def evaluate(spec: JobSpec) -> EvalResult:
    """Do the tasks of a job.

    A task that fails is taken down, and the others are done.

    Parameters
    ----------
    spec : JobSpec
        From `load_spec`.

    Returns
    -------
    EvalResult
        Not yet held to a gate.

    Raises
    ------
    PicobatchError
        Where the model cannot be loaded, its files change meanwhile, or no cluster answers.
    """
    started, start_s = dt.datetime.now(dt.UTC), time.monotonic()
    result = EvalResult(
        run=f"{started:%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}",
        job={
            "name": spec.name,
            "file": str(spec.file),
            "sha256": spec.sha256,
            "is_trial": spec.is_trial,
        },
        started=started,
        kinds={name: task.kind for name, task in spec.tasks.items()},
        environment=environment(spec),
    )
    with _connected(spec) as nodes_of:
        loaded = load_model(spec.model, models_dir=spec.models_dir, base_url=spec.base_url)
        model = in_int8(loaded) if spec.dtype == "int8" else loaded
        result.model = {
            "name": loaded.name,
            "weights_sha256": loaded.weights_sha256,
            "tokenizer_sha256": loaded.tokenizer.sha256,
            "dtype": spec.dtype,
            "hparams": dict(loaded.hparams),
        }
        float32 = None if model is loaded else loaded
        progress = TaskProgress(len(spec.tasks))
        nodes = nodes_of(loaded)
        sample = RequestSample(0 if spec.engine == "reference" else spec.check_rows, spec.seed)
        language_model = _language_model(spec, model, float32, sample, progress, nodes)
        with rare_collections():
            for name in spec.tasks:
                sample.task = name
                _do(name, spec, language_model, result, progress)
            generated = language_model.generator.check
            result.check = as_check(check_scores(sample.kept, model, float32), generated)
    loaded.check_files()
    if nodes is not None:
        result.environment = on_cluster(result.environment, nodes.describe())
        say(printable(nodes.summary()))
    result.elapsed_s = time.monotonic() - start_s
    return result


def exit_code(result: EvalResult) -> ExitCode:
    """What a run deserves, once its gate is known: the gravest of what it found."""
    if not result.check["agrees"]:
        return ExitCode.DISAGREES
    if result.failed:
        return ExitCode.FAILED
    if result.gate is not None and result.gate["verdict"] == "failed":
        return ExitCode.GATE
    has_bad_rows = any(task.bad_rows for task in result.tasks.values())
    return ExitCode.BAD_ROWS if has_bad_rows else ExitCode.DONE


def _connected(spec: JobSpec) -> AbstractContextManager[Callable[[Model], Nodes | None]]:
    """What makes the nodes that a model is run on; None where this process runs it."""
    return connected(spec) if spec.engine == "ray" else nullcontext(lambda _: None)


def _language_model(
    spec: JobSpec,
    model: Model,
    float32: Model | None,
    sample: RequestSample,
    progress: TaskProgress,
    nodes: Nodes | None,
) -> LanguageModel:
    """The model, and what scores and generates with it."""
    if spec.engine == "reference":  # of which there is nothing to compare
        dtype = np.float64 if spec.dtype == EXACT else np.float32
        slow = SampledScorer(ReferenceScorer(model, dtype), sample, progress)
        return LanguageModel(model, slow, ReferenceGenerator(model, dtype, float32))
    scorer = EngineScorer(model, spec.threads, progress.advance)
    generator = EngineGenerator(
        model,
        float32,
        threads=spec.threads,
        memory=spec.memory,
        check_rows=spec.check_rows,
        seed=spec.seed,
    )
    if is_large(model.params):  # each has a copy of the weights, in the form it computes with
        scorer.make_room, generator.make_room = generator.release, scorer.release
    here = LanguageModel(model, SampledScorer(scorer, sample, progress), generator)
    if nodes is None:
        return here
    there = SampledScorer(ClusterScorer(nodes, progress.advance), sample, progress)
    completes = ClusterGenerator(nodes, generator, spec.check_rows, spec.seed, progress)
    return LanguageModel(model, there, completes, here)


def _do(
    name: str,
    spec: JobSpec,
    language_model: LanguageModel,
    result: EvalResult,
    progress: TaskProgress,
) -> None:
    """Do one task, and say what came of it."""
    task, start_s = spec.tasks[name], time.monotonic()
    try:
        with progress.task(name, task.kind):
            found = KINDS[task.kind].run(task, language_model)
    except InterruptedJobError:
        raise
    except Exception as e:  # noqa: BLE001 - whatever it is, it costs a task and not the night
        is_told = isinstance(e, (PicobatchError, OSError, MemoryError))
        told = str(e) or "there was not enough memory"
        result.failed[name] = told if is_told else f"{type(e).__name__}: {e}"
        said = told if is_told else traceback.format_exc().rstrip()
        say(printable(f"{name}: failed: {said}"))
        return
    found.elapsed_s = time.monotonic() - start_s
    result.tasks[name] = found
    bad = f", {len(found.bad_rows):,} bad" if found.bad_rows else ""
    say(f"{name}: {len(found.rows):,} rows{bad} in {found.elapsed_s:.1f} s")
