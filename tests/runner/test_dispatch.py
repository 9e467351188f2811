"""The loop over a cluster, on one that is made up, in a time of its own."""

import heapq
from collections import Counter
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference import PicobatchError
from runner.cluster.dispatch import Dispatch, Rules
from runner.cluster.tasks import Begun, Ended, Failure, Fault
from runner.errors import ClusterError

LOST = Failure(Fault.LOST, "", PicobatchError("its node went away"))


def done(attempt, node):
    """A task of a second that is done wherever it runs."""
    return 1.0, None


def faulty(fault, *nodes):
    """Tasks that fail on some nodes, on all if none is named, in a tenth of the time."""

    def end(attempt, node):
        if nodes and node not in nodes:
            return 1.0, None
        return 0.1, Failure(fault, node, PicobatchError(f"no luck on {node}"))

    return end


class FakeCluster:
    """Starts tasks in the order in which they are handed in, on the first node with room.

    `end(attempt, node)` says how long an attempt takes and why it fails; seconds of None never
    end. `changes` are times and what is there then: nodes with their slots.
    """

    def __init__(self, nodes, end=done, changes=()):
        self.slots, self.end = dict(nodes), end
        self.clock_s, self.order = 0.0, count()
        self.events = [(at_s, next(self.order), None, nodes) for at_s, nodes in changes]
        heapq.heapify(self.events)
        self.queue, self.running, self.told = {}, {}, {}
        self.started, self.cancelled = [], []
        self.tells_cancelled = False

    def now_s(self):
        return self.clock_s

    def nodes(self):
        return self.slots

    def start(self, attempt, avoided):
        assert attempt not in self.queue
        assert attempt not in self.running
        self.queue[attempt] = set(avoided)
        self.started.append(attempt)
        self.place()

    def begun(self):
        return self.told | self.running

    def place(self):
        free = Counter(self.slots)
        free.subtract(Counter(begun.node for begun in self.running.values()))
        for attempt, avoided in list(self.queue.items()):
            node = next((n for n in self.slots if free[n] > 0 and n not in avoided), None)
            if node is None:
                continue
            del self.queue[attempt]
            free[node] -= 1
            self.running[attempt] = Begun(node, self.clock_s)
            seconds, failure = self.end(attempt, node)
            if seconds is not None:
                ended = Ended(attempt, attempt.number, failure)
                heapq.heappush(self.events, (self.clock_s + seconds, next(self.order), ended, None))

    def wait(self, most_s):
        self.told.clear()
        until_s, found = self.clock_s + most_s, []
        while not found and self.events and self.events[0][0] <= until_s:
            self.clock_s, _, ended, nodes = heapq.heappop(self.events)
            if nodes is not None:
                gone = self.slots.keys() - nodes.keys()
                self.slots = dict(nodes)
                for attempt, begun in list(self.running.items()):
                    if begun.node in gone:
                        self.told[attempt] = self.running.pop(attempt)
                        found.append(Ended(attempt, failure=LOST))
            elif ended.attempt in self.running:
                self.told[ended.attempt] = self.running.pop(ended.attempt)
                found.append(ended)
            self.place()
        self.clock_s = self.clock_s if found else until_s
        return found

    def cancel(self, attempt):
        self.cancelled.append(attempt)
        self.queue.pop(attempt, None)
        if not self.tells_cancelled:
            self.running.pop(attempt, None)
            self.place()


def run(cluster, costs=None, n=0, **rules):
    """Dispatch some tasks to the end; returns it with what it told, in order."""
    dispatch = Dispatch(cluster, costs or dict.fromkeys(range(n), 1.0), Rules(**rules))
    told = list(dispatch.run())
    assert not cluster.queue, "something waits though all is done"
    assert dispatch._n_running == 0
    return dispatch, told


def test_all_tasks_are_done_in_the_time_that_it_takes():
    cluster = FakeCluster({"a": 2, "b": 1})
    dispatch, told = run(cluster, n=30)
    assert sorted(task for task, _ in told) == list(range(30))
    assert cluster.clock_s == 10
    assert dispatch.counts.attempts == 30
    assert not dispatch.failed


def test_the_longest_go_first():
    cluster = FakeCluster({"a": 1})
    run(cluster, {0: 5, 1: 7, 2: 5, 3: 9})
    assert [attempt.task for attempt in cluster.started] == [3, 1, 0, 2]


def test_so_many_are_handed_in():
    cluster = FakeCluster({"a": 3}, end=lambda *_: (None, None))
    dispatch = Dispatch(cluster, dict.fromkeys(range(50), 1.0), Rules(window=2))
    turns = iter(range(5))

    def between():
        if next(turns, None) is None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(dispatch.run(between))
    assert len(cluster.started) == 6
    assert sorted(cluster.cancelled) == sorted(cluster.started)


def test_some_are_handed_in_where_nothing_can_run_yet():
    cluster = FakeCluster({}, changes=[(100.0, {"late": 2})])
    _, told = run(cluster, n=9)
    assert len(told) == 9
    assert len(cluster.started) == 9
    assert 104.5 <= cluster.clock_s <= 105.5


def test_nodes_that_come_take_part():
    cluster = FakeCluster({"a": 1}, changes=[(3.0, {"a": 1, "b": 4})])
    run(cluster, n=13)
    assert cluster.clock_s == 5


def test_no_node_is_an_error_after_a_while():
    cluster = FakeCluster({})
    with pytest.raises(ClusterError, match="no node with room for a task for 60 s.*Add nodes"):
        run(cluster, n=3, wait_for_nodes_s=60)
    assert 60 < cluster.clock_s < 62
    assert len(cluster.cancelled) == 3


def test_nodes_that_go_away_are_waited_for():
    cluster = FakeCluster({"a": 1}, changes=[(2.5, {}), (50.0, {"b": 1})])
    dispatch, told = run(cluster, n=4)
    assert len(told) == 4
    assert dispatch.counts.losses == 1
    assert 52 <= cluster.clock_s <= 52.5


def test_nodes_without_room_are_none():
    with pytest.raises(ClusterError, match="no node with room"):
        run(FakeCluster({"head": 0}), n=1)


def test_a_task_that_always_fails_is_tried_on_other_nodes_and_given_up():
    def end(attempt, node):
        bad = Failure(Fault.TASK, node, PicobatchError(f"bad on {node}"))
        return 1.0, bad if attempt.task == 4 else None

    cluster = FakeCluster(dict.fromkeys("abcd", 1), end)
    dispatch, told = run(cluster, n=20)
    assert len(told) == 19
    assert list(dispatch.failed) == [4]
    assert len({failure.node for failure in dispatch.failed[4]}) == 3
    assert dispatch.counts.failures == 3
    assert not dispatch.excluded


def test_one_node_gets_a_task_again_that_failed_on_it():
    def end(attempt, node):
        return 1.0, Failure(Fault.TASK, node, PicobatchError("!")) if attempt.number < 2 else None

    dispatch, told = run(FakeCluster({"a": 2}, end), n=8)
    assert {result for _, result in told} == {2}
    assert len(told) == 8
    assert not dispatch.failed


def test_a_failure_on_a_node_that_nobody_knows_is_the_tasks_own():
    end = lambda *_: (0.1, Failure(Fault.NODE, "", PicobatchError("somewhere")))
    dispatch, told = run(FakeCluster({"a": 2, "b": 2}, end), n=5)
    assert not told
    assert len(dispatch.failed) == 5
    assert dispatch.counts.attempts == 15


def test_losses_are_bounded():
    nodes = [{"a": 1}, {"b": 1}]
    changes = [(0.5 + n / 2, nodes[(n + 1) % 2]) for n in range(99)]
    dispatch, told = run(FakeCluster(nodes[0], changes=changes), n=1, most_losses=20)
    assert not told
    assert dispatch.counts.losses == 21
    assert [failure.fault for failure in dispatch.failed[0]] == [Fault.LOST]


def test_a_node_that_can_do_nothing_gets_nothing_more():
    cluster = FakeCluster({"a": 2, "b": 2}, faulty(Fault.NODE, "a"))
    dispatch, told = run(cluster, n=20)
    assert len(told) == 20
    assert list(dispatch.excluded) == ["a"]
    assert dispatch.counts.failures <= 6  # two, and those that were handed in already
    assert cluster.clock_s <= 11


def test_no_node_that_can_do_anything_is_an_error():
    with pytest.raises(ClusterError, match="no node of the cluster can do it: a: no .* b: no"):
        run(FakeCluster({"a": 1, "b": 1, "head": 0}, faulty(Fault.NODE)), n=3)


def test_excluded_nodes_that_went_away_are_no_reason_to_end():
    changes = [(5.0, {}), (30.0, {"c": 1})]
    cluster = FakeCluster({"a": 1, "b": 1}, faulty(Fault.NODE, "a"), changes)
    _, told = run(cluster, n=8)
    assert len(told) == 8
    assert cluster.clock_s > 30


def test_a_good_node_that_went_away_is_waited_for():
    """The one that is left can do nothing."""
    changes = [(2.5, {"a": 1}), (30.0, {"a": 1, "c": 1})]
    cluster = FakeCluster({"a": 1, "b": 1}, faulty(Fault.NODE, "a"), changes)
    _, told = run(cluster, n=8)
    assert len(told) == 8
    assert cluster.clock_s > 30
    cluster = FakeCluster({"a": 1, "b": 1}, faulty(Fault.NODE, "a"), changes[:1])
    with pytest.raises(ClusterError, match="for 60 s; of those that were there: a: no luck on a"):
        run(cluster, n=8, wait_for_nodes_s=60.0)


def test_nobody_knows_on_which_node_a_task_failed():
    """That is no node: none is kept from others by it."""

    def end(attempt, node):
        if attempt.number == 0:
            return 0.1, Failure(Fault.TASK, "", PicobatchError("killed"))
        return 1.0, None

    dispatch, told = run(FakeCluster({"a": 1}, end), n=8)
    assert len(told) == 8
    assert not dispatch._doubts


def test_a_task_that_waits_for_a_node_that_went_away_goes_to_another():
    """It failed on the one node that is left."""

    def end(attempt, node):
        fails = node == "a" and attempt == (0, 0)
        return 1.0, Failure(Fault.TASK, node, PicobatchError("!")) if fails else None

    cluster = FakeCluster({"a": 1, "b": 1}, end, [(1.5, {"a": 1})])
    _, told = run(cluster, n=4)
    assert len(told) == 4
    assert cluster.clock_s < 10


def test_a_task_that_waits_for_a_node_that_is_excluded_goes_to_another():
    def end(attempt, node):
        if node == "b":
            return 2.0, Failure(Fault.NODE, node, PicobatchError("full disk"))
        return 1.0, Failure(Fault.TASK, node, PicobatchError("!")) if attempt == (0, 0) else None

    cluster = FakeCluster({"a": 1, "b": 1}, end)
    dispatch, told = run(cluster, n=4)
    assert len(told) == 4
    assert list(dispatch.excluded) == ["b"]
    assert cluster.clock_s < 10


def test_nodes_on_which_all_fails_at_once_cost_no_task():
    """They are free whenever a task is to be tried again."""
    nodes = {f"hole-{n}": 8 for n in range(5)} | {f"node-{n}": 8 for n in range(20)}
    holes = [node for node in nodes if node.startswith("hole")]
    cluster = FakeCluster(nodes, faulty(Fault.TASK, *holes))
    dispatch, told = run(cluster, n=2000)
    assert len(told) == 2000
    assert not dispatch.failed
    assert dispatch.counts.failures < 700
    assert cluster.clock_s < 14.5


def test_a_run_of_bad_tasks_takes_no_node_along():
    def end(attempt, node):
        bad = 100 <= attempt.task < 200
        return 0.1, Failure(Fault.TASK, node, PicobatchError("!")) if bad else None

    nodes = {f"node-{n}": 4 for n in range(5)}
    cluster = FakeCluster(nodes, end)
    dispatch, told = run(cluster, n=400)
    assert len(told) == 300
    assert sorted(dispatch.failed) == list(range(100, 200))
    assert not dispatch.excluded
    assert cluster.clock_s < 4.5


def test_a_time_in_which_everything_fails_leaves_all_nodes_in_use():
    def end(attempt, node):
        fails = 2 < cluster.clock_s < 6
        return 1.0, Failure(Fault.TASK, node, PicobatchError("!")) if fails else None

    cluster = FakeCluster({f"node-{n}": 4 for n in range(10)}, end)
    _, told = run(cluster, n=800, most_failures=10)
    assert len(told) == 800
    assert cluster.clock_s < 28


def test_what_takes_long_is_done_twice_in_the_end_and_told_once():
    end = lambda attempt, node: (100.0 if node == "slow" else 1.0, None)
    cluster = FakeCluster({"slow": 2, "fast": 4}, end)
    dispatch, told = run(cluster, n=40)
    assert sorted(task for task, _ in told) == list(range(40))
    assert dispatch.counts.spares == 2
    assert cluster.clock_s < 13
    assert len(cluster.cancelled) == 2


def test_a_late_task_is_done_on_another_node():
    """The slow one has a place free: it is no help."""
    end = lambda attempt, node: (100.0 if node == "slow" else 1.0, None)
    cluster = FakeCluster({"slow": 3, "fast": 2}, end)
    dispatch, _ = run(cluster, n=5)
    assert dispatch.counts.spares == 3
    assert cluster.clock_s < 13


def test_what_is_long_is_not_late():
    end = lambda attempt, node: (50.0 if attempt.task == 0 else 1.0, None)
    dispatch, _ = run(FakeCluster({"a": 2}, end), {0: 50.0} | dict.fromkeys(range(1, 30), 1.0))
    assert dispatch.counts.spares == 0


def test_what_failed_goes_before_what_was_not_begun():
    end = lambda attempt, node: (1.0, LOST if attempt == (0, 0) else None)
    cluster = FakeCluster({"a": 1}, end)
    run(cluster, n=20)
    again = cluster.started.index((0, 1))
    assert again <= 5


def test_no_spares_where_none_are_wanted():
    end = lambda attempt, node: (100.0 if node == "slow" else 1.0, None)
    cluster = FakeCluster({"slow": 2, "fast": 4}, end)
    dispatch, _ = run(cluster, n=40, spare_after=0)
    assert dispatch.counts.spares == 0
    assert cluster.clock_s == 100


def test_a_task_that_hangs_ends_nobody():
    end = lambda attempt, node: (None if attempt == (3, 0) else 1.0, None)
    cluster = FakeCluster({"a": 2, "b": 2}, end)
    _, told = run(cluster, n=12)
    assert len(told) == 12


@pytest.mark.parametrize("fault", [None, *Fault])
def test_an_attempt_that_ends_after_it_was_cancelled_is_nobodys(fault):
    def end(attempt, node):
        if attempt.task == 1:  # so that the loser ends before all is over
            return 15.0, None
        if node == "fast":
            return 1.0, None
        return 10.0, fault and Failure(fault, node, PicobatchError("late"))

    cluster = FakeCluster({"slow": 1, "fast": 3}, end)
    cluster.tells_cancelled = True
    dispatch, told = run(cluster, n=4)
    assert cluster.clock_s == 15
    assert sorted(told) == [(0, 1), (1, 0), (2, 0), (3, 0)]
    assert (dispatch.counts.failures, dispatch.counts.losses) == (0, 0)
    assert not dispatch.excluded


def test_a_fault_of_the_job_ends_it_and_what_runs():
    def end(attempt, node):
        bad = Failure(Fault.JOB, node, PicobatchError("another version"))
        return 2.0, bad if attempt.task == 3 else None

    cluster = FakeCluster({"a": 2}, end)
    dispatch = Dispatch(cluster, dict.fromkeys(range(9), 1.0))
    told = []
    with pytest.raises(PicobatchError, match="another version"):
        told.extend(dispatch.run())
    assert not cluster.queue
    assert not cluster.running


def test_who_stops_listening_stops_what_runs():
    cluster = FakeCluster({"a": 2})
    for _ in (found := Dispatch(cluster, dict.fromkeys(range(9), 1.0)).run()):
        break
    found.close()
    assert not cluster.queue
    assert not cluster.running


@st.composite
def clusters(draw):
    names = [f"node-{n}" for n in range(draw(st.integers(1, 5)))]
    slots = st.integers(0, 3)
    some = st.dictionaries(st.sampled_from(names), slots)
    times = draw(st.lists(st.floats(0.1, 30), max_size=6))
    changes = [(at_s, draw(some)) for at_s in times] + [(31.0, dict.fromkeys(names, 2))]
    seed = draw(st.randoms(use_true_random=False))
    likely = draw(st.sampled_from([0, 0.1, 0.6]))
    kinds = draw(st.lists(st.sampled_from([Fault.TASK, Fault.LOST]), min_size=1))

    def end(attempt, node):
        seconds = seed.choice([0.1, 1.0, 1.0, 3.0, 9.0])
        if seed.random() >= likely:
            return seconds, None
        where = seed.choice([node, node, ""])
        return seconds, Failure(seed.choice(kinds), where, PicobatchError("bad luck"))

    cluster = FakeCluster(draw(some), end, changes)
    cluster.tells_cancelled = draw(st.booleans())
    return cluster


@given(
    clusters(),
    st.dictionaries(st.integers(0, 99), st.floats(0, 3), max_size=30),
    st.integers(1, 3),
    st.sampled_from([0, 0.5, 1.5]),
)
def test_whatever_happens_each_task_is_done_once_or_has_failed(cluster, costs, window, spare_after):
    dispatch = Dispatch(cluster, costs, Rules(window=window, spare_after=spare_after))
    told = [task for task, _ in dispatch.run()]
    assert sorted([*told, *dispatch.failed]) == sorted(costs)
    assert not cluster.queue
    counts = dispatch.counts
    assert counts.attempts == len(cluster.started)
    assert counts.attempts <= len(costs) * (3 + 20 + 1) + counts.spares + len(cluster.cancelled)
    for failures in dispatch.failed.values():
        assert failures
