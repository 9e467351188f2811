"""The fork server, a fast disk, and the counts of what was done to jobs."""

import json
import os
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.children import Server
from tests.faults.jobs import Job, Laws, rows, write_input

REPORT_VARIABLE = "PICOBATCH_FAULTS_REPORT"  # a file that gets the counts, a JSON line a process
SHARED_MEMORY = Path("/dev/shm")

collect_ignore = (
    [] if sys.platform == "linux" else list(map(str, Path(__file__).parent.glob("test_*.py")))
)


@pytest.fixture(scope="session")
def disk():
    """A folder on a disk whose fsync costs nothing, where there is one."""
    fast = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="picobatch-faults-", dir=fast))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def tally():
    """Counts by kind of fault; printed at the end, and written where the variable says."""
    counts = Counter()
    yield counts
    line = json.dumps(dict(sorted(counts.items())))
    sys.stdout.write(f"\nfaults: {line}\n")  # seen with -s -n 0
    if path := os.environ.get(REPORT_VARIABLE):
        with Path(path).open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")


@pytest.fixture(scope="session")
def laws(disk, tally):
    scratch = disk / "server"
    scratch.mkdir()
    server = Server(scratch, {"PICOBATCH_CACHE_DIR": str(disk / "cache")})
    yield Laws(server, tally)
    server.close()


@pytest.fixture
def folder(disk):
    """An empty folder."""
    found = Path(tempfile.mkdtemp(dir=disk))
    yield found
    shutil.rmtree(found, ignore_errors=True)


@pytest.fixture
def new_job(folder):
    """Makes jobs with their input, each in a folder of its own."""
    n = 0

    def make(output="out.jsonl", *options, source="in.jsonl", data=None, **settings):
        nonlocal n
        n += 1
        place = folder / f"job-{n}"
        place.mkdir()
        write_input(place / source, data or rows())
        return Job(place, source, output, options, **settings)

    return make
