"""Standard errors: against Python's own, and the harness' way of drawing written out."""

import math
import random
import statistics

import numpy as np
import pytest

from jobs import statistics as ours


def drawn_by_python(values):
    """As the harness draws: a generator for each thousand, and `choices`."""
    found = []
    for chunk in range(100):
        generator = random.Random(chunk)
        for _ in range(1000):
            some = generator.choices(values, k=len(values))
            found.append(math.exp(-sum(some) / len(some)))
    return statistics.stdev(found)


@pytest.mark.parametrize("n", [2, 7])
def test_a_perplexity_is_resampled_as_by_python(n):
    values = np.random.default_rng(n).normal(-3, 1, n).tolist()
    assert ours.perplexity_stderr(values) == pytest.approx(drawn_by_python(values), rel=1e-12)


def test_many_values_are_drawn_in_pieces(monkeypatch):
    values = np.random.default_rng(0).normal(-3, 1, 30).tolist()
    monkeypatch.setattr(ours, "RESAMPLES", 3000)
    whole = ours.perplexity_stderr(values)
    monkeypatch.setattr(ours, "DRAWN", 100)
    assert ours.perplexity_stderr(values) == whole


def test_a_mean_has_the_samples_standard_error():
    values = [0.0, 1.0, 1.0, 0.0, 1.0]
    wanted = statistics.stdev(values) / math.sqrt(5)
    assert ours.mean_stderr(values) == pytest.approx(wanted, rel=1e-15)


@pytest.mark.parametrize("stderr", [ours.mean_stderr, ours.perplexity_stderr])
def test_one_value_has_none(stderr):
    assert stderr([0.5]) is None


def test_a_perplexity_beyond_all_numbers_has_none():
    assert ours.perplexity_stderr([-1000.0, -900.0]) is None
