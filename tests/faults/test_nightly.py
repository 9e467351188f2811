"""The same for longer, and with processes as a user starts them."""

import random

import pytest

from tests.faults.test_kills import JOBS, kill_until_done

pytestmark = pytest.mark.nightly

FORKS, PROCESSES = 1400, 240  # kills


@pytest.mark.parametrize(("output", "options"), JOBS)
def test_many_kills(laws, new_job, output, options):
    rng = random.Random()
    n = 0
    while (left := FORKS // len(JOBS) - n) > 0:
        n += kill_until_done(
            laws,
            new_job(output, *options),
            rng,
            lambda job, work: laws.server.start(job.args, job.folder, work=str(work)),
            left,
        )


@pytest.mark.parametrize(("output", "options"), JOBS)
def test_kills_of_real_processes(laws, new_job, output, options):
    rng = random.Random()
    n = 0
    while (left := PROCESSES // len(JOBS) - n) > 0:
        killed = kill_until_done(
            laws,
            new_job(output, *options),
            rng,
            lambda job, _: laws.server.start_process(job.args, job.folder),
            left,
            starts_in_s=1.0,
        )
        laws.tally["real processes killed"] += killed
        n += killed
