"""Which sequences run together."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from .engine import Engine
from .generate import RunningSequence


def batches(
    engine: Engine[Any], sequences: Sequence[RunningSequence], batch_size: int | None
) -> Iterator[list[RunningSequence]]:
    """Cut sequences into batches of one group each, in input order within a group.

    Parameters
    ----------
    engine : Engine
        Says which sequences can run together, and how many should.
    sequences : sequence of RunningSequence
        A chunk's.
    batch_size : int or None
        Sequences in a batch; None asks the engine.
    """
    groups: defaultdict[int, list[RunningSequence]] = defaultdict(list)
    for sequence in sequences:
        groups[engine.group(sequence.n_tokens)].append(sequence)
    for group, members in groups.items():
        size = batch_size or engine.auto_batch_size(group)
        for start in range(0, len(members), size):
            yield members[start : start + size]
