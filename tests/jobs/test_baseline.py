"""Baselines: swapped in whole, whoever reads or dies meanwhile."""

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from jobs import baseline
from jobs.baseline import bless, checked_name, names, read_baseline
from jobs.results import Metric
from jobs.run_folder import write_run
from runner.errors import InputError, OutputError, SettingsError
from tests.jobs.nights import result, row, task

ROOT = Path(__file__).parents[2]
RUNS = 4
ROWS = 40


def night(n):
    """Run number n: all of its rows say so, and so does its metric."""
    rows = [row(i, 1, -float(n), answer=f"of run {n}") for i in range(ROWS)]
    return result(f"run-{n}", t=task(rows), u=task(rows))


def number(found):
    """Which run was read; fails where it is a mixture of two."""
    (n,) = {r.answer for of in found.tasks.values() for r in of.rows} | {
        f"of run {found.run.removeprefix('run-')}"
    }
    assert all(len(of.rows) == ROWS for of in found.tasks.values())
    return int(n.removeprefix("of run "))


@pytest.fixture
def runs(tmp_path):
    return [write_run(night(n), tmp_path / "runs") for n in range(RUNS)]


@pytest.fixture
def home(tmp_path):
    return tmp_path / "baselines"


def test_before_the_first_there_is_none(home):
    assert read_baseline(home, "good", required=False) is None
    with pytest.raises(InputError, match=r"good: no such baseline; there are: none.*--bless good"):
        read_baseline(home, "good", required=True)
    assert names(home) == []


def test_a_run_is_blessed_and_replaced(runs, home):
    assert bless(runs[0], home, "good") == home / "good"
    assert number(read_baseline(home, "good", required=True)) == 0
    bless(runs[1], home, "good")
    bless(runs[2], home, "other")
    assert number(read_baseline(home, "good", required=True)) == 1
    assert read_baseline(home, "good", required=True) == night(1)
    assert names(home) == ["good", "other"] == sorted(path.name for path in home.iterdir())
    with pytest.raises(InputError, match="there are: good, other"):
        read_baseline(home, "none", required=True)


@pytest.mark.skipif(sys.platform == "win32", reason="links")
def test_a_link_is_replaced_and_what_it_leads_to_stays(runs, home, tmp_path):
    home.mkdir()
    (home / "good").symlink_to(runs[0])
    assert number(read_baseline(home, "good", required=True)) == 0
    bless(runs[1], home, "good")
    assert not (home / "good").is_symlink()
    assert number(read_baseline(home, "good", required=True)) == 1
    bless(runs[2], home, "good")
    assert [entry.name for entry in home.iterdir()] == ["good"]
    assert (runs[0] / "results.json").is_file()
    (home / "lost").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match="lost: is a link that leads nowhere"):
        read_baseline(home, "lost", required=False)
    bless(runs[3], home, "lost")
    assert number(read_baseline(home, "lost", required=True)) == 3


def test_only_the_figures_are_kept(runs, home):
    (runs[0] / "report.html").write_text("x")
    found = bless(runs[0], home, "good")
    assert sorted(path.name for path in found.iterdir()) == ["results.json", "rows"]
    shutil.rmtree(runs[0])  # the run itself may go
    assert number(read_baseline(home, "good", required=True)) == 0


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", ".hidden", "a\0b", "a\nb", "x\udcff"]
)
def test_names_that_are_none(runs, home, name):
    for use in (checked_name, lambda n: bless(runs[0], home, n)):
        with pytest.raises(SettingsError, match="is no name of a baseline"):
            use(name)
    with pytest.raises(SettingsError):
        read_baseline(home, name, required=False)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (lambda found: replace(found, failed={"v": "gone"}), "task v failed"),
        (lambda found: replace(found, check={"agrees": False}), "logits disagree"),
        (
            lambda found: replace(
                found, tasks={"t": task([row(0, 1)], Metric("x", float("nan"), None, 1, True))}
            ),
            "x of t is nan",
        ),
    ],
)
def test_what_is_none_to_compare_with_is_not_blessed(tmp_path, home, changed, said):
    run = write_run(changed(night(0)), tmp_path / "odd")
    with pytest.raises(OutputError, match=said):
        bless(run, home, "good")
    assert names(home) == []


def test_no_run_is_not_blessed(runs, tmp_path, home):
    bless(runs[0], home, "good")
    with pytest.raises(InputError, match="expected the results"):
        bless(tmp_path, home, "good")
    assert number(read_baseline(home, "good", required=True)) == 0


def spoil_json(folder):
    file = folder / "results.json"
    file.write_text(file.read_text()[:-50])


def change_count(folder):
    file = folder / "results.json"
    found = json.loads(file.read_text())
    found["tasks"]["t"]["rows"] = 3
    file.write_text(json.dumps(found))


@pytest.mark.parametrize(
    "spoil",
    [
        spoil_json,
        change_count,
        lambda folder: (folder / "results.json").unlink(),
        lambda folder: (folder / "rows/t.parquet").unlink(),
        lambda folder: (folder / "rows/u.parquet").write_bytes(b"PAR1"),
        lambda folder: shutil.rmtree(folder / "rows"),
        lambda folder: (shutil.rmtree(folder), folder.write_text("")),
        lambda folder: (shutil.rmtree(folder), folder.mkdir()),
    ],
)
def test_a_damaged_one_is_no_missing_one(runs, home, spoil):
    """A gate that takes it for none would pass."""
    spoil(bless(runs[0], home, "good"))
    for required in (True, False):
        with pytest.raises(InputError, match="good"):
            read_baseline(home, "good", required=required)
    if (home / "good").is_dir():
        bless(runs[1], home, "good")  # and it can be mended
        assert number(read_baseline(home, "good", required=True)) == 1


def test_one_at_a_time(runs, home, monkeypatch):
    bless(runs[0], home, "good")
    with baseline.alone(home / ".good.lock", "x"), pytest.raises(OutputError, match="another job"):
        bless(runs[1], home, "good")
    assert number(read_baseline(home, "good", required=True)) == 0


class Killed(BaseException):
    pass


def dies_at(step, monkeypatch, run, home):
    """Bless, and die before that rename, removal or copy; whether there were so many."""
    done = 0

    def counted(function):
        def act(*args, **more):
            nonlocal done
            done += 1
            if done == step:
                raise Killed
            return function(*args, **more)

        return act

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", counted(Path.rename))
        patched.setattr(shutil, "rmtree", counted(shutil.rmtree))
        patched.setattr(shutil, "copyfile", counted(shutil.copyfile))
        try:
            bless(run, home, "good")
        except Killed:
            return True
    return False


@pytest.mark.parametrize("is_second", [False, True])
def test_whatever_step_it_dies_at_one_of_both_is_there(runs, tmp_path, monkeypatch, is_second):
    """Also where one before has died between the two renames of a swap."""
    for step in itertools.count(1):
        home = tmp_path / f"baselines-{step}"
        bless(runs[0], home, "good")
        if is_second:
            (home / "good").rename(home / ".good.before")
        is_killed = dies_at(step, monkeypatch, runs[1], home)
        assert number(read_baseline(home, "good", required=True)) in ({0, 1} if is_killed else {1})
        bless(runs[2], home, "good")
        assert number(read_baseline(home, "good", required=True)) == 2
        assert [path.name for path in home.iterdir()] == ["good"]
        if not is_killed:
            break
    assert step > 8


def test_what_somebody_may_read_is_not_taken_apart(runs, home, monkeypatch):
    """It loses its name first: a reader of a half would call it damaged."""
    removed = []

    def look(folder, **more):
        if Path(folder).exists():
            removed.append(Path(folder).name)
        remove(folder, **more)

    remove = shutil.rmtree
    bless(runs[0], home, "good")
    monkeypatch.setattr(shutil, "rmtree", look)
    bless(runs[1], home, "good")
    assert removed == [".good.old"]


BLESSER = """
import sys
from pathlib import Path
from jobs.baseline import bless
runs, home = sorted(Path(sys.argv[1]).iterdir()), Path(sys.argv[2])
print("ready", flush=True)
while True:
    for run in runs:
        bless(run, home, "good")
"""


def blesser(runs, home):
    return subprocess.Popen(
        [sys.executable, "-c", BLESSER, runs[0].parent, home],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_a_reader_sees_the_whole_of_one(runs, home):
    bless(runs[0], home, "good")
    process = blesser(runs, home)
    try:
        process.stdout.readline()
        seen = {number(read_baseline(home, "good", required=True)) for _ in range(150)}
    finally:
        process.kill()
        process.communicate()
    assert len(seen) > 1  # it was replaced meanwhile


def test_killed_at_any_instant_it_is_there(runs, home):
    bless(runs[0], home, "good")
    rng = random.Random(0)
    for _ in range(5):
        process = blesser(runs, home)
        process.stdout.readline()
        time.sleep(rng.uniform(0, 0.08))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert number(read_baseline(home, "good", required=True)) in range(RUNS)
    bless(runs[3], home, "good")
    assert [path.name for path in home.iterdir()] == ["good"]
