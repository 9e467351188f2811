"""How many sequences run together: as many as make a step faster per token, and fit in memory."""

from pathlib import Path
from statistics import median

import psutil

from reference import HParams, param_count

from .errors import SettingsError

FIRST_SIZE = 32
MOST_SIZE = 512
STEPS = 5  # timed at each size
GAIN = 1.15  # in tokens per second, that makes twice the size worth its memory
HEADROOM_BYTES = 256 << 20  # for what a step computes, rows in flight, Python itself
# What a process was seen to take of 124M's shapes and of the bundled model's, mapped weights and 64
# rows together included (benchmarks/cluster_simulation.py): of the program, and for a parameter.
PROGRAM_BYTES = 200 << 20
PARAMETER_BYTES = {"float32": 11.0, "int8": 4.0}
SHARE = 0.5  # of the memory that is free at the start, without `--memory`
CGROUP_LIMITS = (
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
)


class BatchSize:
    """The number of sequences to run together, given or found while they run.

    Found by doubling: each size is timed for some steps with all its slots taken, and the next
    one is kept if it makes more tokens per second. Answers do not depend on it.

    Attributes
    ----------
    wanted, most : int
        Sequences to run together now, and ever.
    """

    def __init__(self, fixed: int | None) -> None:
        self.wanted = fixed or FIRST_SIZE
        self.most = fixed or MOST_SIZE
        self._settled = fixed is not None
        self._best = 0.0
        self._seconds: list[float] = []

    def record(self, n_slots: int, seconds: float) -> None:
        """Take note of a step's time."""
        if self._settled or n_slots != self.wanted:
            return
        self._seconds.append(seconds)
        if len(self._seconds) < STEPS:
            return
        tokens_per_s = n_slots / median(self._seconds)
        self._seconds = []
        if tokens_per_s < GAIN * self._best:
            self.wanted //= 2
            self._settled = True
        elif self.wanted >= self.most:
            self._settled = True
        else:
            self._best = tokens_per_s
            self.wanted *= 2


def cache_bytes(
    hparams: HParams, token_bytes: int, memory_bytes: int | None, share: float = 1.0
) -> int:
    """Memory for keys and values, when the weights are loaded.

    Parameters
    ----------
    hparams : HParams
        Of the model.
    token_bytes : int
        What the keys and values of one token take.
    memory_bytes : int or None
        What the whole process may take; None shares what is free.
    share : float
        Of what is free: other processes may take theirs.

    Raises
    ------
    SettingsError
        Where not even one sequence of n_ctx tokens fits.
    """
    used = psutil.Process().memory_info().rss
    if memory_bytes is None:
        budget = int(SHARE * share * available_bytes())
    else:
        budget = memory_bytes - used - HEADROOM_BYTES
    least = token_bytes * hparams["n_ctx"]
    if budget < least:
        raise SettingsError(
            f"memory is {_shown(memory_bytes or available_bytes())}; the model and the program "
            f"take {_shown(used)}, and one sequence of {hparams['n_ctx']} tokens "
            f"{_shown(least + HEADROOM_BYTES)} more. Give it at least "
            f"{_shown(used + least + HEADROOM_BYTES)}, or take a smaller model."
        )
    return budget


def process_bytes(hparams: HParams, dtype: str) -> int:
    """About what a process takes that runs a model, to tell how many fit on a machine."""
    return PROGRAM_BYTES + int(PARAMETER_BYTES[dtype] * param_count(hparams))


def available_bytes() -> int:
    """Memory that this process can still get: the machine's, or its control group's."""
    found = int(psutil.virtual_memory().available)
    for path in CGROUP_LIMITS:
        try:
            limit = Path(path).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if limit.isdigit():
            found = min(found, max(0, int(limit) - psutil.Process().memory_info().rss))
    return found


def _shown(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.2f} GiB"
