"""The command `runner`: click, and nothing but click."""

import contextlib
import errno
import functools
import os
import signal
import sys
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from exporter import export as export_package
from exporter.targets import TARGETS
from exporter.tracer import DEFAULT_OPSET
from exporter.variants import VARIANTS
from reference import PicobatchError, __version__, load_model
from reference.models import DEMO

from .bench import measure
from .catalog import describe_model, fetch_named, list_models
from .check import check_directory, exit_code, summary
from .errors import InterruptedJobError, SettingsError
from .inspect import first_rows, inspect_path
from .interrupts import heeded
from .merge import merge
from .messages import for_terminal, printable
from .options import (
    batch_size_option,
    dtype_option,
    generation_options,
    job_options,
    memory_option,
    place_options,
    threads_option,
)
from .parity import parity_record
from .report import ExitCode
from .run import run
from .runtimes import RUNTIMES
from .settings import RunSettings
from .single import complete
from .trial import DisagreementError


class Commands(click.Group):
    """Turns our errors into a message and an exit code; any other keeps its traceback."""

    def make_context(self, *args: Any, **more: Any) -> click.Context:
        try:
            return super().make_context(*args, **more)
        except click.ClickException as e:
            raise _harmless(e) from None

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.ClickException as e:
            raise _harmless(e) from None
        except PicobatchError as e:
            if isinstance(e, InterruptedJobError):
                click.echo(printable(str(e)), err=True)
                ctx.exit(128 + e.signal)
            click.echo(f"Error: {printable(str(e))}", err=True)
            if isinstance(e, SettingsError):
                ctx.exit(ExitCode.USAGE)
            ctx.exit(ExitCode.DISAGREES if isinstance(e, DisagreementError) else ExitCode.FAILED)
        except KeyboardInterrupt:
            click.echo("stopped by SIGINT", err=True)
            ctx.exit(128 + signal.SIGINT)
        except OSError as e:
            if e.errno == errno.EPIPE:
                raise  # the reader of our stdout has had enough: click ends quietly
            click.echo(f"Error: {printable(str(e))}", err=True)
            abandon_stdout()
            ctx.exit(ExitCode.FAILED)


def _harmless(error: click.ClickException) -> click.ClickException:
    """What click says of an argument, without what a terminal would obey."""
    message = printable(error.format_message())
    if isinstance(error, click.UsageError):
        return click.UsageError(message, error.ctx)
    return click.ClickException(message)


def abandon_stdout() -> None:
    """Drop what is buffered for a stdout that failed: at exit it would fail again."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "RUNNER"},
)
@click.version_option(__version__, "--version", message="runner (picobatch) %(version)s")
def cli() -> None:
    """Run GPT-2 over files of prompts, offline, and prove the logits.

    Every option can be set by an environment variable: RUNNER_BATCH_MODEL is --model of
    `runner batch`.

    Exit codes: 0 done, 1 failed, 2 usage, 3 finished with bad rows, 4 logits disagree with
    the reference, 5 a metric is worse than it may be; 128 and a signal's number where one stopped
    a job.
    """
    # What a scheduler sends: leave as after an error, so that no part is left behind.
    if signal.SIGTERM in heeded():
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


@cli.command()
@click.argument("source", metavar="INPUT")
@click.argument("output")
@generation_options
@job_options
def batch(source: str, model: str | None, **options: Any) -> None:
    """Complete every prompt of INPUT and write all its rows to OUTPUT.

    Files end in .parquet, .jsonl, .jsonl.gz or .jsonl.zst; - is JSONL on stdin or stdout. INPUT
    may be a folder or a glob of them, and both may be URIs: s3://, gs://, file://, and http(s)://
    to read. What is done is kept in OUTPUT.parts until OUTPUT is whole: the same command goes on
    from there.
    """
    threads_given = click.get_current_context().get_parameter_source("threads")
    if options["engine"] != "local" and threads_given is ParameterSource.COMMANDLINE:
        raise click.UsageError("--threads is for --engine local; pass --cpus-per-task instead.")
    report = run(RunSettings(input=source, model=_model_or_demo(model), **options))
    click.echo(printable(report.summary()), err=True)
    sys.exit(report.exit_code)


@cli.command("merge")
@click.argument("output")
@click.argument("shards", nargs=-1)
@click.option("--overwrite", is_flag=True, help="Replace OUTPUT if it exists.")
def merge_command(output: str, shards: tuple[str, ...], *, overwrite: bool) -> None:
    """Join the SHARDS of a job to OUTPUT, once it is sure that they are all of it.

    Without SHARDS those beside OUTPUT are taken that are named after it, as --shard does.
    """
    report = merge(output, shards, overwrite=overwrite)
    click.echo(printable(report.summary()), err=True)
    sys.exit(report.exit_code)


@cli.command()
@click.argument("text")
@generation_options
def generate(text: str, model: str | None, **options: Any) -> None:
    """Complete TEXT, printing it as it grows."""
    settings = RunSettings(input="-", output="-", model=_model_or_demo(model), **options)
    loaded = load_model(settings.model, models_dir=settings.models_dir, base_url=settings.base_url)
    as_shown = for_terminal if sys.stdout.isatty() else str
    # With color click leaves a text as it is.
    complete(loaded, text, settings, lambda p: click.echo(as_shown(p), nl=False, color=True))
    click.echo()


@cli.command()
@click.option(
    "--model",
    default=None,
    metavar="NAME|DIR",
    help=f"A model's name or directory.  [default: {DEMO}, the bundled toy]",
)
@click.option(
    "--rows", type=click.IntRange(min=1), default=128, show_default=True, help="Prompts to run."
)
@click.option(
    "--max-new-tokens",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="Tokens to generate per prompt.",
)
@dtype_option
@threads_option
@batch_size_option
@memory_option
@place_options
def bench(model: str | None, rows: int, max_new_tokens: int, **options: Any) -> None:
    """Run a standard load on this machine, and print where the time went.

    Prompts of random words, 8 to 230 tokens long, half of them up to 50.
    """
    click.echo(measure(_model_or_demo(model), rows, max_new_tokens, **options))


@cli.command()
@click.argument("name", required=False)
@click.option("--download", is_flag=True, help="Fetch what is missing of a published model first.")
@place_options
def models(
    name: str | None, models_dir: str | None, base_url: str | None, *, download: bool
) -> None:
    """List the models that have a name, or describe the model NAME (or a directory)."""
    if download:
        fetch_named(name, models_dir, base_url)
    click.echo(list_models(models_dir) if name is None else describe_model(name, models_dir))


@cli.command()
@click.argument("model")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--opset",
    type=int,
    default=DEFAULT_OPSET,
    show_default=True,
    help="Version of ONNX's operator set.",
)
@click.option(
    "--ir-version",
    type=int,
    help="Version of ONNX's file format.  [default: the smallest for the opset, for reach]",
)
@click.option(
    "--n-ctx",
    type=click.IntRange(min=1),
    help="Tokens in a row of the graphs.  [default: the model's n_ctx]",
)
@click.option(
    "--dtype",
    "dtypes",
    type=click.Choice(list(VARIANTS)),
    multiple=True,
    default=["float32"],
    show_default=True,
    help="Number format of the model; several may be given. Each is written with a record of what "
    "it costs, and not at all where that is too much.",
)
@click.option(
    "--text",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Text that the record is made on.  [default: a page of English]",
)
@place_options
@click.option(
    "--target",
    type=click.Choice(list(TARGETS)),
    default="portable",
    show_default=True,
    help="Which operators to use.",
)
def export(
    model: str,
    directory: Path,
    models_dir: str | None,
    base_url: str | None,
    text: Path | None,
    **options: Any,
) -> None:
    """Write MODEL to the new folder DIRECTORY as ONNX graphs, checked against the reference.

    Where DIRECTORY is the model's own, the graphs are put beside its weights and use those.
    """
    loaded = load_model(model, models_dir=models_dir, base_url=base_url)
    verify = functools.partial(parity_record, text=text)
    package = export_package(loaded, directory, verify=verify, **options)
    click.echo(inspect_path(package.directory))


@cli.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--runtime",
    "runtimes",
    type=click.Choice(list(RUNTIMES)),
    multiple=True,
    help="Program to run the graphs in; several may be given.  [default: all that are installed]",
)
@click.option(
    "--prompts",
    "n_prompts",
    type=click.IntRange(min=0),
    default=8,
    show_default=True,
    help="Prompts that each completes.",
)
@click.option(
    "--max-new-tokens",
    "n_new",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    help="Tokens to generate per prompt.",
)
@threads_option
def check(directory: Path, threads: int, **options: Any) -> None:
    """Compare the graphs of an exported DIRECTORY with the NumPy reference.

    Logits of prompts of random tokens, padded on either side where the graph takes it, and what is
    generated greedily from others.
    """
    rows = check_directory(directory, threads, **options)
    click.echo(printable(summary(rows)))
    sys.exit(exit_code(rows))


@cli.command("inspect")
@click.argument("file")
@click.option("--json", "as_json", is_flag=True, help="All of it, as JSON.")
@click.option(
    "--rows",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Prompts and completions to show, from the start of the file.",
)
def inspect_command(file: str, rows: int, *, as_json: bool) -> None:
    """Print where a completions FILE, or an exported folder, came from."""
    click.echo(printable(inspect_path(file, as_json=as_json)))
    for line in first_rows(file, rows):
        click.echo(printable(line))


def _model_or_demo(model: str | None) -> str:
    if model is None:
        click.echo(
            f"using the bundled model `{DEMO}`, a toy; pass --model for a real one, such as "
            "124M, or a directory",
            err=True,
        )
        return DEMO
    return model


if __name__ == "__main__":
    cli()
