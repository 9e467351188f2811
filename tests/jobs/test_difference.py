"""Standard errors of differences against NumPy, the bootstrap, and nights without number."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from jobs.difference import difference, keyed
from jobs.results import RowResult

Z = 2.0


def rows(values, weights=None, ids=None):
    found = []
    for n, value in enumerate(values):
        of = {"x": float(value)} | ({} if weights is None else {"w": float(weights[n])})
        found.append(RowResult(str(n) if ids is None else ids[n], "", "", "", None, of))
    return keyed(found)


def between(now, before, weights=None, old_weights=None, **ids):
    per = None if weights is None else "w"
    return difference(rows(now, weights), rows(before, old_weights), "x", per)


finite = st.floats(-1e6, 1e6)
weight = st.floats(0.1, 1e3)


@given(st.lists(st.tuples(finite, finite), min_size=2, max_size=30))
def test_of_the_same_rows_it_is_that_of_the_mean_difference(pairs):
    now, before = np.array(pairs).T
    found = between(now, before)
    expected = np.std(now - before, ddof=1) / math.sqrt(len(pairs))
    assert found.stderr == pytest.approx(expected, rel=1e-9, abs=1e-7)
    assert found.now - found.before == pytest.approx(np.mean(now) - np.mean(before), abs=1e-6)
    assert (found.same, found.only_now, found.only_before) == (len(pairs), 0, 0)


@given(st.lists(st.tuples(finite, weight, finite, weight), min_size=2, max_size=30))
def test_of_ratios_it_is_that_of_the_linearised_difference(quadruples):
    x, w, y, v = np.array(quadruples).T
    u, old_u = x.sum() / w.sum(), y.sum() / v.sum()
    e = (x - u * w) / w.mean() - (y - old_u * v) / v.mean()
    expected = np.std(e, ddof=1) / math.sqrt(len(e))
    found = difference(rows(x, w), rows(y, v), "x", "w")
    assert found.stderr == pytest.approx(expected, rel=1e-7, abs=1e-6 * max(1, *abs(x), *abs(y)))
    assert found.now == pytest.approx(u)
    assert found.before == pytest.approx(old_u)


@given(st.lists(finite, min_size=2, max_size=20), st.lists(finite, min_size=2, max_size=20))
def test_of_rows_without_any_in_common_it_is_that_of_two_samples(now, before):
    other = rows(before, ids=[f"other {n}" for n in range(len(before))])
    found = difference(rows(now), other, "x", None)
    expected = math.hypot(
        np.std(now, ddof=1) / math.sqrt(len(now)), np.std(before, ddof=1) / math.sqrt(len(before))
    )
    assert found.stderr == pytest.approx(expected, rel=1e-9, abs=1e-7)
    assert (found.same, found.only_now, found.only_before) == (0, len(now), len(before))
    assert not found.paired


@given(st.lists(finite, min_size=2, max_size=20), st.randoms())
def test_order_does_not_matter_and_the_same_rows_do_not_differ(values, random):
    ids = [str(n) for n in range(len(values))]
    mixed = random.sample(range(len(values)), len(values))
    other = rows([values[n] for n in mixed], ids=[ids[n] for n in mixed])
    found = difference(rows(values, ids=ids), other, "x", None)
    assert found.paired
    assert found.now == found.before
    assert found.stderr == 0


@given(st.lists(st.tuples(finite, finite), min_size=2, max_size=10))
def test_rows_with_one_id_are_paired_one_after_the_other(pairs):
    now, before = zip(*pairs, strict=True)
    ids = ["same"] * len(pairs)
    twice = difference(rows(now, ids=ids), rows(before, ids=ids), "x", None)
    assert twice == between(now, before)
    fewer = difference(rows(now, ids=ids), rows(before[1:], ids=ids[1:]), "x", None)
    assert (fewer.same, fewer.only_now) == (len(pairs) - 1, 1)


@pytest.mark.parametrize(
    ("now", "before"),
    [([], [1.0]), ([1.0], []), ([math.nan, 1], [1, 1]), ([1, 2], [math.inf, 1]), ([1e200], [1, 2])],
)
def test_what_has_no_mean_has_no_difference(now, before):
    assert between(now, before) is None


def test_no_weight_is_no_mean_and_one_row_has_no_standard_error():
    assert difference(rows([1, 2], [0, 0]), rows([1, 2], [1, 1]), "x", "w") is None
    assert difference(rows([1, 2]), rows([1, 2]), "x", "w") is None
    assert between([1], [2]).stderr is None
    assert between([1, 2], [2]).stderr is None


@given(st.lists(st.tuples(finite, weight), min_size=2, max_size=12), st.integers(1, 6))
def test_some_rows_in_common_lie_between(pairs, n_common):
    """The variance of a difference: both variances, less twice the covariance of what is shared."""
    values, weights = map(np.array, zip(*pairs, strict=True))
    n = len(values)
    assume(n_common <= n)
    ids = [str(i) for i in range(n)]
    other_ids = [i if int(i) < n_common else f"other {i}" for i in ids]
    found = difference(
        rows(values, weights, ids), rows(values[::-1], weights[::-1], other_ids), "x", "w"
    )
    mean = values.sum() / weights.sum()
    parts = (values - mean * weights) / weights.sum() * math.sqrt(n / (n - 1))
    variance = 2 * (parts**2).sum() - 2 * (parts * parts[::-1])[:n_common].sum()
    scale = max(1.0, np.abs(parts).max())
    assert found.stderr**2 / scale**2 == pytest.approx(variance / scale**2, rel=1e-6, abs=1e-9)
    assert (found.same, found.only_now) == (n_common, n - n_common)


def test_the_bootstrap_finds_the_same_standard_error():
    """An oracle that knows no formula: rows are drawn again, and the ratio counted anew."""
    rng = np.random.default_rng(5)
    n = 400
    weights = rng.integers(5, 60, n).astype(float)
    hard = rng.gamma(4, 1, n)
    now = -weights * hard * rng.normal(1.02, 0.05, n)
    before = -weights * hard * rng.normal(1, 0.05, n)
    found = between(now, before, weights, weights)
    drawn = rng.integers(0, n, (4000, n))
    w = weights[drawn].sum(axis=1)
    again = now[drawn].sum(axis=1) / w - before[drawn].sum(axis=1) / w
    assert found.stderr == pytest.approx(np.std(again), rel=0.06)
    unpaired = difference(
        rows(now, weights), rows(before, weights, [f"other {i}" for i in range(n)]), "x", "w"
    )
    other = rng.integers(0, n, (4000, n))
    apart = now[drawn].sum(axis=1) / w - before[other].sum(axis=1) / weights[other].sum(axis=1)
    assert unpaired.stderr == pytest.approx(np.std(apart), rel=0.06)
    assert unpaired.stderr > 5 * found.stderr


def share_beyond(one_night, nights):
    beyond = 0
    for _ in range(nights):
        found = difference(*one_night(), "x", None)
        beyond += found.now - found.before < -Z * found.stderr
    return beyond / nights


def margin(rate, nights):
    """Four standard errors of a share: beyond it once in some 16,000 tests."""
    return 4 * math.sqrt(rate * (1 - rate) / nights)


NOMINAL = NormalDist().cdf(-Z)


def test_false_alarms_come_as_often_as_they_should():
    """Models that are equally good, on rows that are hard or easy for both."""
    rng = np.random.default_rng(0)
    nights, n = 2500, 100

    def likelihoods():
        hard = rng.normal(-3, 2, n)
        return rows(hard + rng.normal(0, 0.3, n)), rows(hard + rng.normal(0, 0.3, n))

    assert share_beyond(likelihoods, nights) == pytest.approx(NOMINAL, abs=margin(NOMINAL, nights))

    def accuracy():
        """Right with the same chance; which rows differ is luck."""
        chance = rng.beta(0.5, 0.5, n)
        return rows(rng.random(n) < chance), rows(rng.random(n) < chance)

    share = share_beyond(accuracy, nights)
    # The share of right rows is in steps: some of the tail lies on the edge.
    assert share == pytest.approx(NOMINAL, abs=margin(NOMINAL, nights) + 0.006)


def test_a_damage_that_is_missed_without_pairs_is_caught_with_them():
    rng = np.random.default_rng(1)
    nights, n = 150, 300
    caught = dict.fromkeys((True, False), 0)
    for _ in range(nights):
        hard = rng.normal(-3, 2, n)
        now = hard - 0.08 + rng.normal(0, 0.3, n)
        before = hard + rng.normal(0, 0.3, n)
        for paired in caught:
            ids = [str(i) if paired else f"other {i}" for i in range(n)]
            found = difference(rows(now), rows(before, ids=ids), "x", None)
            caught[paired] += found.now - found.before < -Z * found.stderr
    assert caught[True] > 0.8 * nights
    assert caught[False] < 0.1 * nights
