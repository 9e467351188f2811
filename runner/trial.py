"""One format's graphs on trial: what they must say, and what each program makes of them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from exporter import Package
from exporter.variants import GRAPHS
from reference import PicobatchError, gpt2

from .check_report import CheckReport
from .comparison import Comparison, compare
from .engine import IntArray, is_large
from .kv_cache import FloatArray
from .messages import cut, shown
from .padding import PADDED, Run, greedy_tokens, logits_of
from .runtimes import GraphFile, Runtime

COMPARED_TOGETHER = 2  # prompts: two rows, so that the symbolic batch axis is really used
GENERATED_TOGETHER = 8
LONGEST_GENERATED_FROM = 128  # tokens of a prompt that is completed


class DisagreementError(PicobatchError):
    """Logits of a graph differ from the reference's by more than the tolerance."""


@dataclass
class CheckRow:
    """One graph in one runtime.

    Attributes
    ----------
    runtime, version : str
        The program.
    dtype, graph : str
        What it ran; empty where it is not here.
    logits : CheckReport, optional
        Of padded prompts; None where the program does not tell them.
    tokens : CheckReport, optional
        Of what was generated: each token against the choice of the reference after those before.
    failed : str
        Why there is no result.
    skipped : str
        Why it was not run.
    """

    runtime: str
    version: str = ""
    dtype: str = ""
    graph: str = ""
    logits: CheckReport | None = None
    tokens: CheckReport | None = None
    failed: str = ""
    skipped: str = ""
    generated: list[tuple[IntArray, list[int]]] = field(default_factory=list, repr=False)

    @property
    def agrees(self) -> bool:
        reports = [report for report in (self.logits, self.tokens) if report is not None]
        return not self.failed and all(report.agrees for report in reports)

    @property
    def is_compared(self) -> bool:
        """Whether anything was held against the reference."""
        return any(report is not None and report.rows for report in (self.logits, self.tokens))

    @property
    def status(self) -> str:
        return "skipped" if self.skipped else "ok" if self.agrees else "FAILED"


@dataclass(frozen=True)
class Trial:
    """What the graphs of one format must say, and what is tried to find out whether they do.

    Attributes
    ----------
    package : Package
        The exported folder.
    dtype : str
        The format.
    threads : int
        Of one model call.
    tolerance : float, optional
        Of logits; by default by their spread.
    prompts : list of int64 [n_seq]
        Random tokens, 1 to n_ctx of them.
    logits : list of float32 [n_seq, n_vocab]
        Of the reference with the format's own weights, for each prompt.
    to_complete : list of int64 [n_seq]
        Prompts for greedy generation.
    n_new : int
        Tokens to generate for each, as many as find room.
    large : bool
        Whether the weights should not be copied.
    """

    package: Package
    dtype: str
    threads: int
    tolerance: float | None
    prompts: list[IntArray]
    logits: list[FloatArray]
    to_complete: list[IntArray]
    n_new: int
    large: bool

    @classmethod
    def prepare(
        cls,
        package: Package,
        dtype: str,
        threads: int,
        tolerance: float | None,
        n_prompts: int = 0,
        n_new: int = 0,
        logits: list[FloatArray] | None = None,
    ) -> "Trial":
        """Compute what is expected, unless these are the logits."""
        # What is mapped for it is given back when it is done.
        params = package.params(dtype)
        prompts = random_prompts(package)
        logits = logits or prompts_logits(package, params)
        n_new = min(n_new, package.hparams["n_ctx"] - 1)  # after one token
        to_complete = _prompts_to_complete(package, n_prompts, n_new) if n_new else []
        large = is_large(params)
        return cls(package, dtype, threads, tolerance, prompts, logits, to_complete, n_new, large)

    def rows(self, runtime: Runtime, version: str) -> list[CheckRow]:
        """A runtime's results; what it generated is judged later, all at once."""
        if runtime.generator is not None:
            row = CheckRow(runtime.name, version, self.dtype, "with_past")
            return [self._generated(runtime, row)]
        return [
            self._compared(runtime, CheckRow(runtime.name, version, self.dtype, name))
            for name in GRAPHS
        ]

    def _generated(self, runtime: Runtime, row: CheckRow) -> CheckRow:
        assert runtime.generator is not None
        if not (self.package.directory / "onnx").is_dir():
            row.skipped = "there are no configurations beside a model's own weights"
        elif self.package.eos_id is None:
            row.skipped = "needs a model with an end-of-text token"
        elif not self.to_complete:
            row.skipped = "no prompts to complete"
        else:
            with _noting_failure(row):
                generate = runtime.generator(self.package, self.dtype, self.threads)
                for batch in _batches(self.to_complete):
                    new = generate([ids.tolist() for ids in batch], self.n_new)
                    row.generated += zip(batch, new, strict=True)
        return row

    def _compared(self, runtime: Runtime, row: CheckRow) -> CheckRow:
        hparams, choices = self.package.hparams, self.package.choices
        with _noting_failure(row):
            run = self.opened(row.graph, runtime)
            row.logits = CheckReport()
            for side in PADDED[row.graph]:
                self._compare_logits(row.graph, side, run, row.logits)
                if row.graph == "with_past":
                    for batch in _batches(self.to_complete):
                        new = greedy_tokens(
                            run, hparams, self.dtype, batch, side, self.n_new, choices
                        )
                        row.generated += zip(batch, new, strict=True)
        return row

    def opened(self, name: str, runtime: Runtime) -> Run:
        """A graph in a runtime, whose logits must have the right type and shape."""
        graph = self.package.variant(self.dtype)["graphs"][name]
        path = self.package.graph_path(name, self.dtype)
        data = self.package.data_files(name, self.dtype)
        assert runtime.open is not None
        session = runtime.open(
            GraphFile(path, data, [*graph["inputs"]], [*graph["outputs"]], self.large),
            self.threads,
        )
        n_vocab = self.package.hparams["n_vocab"]

        def run(outputs: list[str], feeds: dict[str, Any]) -> list[Any]:
            found = session.run(outputs, feeds)
            ids = feeds["input_ids"].shape
            shape = (ids[0], n_vocab) if name == "next_logits" else (*ids, n_vocab)
            if found[0].shape != shape or found[0].dtype != np.float32:
                raise DisagreementError(
                    f"gives {found[0].dtype} {list(found[0].shape)}; expected float32 {list(shape)}"
                )
            return found

        return run

    def _compare_logits(self, name: str, side: str, run: Run, report: CheckReport) -> None:
        for start in range(0, len(self.prompts), COMPARED_TOGETHER):
            some = slice(start, start + COMPARED_TOGETHER)
            # Not bound to a name: of a large model, the logits of two batches are a gigabyte.
            for found, reference in zip(
                logits_of(name, run, self.package.hparams, self.dtype, self.prompts[some], side),
                self.logits[some],
                strict=True,
            ):
                expected = reference[-len(found) :]
                compared = compare(found, expected, self.package.choices, tolerance=self.tolerance)
                where = f"{name}, padded on the {side}, a prompt of {len(reference)} tokens"
                report.add(where, [compared])

    def judge(self, rows: Sequence[CheckRow]) -> None:
        """Hold each generated token against the reference's choice after those before it."""
        n_head = self.package.hparams["n_head"]
        params: Any = None
        seen: dict[tuple[bytes, tuple[int, ...]], Comparison] = {}
        for row in rows:
            for ids, new in () if row.failed else row.generated:
                row.tokens = row.tokens or CheckReport()
                where = f"{row.runtime}, after a prompt of {len(ids)} tokens"
                if wrong := self._wrong_tokens(new):
                    row.failed = f"{where}: {wrong}"
                    break
                key = ids.tobytes(), tuple(new)
                if key not in seen:
                    params = params or self.package.params(self.dtype)
                    whole = np.concatenate([ids, new[:-1]]).astype(np.int64)
                    logits = gpt2(whole, **params, n_head=n_head)[len(ids) - 1 :]
                    seen[key] = compare(
                        logits, logits, self.package.choices, np.array(new), self.tolerance
                    )
                row.tokens.add(where, [seen[key]])

    def _wrong_tokens(self, new: Sequence[Any]) -> str | None:
        """What is wrong with generated tokens before they are looked at, if anything."""
        n_vocab = self.package.hparams["n_vocab"]
        for token in new:
            if type(token) is not int or not 0 <= token < n_vocab:
                return f"{shown(token)} is no id; expected 0 to {n_vocab - 1}"
        is_ended = bool(new) and new[-1] == self.package.eos_id
        if not new or len(new) > self.n_new or (len(new) < self.n_new and not is_ended):
            return f"{len(new)} tokens; expected {self.n_new}"
        return None


def _batches(prompts: list[IntArray]) -> Iterator[list[IntArray]]:
    for start in range(0, len(prompts), GENERATED_TOGETHER):
        yield prompts[start : start + GENERATED_TOGETHER]


@contextmanager
def _noting_failure(row: CheckRow) -> Iterator[None]:
    """Whatever a foreign program raises is its result."""
    try:
        yield
    except Exception as e:  # noqa: BLE001
        row.failed = f"{type(e).__name__}: {cut(' '.join(str(e).split()))}"


def prompts_logits(package: Package, params: dict[str, Any]) -> list[FloatArray]:
    """The reference's, of random prompts."""
    n_head = package.hparams["n_head"]
    return [gpt2(ids, **params, n_head=n_head) for ids in random_prompts(package)]


def random_prompts(package: Package) -> list[IntArray]:
    """Of 1 to n_ctx tokens."""
    n_ctx, n_vocab = package.hparams["n_ctx"], package.hparams["n_vocab"]
    rng = np.random.default_rng(0)
    lengths = dict.fromkeys([1, min(7, n_ctx), (n_ctx + 1) // 2, n_ctx])
    return [rng.integers(0, n_vocab, length) for length in lengths]


def _prompts_to_complete(package: Package, count: int, n_new: int) -> list[IntArray]:
    """Random tokens without end-of-text, of many lengths, with room for the new ones."""
    longest = min(LONGEST_GENERATED_FROM, package.hparams["n_ctx"] - n_new)
    rng = np.random.default_rng(1)
    ids = np.arange(package.n_tokens)
    usable = ids[ids != package.eos_id]
    if not len(usable):
        return []
    return [rng.choice(usable, rng.integers(1, longest + 1)) for _ in range(count)]
