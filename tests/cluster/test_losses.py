"""Processes and nodes that go away in the middle of a part, and nodes that come."""

import os
import signal
import time

import pytest

from runner.cluster import shipped
from tests.cluster.haunted import GATES, PATIENCE_S, wait_until, wait_until_gone
from tests.cluster.jobs import N_PARTS, on_ray, see_that_all_is_there

ELSEWHERE = "\ndef processor():\n    return 'Another kind (avx2)'\n"
TALLY_S = 1.5  # in which Ray would have begun another process


@pytest.mark.parametrize("point", GATES)
def test_a_process_that_is_killed(nodes, begin, gate, job, point):
    source, output, expected = job
    gate.build(nodes, range(3), point)
    nodes.wake()
    running = begin(on_ray, source, output)
    waiting = gate.wait_for(3)
    for _, _, pid in waiting[:2]:
        os.kill(pid, signal.SIGKILL)
    gate.open()
    report = running.result(PATIENCE_S)
    see_that_all_is_there(report, output, expected)
    assert report.cluster["failures"] == 2
    assert report.cluster["excluded"] == {}


@pytest.mark.parametrize("point", GATES)
def test_a_node_that_is_killed(nodes, begin, gate, job, point):
    source, output, expected = job
    gate.build(nodes, range(3), point)
    nodes.wake()
    running = begin(on_ray, source, output)
    [pid] = [pid for _, node, pid in gate.wait_for(3) if node == 2]
    nodes.remove(2, kill=True)
    wait_until_gone([pid])  # it lives on for a moment, and could end its part
    gate.open()
    report = running.result(PATIENCE_S)
    see_that_all_is_there(report, output, expected)
    assert report.cluster["losses"] >= 1  # again where it was begun there before Ray knew
    assert report.cluster["failures"] == 0


def test_a_node_that_comes_takes_parts(nodes, begin, gate, job):
    """It has another kind of processor, which is said."""
    source, output, expected = job
    gate.build(nodes, range(3), "rows are written")
    nodes.wake()
    running = begin(on_ray, source, output)
    gate.wait_for(3)
    nodes.haunt(3, "runner.processor", ELSEWHERE)
    nodes.add(3)
    folder = output.with_name(f"{output.name}.parts")
    wait_until(lambda: len(list(folder.glob("part-*.json"))) == N_PARTS - 3)
    gate.open()
    report = running.result(PATIENCE_S)
    see_that_all_is_there(report, output, expected)
    assert report.cluster["nodes"] == 4
    found = report.rows_by_processor
    assert len(found) == 2
    assert sum(stop - start for start, stop in found["Another kind (avx2)"]) >= 9 * (N_PARTS - 4)
    assert "computed by processors with other instructions" in report.summary()
    assert "Another kind (avx2)" in report.summary()


def test_a_part_on_a_slow_node_is_done_elsewhere_in_the_end(nodes, begin, gate, job):
    """Its gate stays shut: the slow one is stopped, and leaves nothing behind."""
    source, output, expected = job
    gate.build(nodes, range(3), "rows are written")
    nodes.wake()
    running = begin(on_ray, source, output)
    gate.wait_for(3)
    gate.open(0)
    gate.open(2)
    report = running.result(PATIENCE_S)
    see_that_all_is_there(report, output, expected)
    assert report.cluster["spares"] >= 1
    assert report.cluster["failures"] == report.cluster["losses"] == 0


def test_no_node_runs_more_than_it_has_room_for(nodes, begin, gate, job, monkeypatch):
    """Ray gives away the CPU of a task that waits for something by its calls."""
    source, output, expected = job

    class SlowTally(shipped.Tally):
        n_words = 0

        def tell(self, attempt, told):
            self.n_words += 1
            time.sleep(TALLY_S if self.n_words <= 3 else 0)
            return super().tell(attempt, told)

    monkeypatch.setattr(shipped, "Tally", SlowTally)
    gate.build(nodes, range(3), "rows are written")
    nodes.wake()
    running = begin(on_ray, source, output)
    gate.wait_for(3)
    gate.open()
    report = running.result(PATIENCE_S)
    see_that_all_is_there(report, output, expected)
    assert len({pid for _, _, pid in gate.waiting()}) == 3
