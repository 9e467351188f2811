"""What a number format costs: logits on a text against those of the float32 reference."""

import hashlib
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from exporter import Package
from exporter.variants import VARIANTS
from reference import Model, gpt2
from reference.gpt2 import Params, log_softmax
from reference.tokenizer import Choices

from .comparison import BLOCK_POSITIONS
from .engine import IntArray
from .errors import InputError
from .kv_cache import FloatArray
from .padding import logits_of
from .runtimes import RUNTIMES, Runtime
from .settings import available_threads
from .trial import DisagreementError, Trial, prompts_logits

DEFAULT_TEXT = Path(__file__).with_name("parity.txt")
OURS = "onnxruntime"  # what proves an export
MOST_TOKENS = 1024  # of a text that are looked at
MOST_NATS = 700.0  # whose exponential is a number in JSON, too
# A rounding that falls the other way is passed on: NumPy and a runtime may each be as far from
# float32 as the format is, on opposite sides.
SIDES = 2


@dataclass(frozen=True)
class Passage:
    """Consecutive tokens of a text, with the reference's logits after each.

    Attributes
    ----------
    ids, following : int64 [n]
        Tokens, and the one that follows each.
    logits : float32 [n, n_vocab]
        Of the float32 reference.
    """

    ids: IntArray
    following: IntArray
    logits: FloatArray


@dataclass(frozen=True)
class Baseline:
    """What the float32 reference says.

    Attributes
    ----------
    text_sha256 : str
        Of a text's bytes.
    passages : list of Passage
        The text, cut into parts that fit into the context.
    logits : list of float32 [n_seq, n_vocab]
        Of the prompts of a `Trial`.
    """

    text_sha256: str
    passages: list[Passage]
    logits: list[FloatArray]


def read_text(path: Path, model: Model, params: Params) -> tuple[str, list[Passage]]:
    """A text's SHA-256, and its tokens with the reference's logits.

    Parameters
    ----------
    path : Path
        A text file.
    model : Model
        Its tokenizer and sizes.
    params : tree of float32
        Its parameters.

    Raises
    ------
    InputError
        Where it is not readable, or too short.
    """
    try:
        raw = path.read_bytes()
        text = raw.decode()
    except (OSError, UnicodeDecodeError) as e:
        raise InputError(f"{path}: {e}; expected a text in UTF-8. Check the path.") from None
    ids = np.array(model.tokenizer.encode(text)[: MOST_TOKENS + 1], dtype=np.int64)
    if len(ids) < 2:
        raise InputError(
            f"{path}: {len(ids)} tokens; expected two or more, of which each but the first is "
            "predicted. Pass a longer text."
        )
    n_ctx, n_head = model.hparams["n_ctx"], model.hparams["n_head"]
    cuts = [slice(start, start + n_ctx) for start in range(0, len(ids) - 1, n_ctx)]
    parts = [ids[:-1][at] for at in cuts]
    return hashlib.sha256(raw).hexdigest(), [
        Passage(part, ids[1:][at], gpt2(part, **params, n_head=n_head))
        for part, at in zip(parts, cuts, strict=True)
    ]


@dataclass
class ParityRecord:
    """A graph's logits on a text beside those of the float32 reference.

    Attributes
    ----------
    dtype, runtime : str
        What computed the graph's logits.
    text_sha256 : str
        Of the text's bytes.
    positions : int
        Tokens that were predicted.
    max_abs_diff, mean_abs_diff : float
        Of the logits, over all positions and the whole vocabulary.
    top1_agreement : float
        Share of positions with the same greedy choice.
    kl_mean, kl_p99 : float
        From the reference's distribution to the graph's, in nats: the mean over the positions, and
        what 99 of 100 do not exceed.
    reference_perplexity, perplexity : float
        Of the text.
    perplexity_change : float
        From the first to the second, as a share.
    """

    dtype: str
    runtime: str
    text_sha256: str
    positions: int = 0
    max_abs_diff: float = 0.0
    mean_abs_diff: float = 0.0
    top1_agreement: float = 0.0
    kl_mean: float = 0.0
    kl_p99: float = 0.0
    reference_perplexity: float = 0.0
    perplexity: float = 0.0
    perplexity_change: float = 0.0
    tolerance: dict[str, float] = field(default_factory=dict)

    @property
    def agrees(self) -> bool:
        # Written so that a NaN fails.
        return (
            self.kl_mean <= self.tolerance["kl_mean"]
            and abs(self.perplexity_change) <= self.tolerance["perplexity_change"]
        )

    def as_dict(self) -> dict[str, Any]:
        return {"agrees": self.agrees, **asdict(self)}

    def summary(self) -> str:
        """One line for people."""
        return (
            f"{self.dtype}: on a text of {self.positions} tokens, logits differ by "
            f"{self.max_abs_diff:.2g} at most, {self.mean_abs_diff:.2g} on average; same choice "
            f"at {self.top1_agreement:.2%}; KL {self.kl_mean:.2g} (tolerance "
            f"{self.tolerance['kl_mean']:.2g}); perplexity {self.perplexity_change:+.3%} "
            f"(tolerance {self.tolerance['perplexity_change']:.2%})"
        )


class ParityMeter:
    """Adds passages up to a record."""

    def __init__(self, dtype: str, runtime: str, text_sha256: str, choices: Choices) -> None:
        variant = VARIANTS[dtype]
        limits = {
            "kl_mean": variant.most_kl,
            "perplexity_change": variant.most_perplexity_change,
        }
        self._record = ParityRecord(dtype, runtime, text_sha256, tolerance=limits)
        self._choices = choices
        self._kl: list[FloatArray] = []
        self._same = 0
        self._diffs = 0.0
        self._nlls = np.zeros(2)  # of the reference, of the graph

    def add(self, passage: Passage, logits: FloatArray) -> None:
        """Take in a passage, and the graph's logits after each of its tokens."""
        for start in range(0, len(logits), BLOCK_POSITIONS):
            at = slice(start, start + BLOCK_POSITIONS)
            self._add(passage.following[at], passage.logits[at], logits[at])

    def _add(self, following: IntArray, reference: FloatArray, found: FloatArray) -> None:
        record = self._record
        both = [x[:, self._choices].astype(np.float64) for x in (reference, found)]
        diff = np.abs(both[1] - both[0])
        record.max_abs_diff = float(np.maximum(record.max_abs_diff, np.max(diff)))  # keeps a NaN
        self._diffs += float(np.sum(np.mean(diff, axis=-1)))
        self._same += int(np.sum(both[0].argmax(axis=-1) == both[1].argmax(axis=-1)))
        log_p, log_q = map(log_softmax, both)
        self._kl.append(np.sum(np.exp(log_p) * (log_p - log_q), axis=-1))
        rows = np.arange(len(following))
        self._nlls -= [np.sum(log_p[rows, following]), np.sum(log_q[rows, following])]
        record.positions += len(following)

    def record(self) -> ParityRecord:
        record, n = self._record, self._record.positions
        kl = np.concatenate(self._kl)
        record.mean_abs_diff, record.top1_agreement = self._diffs / n, self._same / n
        record.kl_mean, record.kl_p99 = float(np.mean(kl)), float(np.percentile(kl, 99))
        nlls = np.minimum(self._nlls / n, MOST_NATS)
        record.reference_perplexity, record.perplexity = np.exp(nlls).tolist()
        change = np.minimum((self._nlls[1] - self._nlls[0]) / n, MOST_NATS)
        record.perplexity_change = float(np.expm1(change))
        return record


def parity_record(
    package: Package, model: Model, text: Path | None = None
) -> dict[str, dict[str, Any]]:
    """What the formats of a package cost, and that its graphs compute them, for its manifest.

    Parameters
    ----------
    package : Package
        Of this model.
    model : Model
        In float32.
    text : Path, optional
        That perplexity is taken of; by default a page in English that comes with us.

    Raises
    ------
    DisagreementError
        Where a graph or a format is out of tolerance: such a package must not be written.
    """
    # The folder's own weights where it has them: they are mapped for a while, not the model's too.
    params = package.params("float32") if "float32" in package.dtypes else model.params
    sha256, passages = read_text(text or DEFAULT_TEXT, model, params)
    logits = prompts_logits(package, params)
    del params
    baseline = Baseline(sha256, passages, logits)
    return {dtype: _prove(package, model.name, dtype, baseline) for dtype in package.dtypes}


def _prove(package: Package, name: str, dtype: str, baseline: Baseline) -> dict[str, Any]:
    runtime, threads = RUNTIMES[OURS], available_threads()
    logits = baseline.logits if dtype == "float32" else None
    trial = Trial.prepare(package, dtype, threads, None, logits=logits)
    record = _measure(trial, runtime, baseline)
    if not record.agrees:
        raise DisagreementError(
            f"{name} in {dtype} is not what it is in float32; nothing was written.\n"
            f"{record.summary()}"
        )
    if dtype != "float32":
        pairs = zip(trial.logits, baseline.logits, strict=True)
        cost = max(float(np.max(np.abs(rounded - exact))) for rounded, exact in pairs)
        trial = replace(trial, tolerance=SIDES * cost)
    checks = {}
    for row in trial.rows(runtime, runtime.version()):
        if not row.agrees or row.logits is None:
            said = row.failed or (row.logits.summary() if row.logits else "")
            raise DisagreementError(
                f"graph {row.graph} of {name} in {dtype} disagrees with the reference; nothing "
                f"was written.\n{said}"
            )
        checks[row.graph] = row.logits.as_dict()
    return {"record": record.as_dict(), "checks": checks, "tolerance": trial.tolerance}


def _measure(trial: Trial, runtime: Runtime, baseline: Baseline) -> ParityRecord:
    """What the graph with past says of a text."""
    package, dtype = trial.package, trial.dtype
    said_by = f"{runtime.name} {runtime.version()}"
    meter = ParityMeter(dtype, said_by, baseline.text_sha256, package.choices)
    run = trial.opened("with_past", runtime)
    ids = [passage.ids for passage in baseline.passages]
    logits = logits_of("with_past", run, package.hparams, dtype, ids, "right")
    for passage, found in zip(baseline.passages, logits, strict=True):
        meter.add(passage, found)
    return meter.record()
