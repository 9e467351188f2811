"""Small jobs that hold every kind of row, and what must be true when they are done."""

import functools
import gzip
import json
import random
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from runner import ExitCode
from runner.provenance import FOOTER_KEY

WORDS = (
    *("the", "capital", "of", "France", "is", "hot", "cold", "Monday", "Tuesday", "three"),
    *("four", "plus", "red", "blue", "sky"),
)
HEADER = "Answer in one word, and be quick about it. "
N_ROWS, PART_ROWS = 300, 50
FINISHED = "a finished output is kept"


def rows(n_rows=N_ROWS, seed=0):
    """Repeats, bad rows, shared beginnings, limits row by row."""
    rng = random.Random(seed)
    found = []
    for i in range(n_rows):
        text = " ".join(rng.choices(WORDS, k=rng.randint(1, 7)))
        row = {"id": i, "prompt": HEADER + text if i % 4 == 0 else text}
        row["max_new_tokens"] = rng.choice([None, 0, 1, 3, 9])
        if i % 23 == 5:
            row["prompt"] = None
        if i % 9 == 8:
            row |= {name: found[i // 2][name] for name in ("prompt", "max_new_tokens")}
        found.append(row)
    return found


def write_input(path, found):
    lines = "".join(json.dumps(row) + "\n" for row in found).encode()
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(found), path)
    else:
        path.write_bytes(gzip.compress(lines, mtime=0) if path.suffix == ".gz" else lines)


@dataclass(frozen=True)
class Job:
    """A command in a folder of its own.

    Attributes
    ----------
    folder : Path
        Where its files lie, by relative names.
    source, output : str
        Their names.
    options : tuple of str
        Of the command.
    """

    folder: Path
    source: str = "in.jsonl"
    output: str = "out.jsonl"
    options: tuple[str, ...] = ()
    part_rows: int = PART_ROWS

    @property
    def args(self):
        return [
            *("batch", self.source, self.output, "--threads", "1", "--max-new-tokens", "5"),
            *("--part-rows", str(self.part_rows), "--check-rows", "3", *self.options),
        ]

    @property
    def parts(self):
        return self.folder / f"{self.output}.parts"

    @property
    def file(self):
        return self.folder / self.output

    @property
    def manifest(self):
        return self.folder / f"{self.output}.manifest.json"

    def elsewhere(self, folder):
        return replace(self, folder=folder)

    def with_options(self, *options):
        return replace(self, options=(*self.options, *options))

    def copied(self, folder):
        """The same with all its files in another folder."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return self.elsewhere(folder)


@dataclass(frozen=True)
class Result:
    """What a job that nothing happened to ends in."""

    code: int
    data: object
    counts: dict
    left: frozenset


def data_of(path):
    """What must be the same to the bit: all columns and their types, or all bytes."""
    if path.suffix != ".parquet":
        return path.read_bytes()
    table = pq.read_table(path)
    metadata = dict(table.schema.metadata or {})
    metadata.pop(FOOTER_KEY.encode(), None)
    return table.replace_schema_metadata(metadata)


def same(one, other):
    if isinstance(one, pa.Table):
        return one.schema.equals(other.schema, check_metadata=True) and one.equals(other)
    return one == other


def result_of(job, code):
    """What lies there, once its parts fit each other."""
    from runner.job_folder import file_hash
    from runner.places import Place

    manifest = json.loads(job.manifest.read_bytes())
    n_bytes, sha256 = file_hash(Place.local(job.file))
    assert manifest["file"] == {"bytes": n_bytes, "sha256": sha256}
    assert manifest["check"]["agrees"]
    counts = {k: v for k, v in manifest["counts"].items() if k != "repeated_rows"}
    left = frozenset(str(p.relative_to(job.folder)) for p in job.folder.rglob("*"))
    return Result(code, data_of(job.file), counts, left)


class Laws:
    """Runs jobs and holds them to what a job ends in that nothing happened to.

    Parameters
    ----------
    server : Server
        Runs the commands.
    tally : Counter
        Of what happened.
    """

    def __init__(self, server, tally):
        self.server, self.tally = server, tally
        self._clean = functools.lru_cache(self._run_clean)

    def run(self, job, **plan):
        return self.server.run(job.args, job.folder, **plan)

    def clean(self, job):
        """What the job ends in, with the seconds that it takes."""
        options = tuple(o for o in job.options if o != "--overwrite")
        source = (job.folder / job.source).read_bytes()
        return self._clean(job.source, job.output, options, job.part_rows, source)

    def _run_clean(self, source, output, options, part_rows, data):
        for n in range(2):  # the second finds what the first has cached
            folder = self.server.scratch / f"clean-{self._clean.cache_info().misses}-{n}"
            folder.mkdir()
            (folder / source).write_bytes(data)
            job = Job(folder, source, output, options, part_rows)
            start_s = time.monotonic()
            outcome = self.run(job)
            took_s = time.monotonic() - start_s
        assert outcome.code == ExitCode.BAD_ROWS, outcome.said
        return result_of(job, outcome.code), took_s

    def ends_well(self, job, outcome=None, *, extra=frozenset()):
        """See that the same command ends in what a job ends in that nothing happened to."""
        clean, _ = self.clean(job)
        outcome = outcome or self.run(job)
        if outcome.code == ExitCode.FAILED and FINISHED in outcome.said:
            # It was done to the last step but one: nothing is left but the end of the process.
            self.tally["finished before they were killed"] += 1
            assert not (job.parts / "job.json").exists()
            outcome = self.run(job.with_options("--resume"))
        assert outcome.code == clean.code, outcome.said
        found = result_of(job, outcome.code)
        assert same(found.data, clean.data)
        assert found.counts == clean.counts
        assert found.left - extra == clean.left, found.left ^ clean.left

    def refused(self, outcome, *words):
        """See that a command said clearly why it did nothing."""
        assert outcome.code in (ExitCode.FAILED, ExitCode.USAGE), outcome
        assert "Error: " in outcome.said
        assert "Traceback" not in outcome.said
        for word in words:
            assert word in outcome.said, outcome.said
        self.tally["refused"] += 1


def done_parts(work):
    """From a log of the work: see that no row of a finished part was generated again.

    Returns
    -------
    dict
        How many parts and rows were done, and how many rows more than once.
    """
    done, counts, generated = set(), [], {}
    for line in work.read_text().splitlines():
        what, *numbers = line.split()
        if what == "part":
            number, start, stop = map(int, numbers)
            counts.append(number)
            done |= set(range(start, stop))
        else:
            row = int(numbers[0])
            assert row not in done, f"row {row} was done\n{work.read_text()}"
            generated[row] = generated.get(row, 0) + 1
    assert len(counts) == len(set(counts)), f"parts done twice: {counts}"
    again = sum(n - 1 for n in generated.values())
    return {"parts": len(counts), "rows": len(generated), "rows generated again": again}
