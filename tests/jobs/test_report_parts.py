"""What a report is made of: numbers, texts, groups of rows, and colours that can be read."""

import datetime as dt
import math
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.report import figures
from jobs.report.bins import CONFIDENCE, equal_counts, equal_widths, wilson
from jobs.report.timeline import Run, changes, since

STYLE = Path(figures.__file__).with_name("report.css").read_text()


@pytest.mark.parametrize(
    ("value", "stderr", "shown"),
    [
        (0.75, 0.0901, "0.750"),
        (0.75, None, "0.7500"),
        (40.0612, 1.23, "40.1"),
        (40.0612, 12.0, "40"),
        (-0.3333, 0.086, "\N{MINUS SIGN}0.333"),
        (-0.00001, 0.01, "0.000"),
        (1234567.8, None, "1,234,568"),
        (812, None, "812"),
        (3e-7, None, "3.00e\N{MINUS SIGN}7"),
        (6e12, 2.0, "6.00e12"),
        (math.nan, 0.1, "\N{EN DASH}"),
        (None, None, "\N{EN DASH}"),
        (math.inf, None, "infinite"),
        (0.0, 0.0, "0"),
        (0.5, math.nan, "0.5000"),
    ],
)
def test_a_number_has_the_digits_that_its_error_leaves(value, stderr, shown):
    assert figures.figure(value, stderr) == shown


@pytest.mark.parametrize(
    ("difference", "stderr", "value", "shown"),
    [
        (0.1292, 0.02, 0.7, "+0.129"),
        (-0.1292, 0.02, 0.7, "\N{MINUS SIGN}0.129"),
        (0.0, 0.02, 0.7, "0.000"),
        (0.0, None, 0.7, "0.0000"),
        (-0.002379, None, 0.6308, "\N{MINUS SIGN}0.0024"),
        (47.08, None, 1783.2, "+47.08"),
        (-2.3e-6, None, 3.4e-6, "\N{MINUS SIGN}2.30e\N{MINUS SIGN}6"),
        (None, None, 0.7, "\N{EN DASH}"),
    ],
)
def test_a_difference_has_its_sign(difference, stderr, value, shown):
    assert figures.differing(difference, stderr, value) == shown


def test_times_and_sizes():
    assert figures.day(dt.datetime(2026, 3, 9, tzinfo=dt.UTC)) == "9 March 2026"
    assert [figures.duration(s) for s in (0.04, 99.94, 99.96, 3599, 7260)] == [
        *("0.0 s", "99.9 s", "2 min", "1 h 00 min", "2 h 01 min"),
    ]
    assert [figures.size(n) for n in (0, 1023, 1024, 5 << 30, 5 << 40)] == [
        *("0 bytes", "1,023 bytes", "1.0 KiB", "5.0 GiB", "5,120.0 GiB"),
    ]


@given(st.text(), st.text())
def test_what_is_compared_is_all_there_and_what_is_not_marked_is_in_both(before, after):
    old, new = figures.compared(before, after)
    assert "".join(piece.text for piece in old) == figures.clean(before)
    assert "".join(piece.text for piece in new) == figures.clean(after)
    same = [[piece.text for piece in pieces if not piece.is_marked] for pieces in (old, new)]
    assert "".join(same[0]) == "".join(same[1])


def test_the_words_that_changed_are_marked():
    old, new = figures.compared("the capital is Paris.", "the capital is Rome.")
    assert [piece.text for piece in old if piece.is_marked] == ["Paris"]
    assert [piece.text for piece in new if piece.is_marked] == ["Rome"]


@given(st.text(), st.integers(8, 100))
def test_a_text_is_cut_in_its_middle_and_says_by_how_much(text, most):
    shown = figures.clean(text * 20, most)
    if len(text) * 20 > most:
        (left_out,) = re.findall(r"\[\.\.\. ([\d,]+) characters \.\.\.\]", shown)
        assert int(left_out.replace(",", "")) == len(text) * 20 - most
    assert not re.search(
        "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\ud800-\udfff]", shown
    )


def test_a_common_space_at_the_start_is_not_shown():
    assert figures.unindented(" Oslo", " Rome", "") == ["Oslo", "Rome", ""]
    assert figures.unindented(" Oslo", "Rome") == [" Oslo", "Rome"]


@given(st.integers(1, 5000), st.data())
def test_wilson_s_interval_solves_its_equation(n, data):
    share = data.draw(st.integers(0, n)) / n
    below, above = wilson(share, n)
    for limit in (share - below, share + above):
        off = abs(share - limit) - CONFIDENCE * math.sqrt(max(0.0, limit * (1 - limit) / n))
        assert abs(off) < 1e-9


def test_groups_of_equal_width_are_numpy_s_histogram():
    rng = np.random.default_rng(0)
    x, correct = rng.random(500), (rng.random(500) < 0.6).astype(float)
    x[:2] = 0.0, 1.0
    found = equal_widths(x, correct)
    counts, edges = np.histogram(x, 10, (0, 1))
    sums, _ = np.histogram(x, 10, (0, 1), weights=correct)
    assert [part.n for part in found] == counts.tolist()
    np.testing.assert_allclose([part.y for part in found], sums / counts)
    assert all(edges[n] <= part.x <= edges[n + 1] for n, part in enumerate(found))


@given(st.lists(st.integers(0, 30), min_size=1, max_size=200))
def test_groups_by_length_hold_each_row_once_and_rows_of_a_length_together(lengths):
    x = np.array(lengths, float)
    found = equal_counts(x, 2 * x, is_share=False)
    assert sum(part.n for part in found) == len(lengths)
    # Each is the next so many of the lengths in order, and ends where a length ends.
    ends = np.cumsum([part.n for part in found])
    groups = np.split(np.sort(x), ends[:-1])
    assert all(a[-1] < b[0] for a, b in pairwise(groups))
    for part, group in zip(found, groups, strict=True):
        assert (part.x, part.y) == pytest.approx((group.mean(), 2 * group.mean()))


def runs(*wrong, versions=()):
    start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    facts = dict.fromkeys(("model", "weights_sha256", "dtype", "picobatch", "processor"), "x")
    return [
        Run(str(n), start + dt.timedelta(n), {**facts, "onnxruntime": version}, code)
        for n, (code, version) in enumerate(zip(wrong, versions or "1" * len(wrong), strict=True))
    ]


@pytest.mark.parametrize(
    ("codes", "first", "n"),
    [((0, 0, 4), 2, 1), ((0, 4, 4), 1, 2), ((4, 0, 4), 2, 1), ((4, 4, 4), 0, 3), ((4,), 0, 1)],
)
def test_since_when_it_is_wrong(codes, first, n):
    found = since(runs(*codes), lambda run: run.exit_code == 4)
    assert (found.run.name, found.runs, found.is_known) == (str(first), n, first > 0)


def test_what_changed_is_told_where_both_runs_know_it():
    before, after, unknown = runs(0, 0, 0, versions=("1.31", "1.32", ""))
    assert changes(before, after) == ["onnxruntime 1.31 \N{RIGHTWARDS ARROW} 1.32"]
    assert changes(after, unknown) == changes(unknown, after) == changes(after, after) == []


def luminance(colour):
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    """As WCAG 2.2 defines it."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("n", range(3), ids=("light", "dark", "paper"))
def test_text_can_be_read_on_its_ground(n):
    assert contrast("#000000", "#ffffff") == 21
    themes = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
    assert len(themes) == 3
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", themes[n]))
    for text in ("ink", "muted", "accent", "good", "bad"):
        for ground in ("paper", "soft"):
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    assert contrast(colours["ink"], colours["mark"]) >= 4.5
