"""Rows that are chosen for a check: the same ones, however the rows are cut into parts."""

import itertools
import pickle

from hypothesis import given
from hypothesis import strategies as st

from runner.process import Samples
from runner.sample import checked_rows, repeated_rows
from runner.settings import RunSettings


def chosen(sample, n_rows):
    return [row for row in range(n_rows) if sample.wants(usable=True)]


def cut(draw, n_rows):
    """Ranges that follow each other, some maybe empty, as long as all rows together."""
    places = draw(st.lists(st.integers(0, n_rows), max_size=8))
    bounds = [0, *sorted(places), n_rows]
    return [range(*pair) for pair in itertools.pairwise(bounds)]


@given(st.data(), st.integers(0, 60), st.none() | st.integers(0, 70), st.integers(0, 9))
def test_any_cut_of_the_rows_has_the_same_rows_chosen(data, n_rows, count, seed):
    for choose in (checked_rows, repeated_rows):
        whole = chosen(choose(n_rows, count, seed), n_rows)
        assert len(whole) == (n_rows if count is None else min(count, n_rows))
        sample = choose(n_rows, count, seed)
        found = []
        for rows in cut(data.draw, n_rows):
            found += [rows.start + n for n in chosen(sample.among(rows), len(rows))]
        assert found == whole
        assert chosen(sample, n_rows) == whole, "the cut used it up"


@given(st.data(), st.integers(1, 60), st.integers(0, 9))
def test_both_samples_of_a_run_are_cut_alike(data, n_rows, seed):
    settings = RunSettings("in", "out", check_rows=5, check_invariance=7, seed=seed)
    whole = Samples.of(settings, n_rows)
    found = [(rows, whole.among(rows)) for rows in cut(data.draw, n_rows)]
    for name in ("checked", "repeated"):
        parts = [(rows, getattr(samples, name)) for rows, samples in found]
        rows_of = [rows.start + n for rows, sample in parts for n in chosen(sample, len(rows))]
        assert rows_of == chosen(getattr(whole, name), n_rows)


def test_a_row_that_is_not_usable_has_its_stand_in_in_the_same_part():
    sample = checked_rows(10, None, 0).among(range(4, 8))
    assert [sample.wants(usable=row != 5) for row in range(4, 8)] == [True, False, True, True]
    one = checked_rows(100, 3, 0)
    first = chosen(checked_rows(100, 3, 0), 100)[0]
    part = one.among(range(first, first + 2))
    assert [part.wants(usable=False), part.wants(usable=True)] == [False, True]


def test_all_rows_of_a_part_are_no_list():
    """A driver has a sample for each part of a billion rows, and sends it."""
    sample = checked_rows(10**9, None, 0).among(range(10**8, 2 * 10**8))
    assert len(pickle.dumps(sample)) < 300
    assert sample.wants(usable=True)
