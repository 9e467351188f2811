"""`report.html`: a run as one page, for people; it asks nothing of any server.

Whatever the data and the model say is text that nobody here has written: it is escaped, cut where
it is long, and loses what would rule how other text is shown. The page does not grow with the rows.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from runner.errors import OutputError, SettingsError

from ..result_file import read_results
from .headline import headline
from .timeline import timeline

REPORT = "report.html"
RESULTS = "results.json"
TEMPLATE = "report.html.jinja"


def write(
    folder: Path, baseline: Path | None = None, history: Iterable[Mapping[str, Any]] = ()
) -> Path:
    """Write the report of a run into its folder.

    Parameters
    ----------
    folder : Path
        The run's, with `results.json` and `rows/`.
    baseline : Path or None
        The folder of the run that it was compared with.
    history : iterable of dict
        Rows of the history; they may hold this run.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    SettingsError
        Where jinja2 or matplotlib is not installed.
    InputError
        Where a folder does not hold what `runner eval` writes.
    OutputError
        Where the file cannot be written.
    """
    page = render(folder, baseline, history)
    file = folder / REPORT
    part = file.with_name(f".{REPORT}.part")
    try:
        part.write_text(page, encoding="utf-8", newline="\n")
        part.replace(file)
    except OSError as e:
        part.unlink(missing_ok=True)
        raise OutputError(
            f"{file}: {e.strerror}; expected a folder to write into. Correct that, or pass "
            "`report = false` in the job file."
        ) from None
    return file


def render(folder: Path, baseline: Path | None, history: Iterable[Mapping[str, Any]]) -> str:
    """The page."""
    try:
        import jinja2  # noqa: PLC0415  # an extra

        from . import sections  # noqa: PLC0415  # draws with matplotlib
        from .svg import drawing  # noqa: PLC0415
    except ModuleNotFoundError as e:
        raise SettingsError(
            f"the report: {e.name} is not installed; expected jinja2 and matplotlib. Run "
            'pip install "picobatch[report]", or set report = false in the job file.'
        ) from None
    result, counts = read_results(folder / RESULTS)
    before = read_results(baseline / RESULTS)[0] if baseline else None
    runs = timeline(history, result)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=sections.as_text,
    )
    with drawing():
        view = sections.view(result, counts, before, folder, baseline, runs)
    return environment.get_template(TEMPLATE).render(
        headline=headline(result, runs), result=result, **view
    )
