"""The simulator where one can say what it must find."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.cluster_model import Nodes, Rows, Slot, Store
from benchmarks.simulated_cluster import predict, simulate
from runner.cluster.dispatch import Rules

NO_SPARES = Rules(spare_after=0)


@pytest.mark.parametrize(("parts", "rounds"), [(1, 1), (6, 1), (7, 2), (60, 10)])
def test_equal_parts_take_whole_rounds(parts, rounds):
    found = simulate(parts * 100, 100, Slot(10.0, 2.0), Nodes(2, 3))
    assert found.wall_s == pytest.approx(rounds * 12)
    assert (found.rows, found.parts, found.counts.attempts) == (parts * 100, parts, parts)
    assert found.done_s == pytest.approx(parts * 12)
    assert found.idle_s == pytest.approx(rounds * 12 * 6 - parts * 12)


def test_the_last_part_has_what_is_left():
    found = simulate(250, 100, Slot(10.0), Nodes(1, 1))
    assert (found.rows, found.parts) == (250, 3)
    assert found.wall_s == pytest.approx(25)


def test_a_model_is_loaded_once_for_each_slot():
    found = simulate(1000, 100, Slot(10.0, 0.0, 3.0, 5.0), Nodes(1, 2))
    assert found.wall_s == pytest.approx(5 + 5 * 10)
    assert found.done_s == pytest.approx(2 * 5 + 100)


def test_requests_and_bytes_of_the_store():
    store = Store(latency_s=0.1, requests=5, node_bytes_per_s=1e6, row_bytes=1000)
    found = simulate(100, 100, Slot(10.0), Nodes(1, 4), store)
    assert found.wall_s == pytest.approx(10 + 0.5 + 0.4)


def test_a_node_that_dies_costs_what_it_had_begun():
    """Both of its slots are 4 s into a part of 10 s; half of the cluster goes on."""
    nodes = Nodes(2, 2, replaced_s=None, noticed_s=1.0)
    found = simulate(800, 100, Slot(10.0), nodes, node_kills_s=[4.0], rules=NO_SPARES)
    assert found.lost_s == pytest.approx(8)
    assert (found.rows, found.counts.losses, found.counts.attempts) == (800, 2, 10)
    assert found.wall_s == pytest.approx(40)


def test_a_node_that_comes_for_another_loads_the_model():
    nodes = Nodes(1, 1, replaced_s=20.0, noticed_s=1.0)
    found = simulate(200, 100, Slot(10.0, 0.0, 1.0, 3.0), nodes, node_kills_s=[5.0])
    assert found.wall_s == pytest.approx(5 + 20 + 3 + 20)
    assert found.lost_s == pytest.approx(5)


def test_a_process_that_is_killed_costs_its_part_and_a_load():
    found = simulate(200, 100, Slot(10.0, 0.0, 2.0), Nodes(1, 1), process_kills_s=[7.0])
    assert found.wall_s == pytest.approx(7 + 2 + 20)
    assert found.counts.failures == 1
    assert found.rows == 200


def test_nodes_that_come_late_take_part():
    found = simulate(300, 100, Slot(10.0), Nodes(2, 1, joining_s=10.0))  # at 0 and at 5 s
    assert found.wall_s == pytest.approx(20)
    assert found.idle_s == pytest.approx(5)


def test_slow_nodes_and_what_spares_save():
    nodes = Nodes(10, 1, kinds=((0.1, 0.1), (0.9, 1.0)))
    without = simulate(3000, 100, Slot(10.0), nodes, rules=NO_SPARES)
    found = simulate(3000, 100, Slot(10.0), nodes)
    assert without.wall_s == pytest.approx(100)
    assert found.wall_s < 60
    assert found.counts.spares >= 1
    assert found.rows == without.rows == 3000
    assert found.spare_s > 0


def test_the_longest_first_where_it_is_known():
    rows = Rows(part_spread=1.0)
    found = [
        simulate(
            6400,
            100,
            Slot(10.0),
            Nodes(4, 2),
            rows=Rows(part_spread=1.0, are_known=known),
            rules=NO_SPARES,
            seed=seed,
        ).wall_s
        for known in (True, False)
        for seed in range(10)
    ]
    assert sum(found[:10]) < 0.9 * sum(found[10:])
    assert simulate(6400, 100, Slot(10.0), Nodes(4, 2), rows=rows).rows == 6400


def test_a_driver_that_is_slow_is_what_counts():
    found = simulate(10_000, 10, Slot(100.0), Nodes(10, 10), task_s=0.01)
    assert found.wall_s > 10


@given(
    st.integers(1, 3000),
    st.integers(1, 200),
    st.integers(1, 5),
    st.integers(1, 4),
    st.sampled_from([0.0, 5.0, 60.0]),
    st.sampled_from([None, 30.0]),
    st.integers(0, 99),
)
def test_no_row_is_lost_and_none_comes_twice(n_rows, part_rows, n, slots, deaths, replaced, seed):
    nodes = Nodes(n, slots, 9.0, deaths if replaced else 0.0, replaced, kinds=((0.3, 0.2), (1, 1)))
    found = simulate(
        n_rows, part_rows, Slot(20.0, 0.3, 1.0, 2.0), nodes, rows=Rows(0.7, 0.3), seed=seed
    )
    failed = found.failed * part_rows
    assert n_rows - failed <= found.rows <= n_rows
    assert found.parts + found.failed == -(-n_rows // part_rows)
    assert found.wall_s * n * slots >= found.done_s * 0.999
    assert found.idle_s > -1e-6


def test_what_is_random_is_the_same_again():
    def once(seed):
        nodes = Nodes(5, 2, deaths_per_hour=20.0)
        return simulate(9000, 100, Slot(10.0), nodes, rows=Rows(0.7), seed=seed)

    assert once(3) == once(3)
    assert once(3) != once(4)


def test_a_prediction_holds_what_the_driver_does_before_and_after():
    found = predict(
        400,
        100,
        n_nodes=2,
        slots=1,
        rows_per_s=10.0,
        drain_s=1.0,
        load_s=2.0,
        start_s=5.0,
        end_s=3.0,
        process_kills_s=[12.0],
    )
    alone_s = 5 + 2 + 2 * 11 + 3
    assert found.wall_s == pytest.approx(alone_s + 7 + 2, abs=11.1)
    assert found.counts.failures == 1
