"""One run of a job, from its file to its exit code: what `runner eval` does."""

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from reference import PicobatchError
from reference.progress import say
from runner.errors import OutputError, SettingsError
from runner.messages import printable
from runner.report import ExitCode

from . import history, summary
from .baseline import bless, checked_name, read_baseline
from .evaluate import evaluate, exit_code
from .gate import judge
from .job_spec import JobSpec
from .results import EvalResult
from .run_folder import make_output, write_run
from .score_check import check_in_words

REPORT_NEEDS = ("jinja2", "matplotlib")
STEP_SUMMARY = "GITHUB_STEP_SUMMARY"  # a file that GitHub shows with the step that wrote to it


@dataclass(frozen=True)
class Night:
    """What became of a run.

    Attributes
    ----------
    folder : Path
        Of the run.
    exit_code : ExitCode
    """

    folder: Path
    exit_code: ExitCode


def missing_for_report() -> str | None:
    """What the report needs and is not installed."""
    missing = [name for name in REPORT_NEEDS if importlib.util.find_spec(name) is None]
    return " and ".join(missing) or None


def run_job(spec: JobSpec, *, needs_baseline: bool = False, blessed: str | None = None) -> Night:
    """Evaluate, hold to the gate, and keep what was found.

    Parameters
    ----------
    spec : JobSpec
        From `load_spec`.
    needs_baseline : bool
        Whether the baseline has to be there already.
    blessed : str, optional
        The name of the baseline that the run is to become.

    Raises
    ------
    PicobatchError
        Where the job cannot be done as a whole.
    """
    _check_wishes(spec, blessed)
    before = None  # read first: it is better known now than after hours that it is damaged
    if spec.baseline is not None:
        before = read_baseline(spec.baselines, spec.baseline, required=needs_baseline)
    make_output(spec.output)
    if before is not None and spec.is_trial:
        chosen = {name: task for name, task in before.tasks.items() if name in spec.tasks}
        before = replace(before, tasks=chosen)
    result = evaluate(spec)
    result.gate = judge(spec, result, before).as_dict()
    result.exit_code = exit_code(result)
    try:
        folder = write_run(result, spec.output)
    finally:  # hours of work are not lost as a whole
        say(printable(f"{summary.text(result)}\n{check_in_words(result.check)}"))
    told = _Told()
    if not spec.is_trial:
        with told.failures("history"):
            history.append(result, spec.history)
    if spec.report or (spec.report is None and missing_for_report() is None):
        with told.failures("report"):
            _write_report(spec, folder, has_baseline=before is not None)
    with told.failures(STEP_SUMMARY):
        _write_step_summary(result)
    if blessed is not None:
        with told.failures("not blessed"):
            _bless(spec, result, folder, blessed)
    code = ExitCode(result.exit_code)
    if told.any_failed and code in (ExitCode.DONE, ExitCode.BAD_ROWS):
        code = ExitCode.FAILED
    return Night(folder, code)


class _Told:
    """What failed after the figures were kept: said, and no reason to lose the rest."""

    def __init__(self) -> None:
        self.any_failed = False

    @contextmanager
    def failures(self, what: str) -> Iterator[None]:
        try:
            yield
        except (PicobatchError, OSError) as e:
            self.any_failed = True
            say(printable(f"{what}: {e}"))


def _check_wishes(spec: JobSpec, blessed: str | None) -> None:
    if blessed is not None:
        checked_name(blessed)
        if spec.is_trial:
            raise SettingsError(
                "--bless with --task or --limit: a run of some tasks or rows is no baseline; "
                "expected a whole one. Leave those options out."
            )
    if spec.report and (missing := missing_for_report()):
        raise SettingsError(
            f"{spec.file}: report is true, without {missing} installed; expected both "
            f'{" and ".join(REPORT_NEEDS)}. Run pip install "picobatch[report]", or pass '
            "--no-report."
        )


def _write_report(spec: JobSpec, folder: Path, *, has_baseline: bool) -> None:
    from . import report  # noqa: PLC0415 - draws, where that is installed

    baseline = spec.baselines / spec.baseline if has_baseline and spec.baseline else None
    report.write(folder, baseline, history.read(spec.history).to_pylist())


def _write_step_summary(result: EvalResult) -> None:
    if not (path := os.environ.get(STEP_SUMMARY)):
        return
    try:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(summary.markdown(result))
    except (OSError, ValueError) as e:
        said = getattr(e, "strerror", None) or e
        raise OutputError(f"{path}: {said}; expected a file to add to. Check it.") from None


def _bless(spec: JobSpec, result: EvalResult, folder: Path, name: str) -> None:
    """Make a run a baseline, unless its figures are not to be relied on."""
    if result.exit_code in (ExitCode.FAILED, ExitCode.DISAGREES):
        say(
            f"not blessed: a run with exit code {result.exit_code} is no baseline. Find out why, "
            "and run again."
        )
        return
    say(printable(f"blessed: {bless(folder, spec.baselines, name)}"))
