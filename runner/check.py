"""An exported directory against the NumPy reference, graph by graph."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from exporter import ExportError
from exporter.package import GRAPHS, Package, open_package
from reference import PicobatchError, gpt2

from .checker import CheckReport, compare
from .engine import RUNTIME_ERRORS, IntArray, is_large, open_session
from .kv_cache import FloatArray
from .messages import cut
from .settings import available_threads

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
        By graph. Prompts of random tokens, of 1 to n_ctx tokens, padded on the right.

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
        for start in range(0, len(prompts), PROMPTS_PER_BATCH):
            some = slice(start, start + PROMPTS_PER_BATCH)
            feeds = _feeds(name, prompts[some], package.hparams["n_ctx"])
            # Not bound to a name: of a large model, the logits of two batches are a gigabyte.
            _compare_rows(
                name,
                _run(path, session, feeds, package.hparams["n_vocab"]),
                expected[some],
                package.choices,
                reports[name],
            )
        del session  # before the next takes as much memory
    return reports


def _run(path: Path, session: Any, feeds: dict[str, IntArray], n_vocab: int) -> FloatArray:
    """A graph's logits, whose shape is that of its last input and the vocabulary's size."""
    with _blaming(path):
        logits: FloatArray = session.run(["logits"], feeds)[0]
    expected = (*list(feeds.values())[-1].shape, n_vocab)
    if logits.shape != expected or logits.dtype != np.float32:
        raise ExportError(
            f"{path}: gives {logits.dtype} {list(logits.shape)}; expected float32 "
            f"{list(expected)}. Export it again."
        )
    return logits


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
    name: str,
    logits: FloatArray,
    expected: list[FloatArray],
    choices: slice,
    report: CheckReport,
) -> None:
    """Compare a graph's logits of some prompts: at every position, or at the last."""
    for row, reference in zip(logits, expected, strict=True):
        n_tokens = len(reference)
        if name == "forward":
            compared = compare(row[:n_tokens], reference, choices)
        else:
            compared = compare(row[None], reference[-1:], choices)
        report.add(f"{name}, a prompt of {n_tokens} tokens", [compared])


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


def _feeds(name: str, prompts: list[IntArray], n_ctx: int) -> dict[str, IntArray]:
    """A graph's inputs, padded on the right."""
    padded = np.zeros((len(prompts), n_ctx), dtype=np.int64)
    for row, ids in enumerate(prompts):
        padded[row, : len(ids)] = ids
    if name == "forward":
        return {"input_ids": padded}
    return {"input_ids": padded, "last": np.array([len(ids) - 1 for ids in prompts])}
