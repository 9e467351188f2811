"""The logits that a job really used, compared with those of the NumPy reference."""

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from reference import Model
from reference.score import last_logits

from .check_report import CheckReport, Int8Loss
from .comparison import INT8_SHARE, Comparison, compare
from .engine import IntArray
from .generate import RunningSequence
from .kv_cache import FloatArray
from .sample import RowSample

FLOAT_BYTES = 4


class Checker:
    """Compares some rows with the reference, each once it is finished.

    Where a chosen row is bad, or was asked for no tokens, the next one that has any stands in for
    it.

    Parameters
    ----------
    model : Model
        The reference's own weights.
    sample : RowSample
        Chooses them.
    float32 : Model, optional
        What `model` was before it was rounded to 8 bits.
    most_bytes : int, optional
        Of logits that wait for the end of their rows. Without room for more, rows are compared
        while they grow, and the reference begins each time anew.
    part_of : callable, optional
        The number of a row's part: each has a report of its own. By default all rows are one.
    """

    def __init__(
        self,
        model: Model,
        sample: RowSample,
        float32: Model | None = None,
        most_bytes: int | None = None,
        part_of: Callable[[int], int] = lambda _: 0,
    ) -> None:
        self._model = model
        self._float32 = float32
        self._most_bytes = most_bytes
        self._stretches: defaultdict[int, list[Comparison]] = defaultdict(list)  # by row
        self._part_of = part_of
        self._sample = sample
        self.reports: defaultdict[int, CheckReport] = defaultdict(CheckReport)

    def wants(self, *, usable: bool) -> bool:
        """Whether to check the next row; asked once for every row, in input order."""
        return self._sample.wants(usable=usable)

    def check(self, sequence: RunningSequence) -> None:
        """Compare all positions of a finished sequence that recorded its logits."""
        self._compare(sequence)
        report = self.reports[self._part_of(sequence.prompt.row)]
        report.add(sequence.prompt.where, self._stretches.pop(sequence.prompt.row))

    def make_room(self, running: Sequence[RunningSequence]) -> None:
        """Compare what running sequences have recorded, the longest first, if it is too much."""
        if self._most_bytes is None:
            return
        held = sum(len(sequence.logits) for sequence in running)
        for sequence in sorted(running, key=lambda s: -len(s.logits)):
            if held * self._model.hparams["n_vocab"] * FLOAT_BYTES <= self._most_bytes:
                return
            held -= len(sequence.logits)
            self._compare(sequence)

    def _compare(self, sequence: RunningSequence) -> None:
        """Compare what a sequence has recorded since this was last done."""
        found = np.stack(sequence.logits)
        chosen = np.array(sequence.chosen[-len(found) :])
        ids = np.array(sequence.prompt.ids + sequence.chosen[:-1], dtype=np.int64)
        reference = reference_logits(self._model, ids, len(found))
        tolerance = None
        if self._float32 is not None:
            report = self.reports[self._part_of(sequence.prompt.row)]
            report.int8 = report.int8 or Int8Loss()
            exact = reference_logits(self._float32, ids, len(found))
            tolerance = INT8_SHARE * report.int8.add(reference, exact)
        self._stretches[sequence.prompt.row].append(
            compare(found, reference, self._model.tokenizer.choices, chosen, tolerance)
        )
        sequence.logits = []


def reference_logits(model: Model, ids: IntArray, n: int) -> FloatArray:
    """The reference's logits at the last n positions of a sequence: float32 [n, n_vocab]."""
    found: FloatArray = last_logits(ids, n, model.params, model.hparams, model.kv_scales)
    return found
