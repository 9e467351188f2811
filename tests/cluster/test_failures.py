"""Parts that fail wherever they are tried, and nodes that can do none."""

import re
import shutil

import pytest

from reference.models import DEMO_DIR
from runner import ExitCode
from runner.cluster.dispatch import Dispatch
from runner.errors import ClusterError
from tests.cluster.haunted import PATIENCE_S, wait_until
from tests.cluster.jobs import N_PARTS, on_ray, see_that_all_is_there, times_of_parts

HOSTILE_PARTS = """
import os, signal
_process_part = process_part

def process_part(job, files, part, *more):
    if part.number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    if part.number == 5:
        raise RuntimeError("nobody thought of this")
    return _process_part(job, files, part, *more)
"""


def test_parts_that_fail_for_good_are_told_and_done_by_the_next_run(nodes, job, capsys):
    source, output, expected = job
    for number in range(3):
        nodes.haunt(number, "runner.process", HOSTILE_PARTS)
    nodes.wake()
    report = on_ray(source, output)
    assert report.exit_code == ExitCode.BAD_ROWS
    assert not output.exists()
    assert [failed.part.number for failed in report.failed] == [3, 5]
    crashed, raised = map(str, report.failed)
    assert "part 3 (rows 27 to 35): the process ended without a word: it was killed" in crashed
    assert "part 5 (rows 45 to 53): RuntimeError('nobody thought of this')" in raised
    for said in (crashed, raised):
        assert crashed in report.summary()
        assert all(nodes.name(number) in said for number in range(3))
    assert "2 of 7 parts failed; the others are kept" in report.summary()
    assert "a fault of the program:\nTraceback" in capsys.readouterr().err
    assert report.cluster["failures"] == 6
    assert report.cluster["excluded"] == {}
    kept = times_of_parts(output)
    assert len(kept) == 2 * (N_PARTS - 2)

    nodes.rest()
    again = on_ray(source, output)
    see_that_all_is_there(again, output, expected)
    assert again.resumed_parts == N_PARTS - 2
    assert (again.cluster["attempts"], again.cluster["failures"]) == (2, 0)


OTHER_MODEL = """
_load_model = load_model

def load_model(name, **more):
    return _load_model({name!r}, **more)
"""
OTHER_OUTPUT = """
_part_folder = part_folder

def part_folder(output, *more):
    return _part_folder(Place.local({name!r}), *more)
"""
NO_INPUT = """
def stamps_of(places):
    raise FileNotFoundError(2, "No such file or directory", places[0].name)
"""
OTHER_INPUT = """
_stamps_of = stamps_of

def stamps_of(places):
    return {name: stamp | {"mtime_ns": 1} for name, stamp in _stamps_of(places).items()}
"""
FULL_DISK = """
_stage = JobFolder.stage

def stage(self, name):
    path = _stage(self, name)
    if path.suffix == {suffix!r} and not path.is_symlink():
        path.symlink_to("/dev/full")
    return path

JobFolder.stage = stage
"""
NO_PICOBATCH = "raise ModuleNotFoundError(\"No module named 'runner'\")"


def other_version(nodes, number, tmp_path):
    text = "Metadata-Version: 2.1\nName: onnxruntime\nVersion: 0.0.7\n"
    nodes.put(number, "onnxruntime-0.0.7.dist-info/METADATA", text)


def no_picobatch(nodes, number, tmp_path):
    nodes.haunt(number, "runner", NO_PICOBATCH)


def no_model(nodes, number, tmp_path):
    source = OTHER_MODEL.format(name=str(tmp_path / "gone"))
    nodes.haunt(number, "runner.cluster.node_model", source)


def other_weights(nodes, number, tmp_path):
    other = tmp_path / "other"
    if not other.exists():
        shutil.copytree(DEMO_DIR, other)
        weights = next(other.glob("*.safetensors"))
        data = bytearray(weights.read_bytes())
        data[-2] ^= 1
        weights.write_bytes(data)
    nodes.haunt(number, "runner.cluster.node_model", OTHER_MODEL.format(name=str(other)))


def no_output(nodes, number, tmp_path):
    source = OTHER_OUTPUT.format(name=str(tmp_path / "elsewhere" / "out.jsonl"))
    nodes.haunt(number, "runner.cluster.part_task", source)


def no_input(nodes, number, tmp_path):
    nodes.haunt(number, "runner.cluster.part_task", NO_INPUT)


def other_input(nodes, number, tmp_path):
    nodes.haunt(number, "runner.cluster.part_task", OTHER_INPUT)


def full_disk(nodes, number, tmp_path):
    nodes.haunt(number, "runner.job_folder", FULL_DISK.format(suffix=".jsonl"))


def full_disk_for_records(nodes, number, tmp_path):
    nodes.haunt(number, "runner.job_folder", FULL_DISK.format(suffix=".json"))


BROKEN = {
    other_version: r"onnxruntime is 0\.0\.7, with the driver 1\.\S+; expected the same on all",
    no_picobatch: r"cannot load picobatch: ModuleNotFoundError.*expected it as it is on the driver",
    no_model: r"cannot load the model: .*gone.*expected",
    other_weights: r"has another model as demo: .*other; expected the driver's weights",
    no_output: r"does not see the output: .*out.jsonl.parts is not there; expected",
    no_input: r"cannot read the input .*in.jsonl: No such file or directory; expected one that all",
    other_input: r"sees another file as the input .*in.jsonl; expected the one that was planned",
    full_disk: r"out.jsonl: the disk is full",
    full_disk_for_records: r"out.jsonl: the disk is full",
}


def seen_dispatches(monkeypatch):
    """Those that are made from now on: they tell which nodes are left out so far."""
    made = []

    class Seen(Dispatch):
        def __init__(self, *more):
            super().__init__(*more)
            made.append(self)

    monkeypatch.setattr("runner.cluster.drive.Dispatch", Seen)
    return made


@pytest.mark.parametrize(
    "broken",
    [
        (other_version, no_picobatch),
        (no_model, other_weights),
        (no_output, no_input),
        (other_input, full_disk),
        (full_disk_for_records,),
    ],
    ids=lambda broken: "-".join(function.__name__ for function in broken),
)
def test_broken_nodes_are_named_and_left_out(
    nodes, begin, gate, job, tmp_path, monkeypatch, broken
):
    source, output, expected = job
    for number, breaks in enumerate(broken, start=1):
        breaks(nodes, number, tmp_path)
    gate.build(nodes, set(range(3)) - set(range(1, 1 + len(broken))), "rows are written")
    nodes.wake()
    made = seen_dispatches(monkeypatch)
    running = begin(on_ray, source, output)
    wait_until(lambda: running.done() or (made and len(made[0].excluded) == len(broken)))
    gate.open()
    report = running.result(PATIENCE_S)
    see_that_all_is_there(report, output, expected)
    assert report.failed == []
    excluded = report.cluster["excluded"]
    assert set(excluded) == {nodes.name(n) for n in range(1, 1 + len(broken))}
    for number, breaks in enumerate(broken, start=1):
        why = excluded[nodes.name(number)]
        assert re.search(BROKEN[breaks], why)
        assert f"left out: node {nodes.name(number)}: {why}" in report.summary()


def test_where_all_nodes_are_broken_nothing_is_left_behind(nodes, job, tmp_path, capsys):
    source, output, expected = job
    all_of_them = (other_version, full_disk_for_records, no_output)
    for number, breaks in enumerate(all_of_them):
        breaks(nodes, number, tmp_path)
    nodes.wake()
    with pytest.raises(ClusterError, match="no node of the cluster can do it") as failed:
        on_ray(source, output)
    for number, breaks in enumerate(all_of_them):
        found = re.escape(nodes.name(number)) + ": .*" + BROKEN[breaks]
        assert re.search(found, str(failed.value))
    assert not output.exists()
    assert not output.with_name("out.jsonl.parts").exists()
    nodes.rest()
    see_that_all_is_there(on_ray(source, output), output, expected)


FULL_LATER = """
_write_any = JobFolder._write

def _write(self, name, found):
    if name >= "part-00003":
        raise OSError(28, "No space left on device")
    _write_any(self, name, found)

JobFolder._write = _write
"""


def test_what_was_done_before_all_disks_are_full_is_kept(nodes, job, capsys):
    source, output, expected = job
    for number in range(3):
        nodes.haunt(number, "runner.job_folder", FULL_LATER)
    nodes.wake()
    with pytest.raises(ClusterError, match="the disk is full"):
        on_ray(source, output)
    kept = times_of_parts(output)
    n_done = sum(name.endswith(".json") for name in kept)
    assert 1 <= n_done <= 3
    if_done = f"{n_done} of 7 parts .* are kept; the same command goes on from there"
    assert re.search(if_done, capsys.readouterr().err)
    nodes.rest()
    report = on_ray(source, output)
    see_that_all_is_there(report, output, expected)
    assert report.resumed_parts == n_done
