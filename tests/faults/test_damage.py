"""Files that are cut short, flipped, deleted, swapped or another job's: found, said, made anew."""

import contextlib
import random
import shutil

import pytest

from tests.faults.jobs import rows, write_input

DAMAGES = ("cut", "flip", "delete", "empty", "grow")


def file_of(job, number):
    """The name of a part's file."""
    (found,) = job.parts.glob(f"part-{number:05}-*")
    return found.name


def damage(path, kind, rng):
    data = bytearray(path.read_bytes())
    if kind == "delete":
        path.unlink()
        return
    if kind == "cut":
        data = data[: rng.randrange(len(data))]
    elif kind == "flip":
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == "grow":
        data += b"\n{}"
    else:
        data = b""
    path.write_bytes(data)


@pytest.fixture
def half_done(laws, new_job, request):
    """A job that was stopped when some of its parts were done."""
    import signal

    def make(output, *options, **settings):
        for _ in range(20):
            job = new_job(output, *options, **settings)
            child = laws.server.start(job.args, job.folder)
            while len(list(job.parts.glob("part-*.json"))) < 2 and child.runs_after(0.001):
                pass
            child.signal(signal.SIGINT)
            child.outcome()
            if (job.parts / "answers.json").exists():
                return job
        raise AssertionError("never stopped in the middle")

    return make


@pytest.mark.parametrize(
    "output", ["out.jsonl", pytest.param("out.parquet", marks=pytest.mark.nightly)]
)
def test_each_file_of_a_half_done_job(laws, half_done, folder, output):
    rng = random.Random(output)
    job = half_done(output)
    names = sorted(path.name for path in job.parts.iterdir() if path.stat().st_size)
    for name in names:
        for kind in DAMAGES:
            other = job.copied(folder / f"{kind}-{name}")
            damage(other.parts / name, kind, rng)
            outcome = laws.run(other)
            laws.tally[f"damaged: {name.split('-')[0]} {kind}"] += 1
            if name == "job.json" and outcome.code == 1:
                laws.refused(outcome, "job.json: damaged", "--overwrite")
                before = {p.name for p in job.parts.iterdir()}
                assert {p.name for p in other.parts.iterdir()} == before, "something is gone"
                other = other.with_options("--overwrite")
                outcome = laws.run(other)
            laws.tally["parts done again"] += outcome.said.count("its rows are done again")
            laws.ends_well(other, outcome)
            shutil.rmtree(other.folder)


def test_records_at_every_length(laws, half_done, folder):
    """A record that is cut short is no record, wherever the cut is."""
    from runner.job_folder import unseal

    job = half_done("out.jsonl")
    for name in ("part-00000.json", "job.json", "answers.json"):
        data = (job.parts / name).read_bytes()
        for length in range(0, len(data) - 1, 7):
            with pytest.raises(ValueError):
                unseal(data[:length])
        for place in range(0, len(data), 5):
            flipped = bytearray(data)
            flipped[place] ^= 4
            with contextlib.suppress(ValueError):
                assert unseal(bytes(flipped)) == unseal(data)  # white space


def test_files_swapped_among_each_other(laws, half_done, folder):
    job = half_done("out.jsonl")
    files = [file_of(job, 0), file_of(job, 1)]
    swaps = [
        ["part-00000.json", "part-00001.json"],
        files,
        ["part-00000.json", "part-00001.json", *files],
        ["part-00000.json", "answers.json"],
        ["part-00000.json", "job.json"],
        ["answers.json", "job.json"],
    ]
    for n, names in enumerate(swaps):
        other = job.copied(folder / f"swap-{n}")
        for one, two in zip(names[::2], names[1::2], strict=True):
            a, b = (other.parts / name for name in (one, two))
            first, second = a.read_bytes(), b.read_bytes()
            a.write_bytes(second)
            b.write_bytes(first)
        outcome = laws.run(other)
        laws.tally["files swapped"] += 1
        if "job.json" in names:
            laws.refused(outcome, "job.json: damaged")
            other = other.with_options("--overwrite")
            outcome = laws.run(other)
        laws.ends_well(other, outcome)


def test_parts_and_answers_of_another_job(laws, half_done, folder):
    """The same rows with another limit, and the same job in parts of another size."""
    for options in (("--ignore-eos",), ()):
        job = half_done("out.jsonl")
        foreign = half_done("out.jsonl", *options, part_rows=50 if options else 40)
        for name in ("part-00000.json", file_of(foreign, 0), "answers.json"):
            shutil.copy(foreign.parts / name, job.parts / name)
        outcome = laws.run(job)
        assert "part 0 is damaged; its rows are done again" in outcome.said
        assert "answers.json: damaged; its rows are done again" in outcome.said
        laws.tally["parts of another job"] += 1
        laws.ends_well(job, outcome)


def test_another_job_s_folder_is_kept(laws, half_done):
    job = half_done("out.jsonl")
    before = {path.name: path.read_bytes() for path in job.parts.iterdir()}
    other = job.with_options("--max-new-tokens", "4")
    laws.refused(laws.run(other), "max_new_tokens was 5, is 4", "--overwrite")
    after = {path.name: path.read_bytes() for path in job.parts.iterdir()}
    assert after == before
    laws.ends_well(job)


@pytest.mark.parametrize("source", ["in.jsonl", "in.parquet", "in.jsonl.gz"])
def test_an_input_that_changed_between_runs(laws, half_done, folder, source):
    rng = random.Random(source)
    job = half_done("out.jsonl", source=source)
    whole = (job.folder / source).read_bytes()
    for n, kind in enumerate(("cut", "flip", "flip", "grow", "empty", "delete", "another")):
        other = job.copied(folder / f"changed-{n}")
        if kind == "another":
            write_input(other.folder / source, rows(300, seed=1))
        else:
            damage(other.folder / source, kind, rng)
        laws.refused(laws.run(other), source)
        assert (other.parts / "part-00000.json").exists()
        laws.tally[f"input changed: {kind}"] += 1
        (other.folder / source).write_bytes(whole)
        laws.ends_well(other)
        shutil.rmtree(other.folder)


@pytest.mark.parametrize("source", ["in.jsonl", "in.parquet", "in.jsonl.gz"])
@pytest.mark.parametrize("how", ["cut", "another", "replaced", "delete", "grow"])
def test_an_input_that_changes_while_the_job_runs(laws, new_job, source, how):
    job = new_job("out.jsonl", source=source, data=rows(900), part_rows=100)
    whole = (job.folder / source).read_bytes()
    child = laws.server.start(job.args, job.folder)
    while not (job.parts / "part-00000.json").exists():
        assert child.runs_after(0.001), child.outcome()
    if how == "cut":
        with (job.folder / source).open("rb+") as stream:
            stream.truncate(len(whole) // 2)
    elif how == "another":
        write_input(job.folder / source, rows(900, seed=1))
    elif how == "replaced":
        write_input(job.folder / f"new-{source}", rows(900, seed=1))
        (job.folder / f"new-{source}").replace(job.folder / source)
    else:
        damage(job.folder / source, how, random.Random(0))
    outcome = child.outcome()
    laws.tally[f"input changed under way: {how}"] += 1
    laws.refused(outcome, source)
    assert not job.file.exists()
    assert not job.manifest.exists()
    (job.folder / source).write_bytes(whole)
    laws.ends_well(job)


def test_answers_are_not_kept_of_an_input_that_changed(laws, new_job):
    import signal

    job = new_job("out.jsonl", data=rows(900), part_rows=450)
    whole = (job.folder / job.source).read_bytes()
    child = laws.server.start(job.args, job.folder)
    while not list(job.parts.glob("tmp-*-00000.*")):
        assert child.runs_after(0.001), child.outcome()
    write_input(job.folder / job.source, rows(900, seed=1))
    child.signal(signal.SIGINT)
    assert child.outcome().code in {130, 1}
    assert not (job.parts / "answers.json").exists()
    (job.folder / job.source).write_bytes(whole)
    laws.ends_well(job)
