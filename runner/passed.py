"""What of a folder is passed over, and why: what a job wrote, and what holds no rows."""

from dataclasses import dataclass

from .storage import MANIFEST_SUFFIX, format_of

PASSED_OVER = (".", "_")  # what names of files begin with that hold no rows
PARTS, JOB = ".parts", "job.json"  # a folder of a job under way, and what it is known by
A_JOBS, HIDDEN, OTHER, AGAIN = (  # why something is passed over
    "that a job wrote",
    f"with names that begin with {' or '.join(PASSED_OVER)}",
    "of no format that is read",
    "that are others under another name",
)

Parts = tuple[str, ...]  # of a path


class Passed:
    """What of a folder or a pattern is not taken, by why.

    Parameters
    ----------
    takes_outputs : bool
        Whether what jobs wrote is taken: where nothing else is there, that is what is meant.
    """

    def __init__(self, *, takes_outputs: bool = False) -> None:
        self.takes_outputs = takes_outputs
        self._names: dict[str, set[str]] = {}

    @property
    def any_output(self) -> bool:
        return A_JOBS in self._names

    def add(self, why: str, name: str) -> None:
        self._names.setdefault(why, set()).add(name)

    def __str__(self) -> str:
        """Empty where nothing was passed over."""
        return "; ".join(
            f"{len(found):,} {why}, such as {min(found)}"
            for why, found in sorted(self._names.items())
        )


@dataclass(frozen=True)
class Tree:
    """The files below a folder."""

    files: frozenset[Parts]

    def is_output(self, file: Parts) -> bool:
        """Whether a job wrote a file, as the manifest beside it tells."""
        return (*file[:-1], file[-1] + MANIFEST_SUFFIX) in self.files

    def is_job(self, folder: Parts) -> bool:
        return folder[-1].endswith(PARTS) and (*folder, JOB) in self.files

    def passed_over(self, parts: Parts, *, outputs_too: bool = False) -> tuple[str, Parts] | None:
        """Why a file is not taken, and what of its path says so: a folder counts as one."""
        for n in range(1, len(parts) + 1):
            if parts[n - 1].startswith(PASSED_OVER):
                return HIDDEN, parts[:n]
            if n < len(parts) and self.is_job(parts[:n]):
                return A_JOBS, parts[:n]
        if not outputs_too and self.is_output(parts):
            return A_JOBS, parts
        if format_of(parts[-1]) is None and not parts[-1].endswith(MANIFEST_SUFFIX):
            return OTHER, parts
        return None
