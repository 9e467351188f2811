"""The command itself: killed, interrupted, and where there is no cluster to be had."""

import os
import signal
import socket
import subprocess
import sys

import pytest

from runner import ExitCode
from runner.errors import ClusterError
from runner.output import FileOutput
from tests.cluster.haunted import PATIENCE_S, wait_until, wait_until_gone
from tests.cluster.jobs import SETTINGS, data_hash, on_ray, see_that_all_is_there, times_of_parts

OPTIONS = [f"--{name.replace('_', '-')}={value}" for name, value in SETTINGS.items()]


def command(job, *more, program=("-m", "jobs.cli")):
    source, output, _ = job
    words = [sys.executable, *program, "batch", source, output, "--engine=ray", *OPTIONS, *more]
    return list(map(str, words))


@pytest.fixture
def driver(nodes, gate, job, request):
    """The command, when two parts are done and three are under way, and wait."""
    stubborn = getattr(request, "param", None) == "stubborn tasks"
    gate.build(nodes, range(3), "rows are written", first=2, stubborn=stubborn)
    nodes.wake()
    nodes.disconnect()
    process = subprocess.Popen(
        command(job, f"--ray-address={nodes.address}"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_until(lambda: len(gate.waiting()) == 3 or process.poll() is not None)
    yield process
    process.kill()
    process.communicate()


def go_on(nodes, gate, job):
    """Run the job again: what was done is left as it is."""
    source, output, expected = job
    wait_until_gone([pid for _, _, pid in gate.waiting()])
    kept = times_of_parts(output)
    gate.open()
    nodes.connect()
    original, made = FileOutput.count, []

    def noted(self, part, record):
        original(self, part, record)
        made.append(times_of_parts(output))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FileOutput, "count", noted)
        report = on_ray(source, output)
    assert made[-1].items() >= kept.items()
    assert report.resumed_parts == 2
    see_that_all_is_there(report, output, expected)


def test_a_driver_that_is_killed(nodes, gate, job, driver):
    driver.kill()
    driver.wait(PATIENCE_S)
    go_on(nodes, gate, job)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_all_tasks_and_keeps_what_is_done(nodes, gate, job, driver, number):
    driver.send_signal(number)
    said = driver.communicate(timeout=PATIENCE_S)
    assert driver.returncode == 128 + number
    assert said[0] == ""
    assert f"stopped by {number.name}" in said[1]
    assert "2 of 7 parts (18 of 60 rows) are kept; the same command goes on from there" in said[1]
    folder = job[1].with_name("out.jsonl.parts")
    assert not list(folder.glob("tmp-*"))
    go_on(nodes, gate, job)


@pytest.mark.parametrize("driver", ["stubborn tasks"], indirect=True)
def test_a_second_signal_waits_for_no_task(nodes, gate, job, driver):
    driver.send_signal(signal.SIGINT)
    gate.wait_for_stubborn()
    driver.send_signal(signal.SIGINT)
    said = driver.communicate(timeout=PATIENCE_S)
    assert driver.returncode == 128 + signal.SIGINT
    assert "stopped by SIGINT" in said[1]
    assert "Traceback" not in said[1]
    go_on(nodes, gate, job)


@pytest.fixture
def apart(nodes):
    """The cluster, without a connection to it."""
    nodes.disconnect()
    yield nodes
    nodes.connect()


WITHOUT_RAY = """
from importlib.machinery import PathFinder
find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *more: find(name, *more) if name[:3] != "ray" else None
from jobs.cli import cli
cli()
"""


def test_without_ray(job):
    words = command(job, program=("-c", WITHOUT_RAY))
    found = subprocess.run(words, capture_output=True, text=True, check=False)
    assert found.returncode == ExitCode.USAGE
    assert 'run pip install "picobatch[ray]"' in found.stderr
    assert not job[1].with_name("out.jsonl.parts").exists()


@pytest.fixture
def closed_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.mark.parametrize("address", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "nonsense", ":0", "a:b"])
def test_no_cluster_at_the_address(apart, job, closed_port, address):
    address = address.format(closed_port)
    with pytest.raises(ClusterError, match=f"the cluster {address}: .*; expected a cluster that"):
        on_ray(*job[:2], ray_address=address)


def test_a_cluster_of_another_version(apart, job, monkeypatch):
    import ray

    with monkeypatch.context() as patch:
        patch.setattr(ray, "__version__", "2.1.0")
        with pytest.raises(ClusterError, match=r"Version mismatch: .*expected .* runs Ray 2\.1\.0"):
            on_ray(*job[:2], ray_address=apart.address)
    report = on_ray(*job[:2], ray_address=apart.address)
    see_that_all_is_there(report, job[1], job[2])


def test_a_ray_of_our_own(nodes, job, tmp_path):
    """On this machine alone; no token of it is left for others to find."""
    environment = {name: v for name, v in os.environ.items() if name != "RAY_AUTH_MODE"}
    found = subprocess.run(
        command(job, "--cpus-per-task=1"),
        env=environment | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == ExitCode.BAD_ROWS
    assert found.stdout == ""
    assert "cluster: 1 node, " in found.stderr
    assert data_hash(job[1]) == job[2]
    assert not (tmp_path / ".ray").exists()
