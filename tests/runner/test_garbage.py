"""Cycles are looked for less often while a job runs, and as before when it is done."""

import gc

import pytest

from runner.garbage import THRESHOLDS, rare_collections


@pytest.fixture(autouse=True)
def same_afterwards():
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


def test_less_often_and_then_as_before():
    gc.set_threshold(700, 10, 10)
    with rare_collections():
        assert gc.get_threshold() == THRESHOLDS
    assert gc.get_threshold() == (700, 10, 10)
    with pytest.raises(ZeroDivisionError), rare_collections():
        1 / 0  # noqa: B018
    assert gc.get_threshold() == (700, 10, 10)


def test_what_a_program_chose_is_kept():
    for chosen in [(0, 10, 10), (50_000, 50, 1000)]:  # never, and less often still
        gc.set_threshold(*chosen)
        with rare_collections():
            assert gc.get_threshold()[0] == chosen[0]
            assert gc.get_threshold()[1] >= chosen[1]
        assert gc.get_threshold() == chosen
