"""An exported directory against the NumPy reference, graph by graph."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from exporter import ExportError
from exporter.package import GRAPHS, Package, open_package
from reference import HParams, PicobatchError, gpt2
from reference.with_past import empty_past

from .checker import CheckReport, compare
from .engine import RUNTIME_ERRORS, IntArray, is_large, open_session
from .kv_cache import FloatArray
from .messages import cut
from .settings import available_threads

# On which sides a graph's rows may be padded.
PADDED = {"with_past": ("right", "left"), "forward": ("right",), "next_logits": ("right",)}
PROMPTS_PER_BATCH = 2  # two rows, so that the symbolic batch axis is really used


class DisagreementError(PicobatchError):
    """Logits of a graph differ from the reference's by more than the tolerance."""


def check_directory(directory: str | Path, threads: int | None = None) -> dict[str, CheckReport]:
    """Compare every graph of an exported directory with the reference.

    Parameters
    ----------
    directory : Path
        From `runner export`.
    threads : int, optional
        Threads of one model call; by default all.

    Returns
    -------
    dict of str to CheckReport
        By graph. Prompts of random tokens, of 1 to n_ctx tokens, in padded batches.

    Raises
    ------
    ExportError
        Where the directory does not hold together.
    """
    return check_package(open_package(directory), threads)


def check_package(package: Package, threads: int | None = None) -> dict[str, CheckReport]:
    """As `check_directory`, for a package that is open."""
    params, n_head = package.params(), package.hparams["n_head"]
    prompts = _prompts(package)
    expected = [gpt2(ids, **params, n_head=n_head) for ids in prompts]
    lean = is_large(params)
    del params  # and with it the memory that their file is mapped into
    reports = {}
    for name in GRAPHS:
        path = package.graph_path(name)
        with _blaming(path):
            session = open_session(path, threads or available_threads(), lean=lean)
        reports[name] = CheckReport()
        for side in PADDED[name]:
            for start in range(0, len(prompts), PROMPTS_PER_BATCH):
                some = slice(start, start + PROMPTS_PER_BATCH)
                # Not bound to a name: of a large model, the logits of two batches are a gigabyte.
                _compare_rows(
                    f"{name}, padded on the {side}",
                    _logits(name, path, session, prompts[some], package.hparams, side),
                    expected[some],
                    package.choices,
                    reports[name],
                )
        del session  # before the next takes as much memory
    return reports


def _logits(
    name: str, path: Path, session: Any, prompts: list[IntArray], hparams: HParams, side: str
) -> list[FloatArray]:
    """A graph's logits of some prompts: at every position, or at the last."""
    if name == "with_past":
        return _logits_by_parts(path, session, prompts, hparams, side)
    shape = len(prompts), hparams["n_ctx"]
    padded, _ = _padded(prompts, hparams["n_ctx"], side)
    if name == "forward":
        logits = _run(path, session, {"input_ids": padded}, (*shape, hparams["n_vocab"]))[0]
        return [row[: len(ids)] for row, ids in zip(logits, prompts, strict=True)]
    feeds = {"input_ids": padded, "last": np.array([len(ids) - 1 for ids in prompts])}
    logits = _run(path, session, feeds, (len(prompts), hparams["n_vocab"]))[0]
    return [row[None] for row in logits]


def _logits_by_parts(
    path: Path, session: Any, prompts: list[IntArray], hparams: HParams, side: str
) -> list[FloatArray]:
    """All positions' logits, from two calls: without a past, and with the first one's."""
    width = max(map(len, prompts))
    padded, there = _padded(prompts, width, side)
    positions = np.maximum(np.cumsum(there, axis=1) - 1, 0)
    past = {
        f"past_key_values.{n}.{name}": array
        for n, layer in enumerate(empty_past(hparams, len(prompts)))
        for name, array in layer.items()
    }
    whole = np.empty((len(prompts), width, hparams["n_vocab"]), np.float32)
    for start, end in ((0, (width + 1) // 2), ((width + 1) // 2, width)):
        if start == end:
            continue
        feeds = {
            "input_ids": padded[:, start:end],
            "attention_mask": there[:, :end],
            "position_ids": positions[:, start:end],
        }
        shape = len(prompts), end - start, hparams["n_vocab"]
        logits, *present = _run(path, session, feeds | past, shape, past)
        past = dict(zip(past, present, strict=True))
        whole[:, start:end] = logits
    firsts = np.argmax(there, axis=1).tolist()
    return [
        row[first : first + len(ids)]
        for row, first, ids in zip(whole, firsts, prompts, strict=True)
    ]


def _padded(prompts: list[IntArray], width: int, side: str) -> tuple[IntArray, IntArray]:
    """Prompts as rows of one length, and 1 where their tokens are."""
    padded = np.zeros((len(prompts), width), dtype=np.int64)
    there = np.zeros_like(padded)
    for row, ids in enumerate(prompts):
        at = slice(width - len(ids), width) if side == "left" else slice(len(ids))
        padded[row, at], there[row, at] = ids, 1
    return padded, there


def _run(
    path: Path,
    session: Any,
    feeds: dict[str, Any],
    shape: tuple[int, ...],
    past: Iterable[str] = (),
) -> list[FloatArray]:
    """A graph's logits, of the shape that they must have, and the past that it gives back."""
    present = [name.replace("past_key_values", "present") for name in past]
    with _blaming(path):
        found: list[FloatArray] = session.run(["logits", *present], feeds)
    if found[0].shape != shape or found[0].dtype != np.float32:
        raise ExportError(
            f"{path}: gives {found[0].dtype} {list(found[0].shape)}; expected float32 "
            f"{list(shape)}. Export it again."
        )
    return found


@contextmanager
def _blaming(path: Path) -> Iterator[None]:
    """Say of which graph onnxruntime complains."""
    try:
        yield
    except RUNTIME_ERRORS as e:
        raise ExportError(
            f"{path}: onnxruntime refuses it ({cut(str(e))}); expected the graph that was "
            "exported. Export it again."
        ) from None


def _compare_rows(
    what: str,
    logits: list[FloatArray],
    expected: list[FloatArray],
    choices: slice,
    report: CheckReport,
) -> None:
    """Compare a graph's logits of some prompts at their last positions, as many as there are."""
    for found, reference in zip(logits, expected, strict=True):
        compared = compare(found, reference[-len(found) :], choices)
        report.add(f"{what}, a prompt of {len(reference)} tokens", [compared])


def parity_record(package: Package) -> dict[str, Any]:
    """What the check of a package found, for its manifest.

    Raises
    ------
    DisagreementError
        Where a graph is out of tolerance: such a package must not be written.
    """
    reports = check_package(package)
    for name, report in reports.items():
        if not report.agrees:
            raise DisagreementError(
                f"graph {name} of {package.manifest['model']['name']} disagrees with the "
                f"reference; nothing was written.\n{report.summary()}"
            )
    return {name: report.as_dict() for name, report in reports.items()}


def _prompts(package: Package) -> list[IntArray]:
    n_ctx, n_vocab = package.hparams["n_ctx"], package.hparams["n_vocab"]
    rng = np.random.default_rng(0)
    lengths = dict.fromkeys([1, min(7, n_ctx), (n_ctx + 1) // 2, n_ctx])
    return [rng.integers(0, n_vocab, length) for length in lengths]
