"""What is said of parts adds up over the processes that did them."""

import copy
import itertools
from dataclasses import fields

from hypothesis import given
from hypothesis import strategies as st

from runner.effort import Effort
from runner.invariance import NAMED_ROWS, InvarianceReport
from runner.outcome import Outcome
from runner.parts import FailedPart, Part
from runner.scheduler import Occupancy

COUNTS = st.integers(0, 2**40)
STAGES = ("load", "read", "prefill", "decode")
MOST = {"batch_size", "peak_bytes", "most_slots"}  # of which the largest counts
OCCUPANCIES = st.builds(Occupancy, *(COUNTS for _ in fields(Occupancy)))
EFFORTS = st.builds(
    Effort,
    # Whole seconds, whose sums are exact.
    seconds=st.dictionaries(st.sampled_from(STAGES), COUNTS.map(float)),
    occupancy=OCCUPANCIES,
    **{f.name: COUNTS for f in fields(Effort) if f.type in (int, "int")},
)


def total(efforts):
    found = Effort()
    for effort in efforts:
        found.add(effort)
    return found


def check_sum(found, of, kind):
    for field in fields(kind):
        values = [getattr(one, field.name) for one in of]
        if isinstance(values[0], (int, float)):
            put_together = max if field.name in MOST else sum
            assert getattr(found, field.name) == put_together(values), field.name


@given(st.lists(EFFORTS, min_size=1, max_size=5))
def test_efforts_add_up(efforts):
    before = copy.deepcopy(efforts)
    found = total(efforts)
    check_sum(found, efforts, Effort)
    check_sum(found.occupancy, [effort.occupancy for effort in efforts], Occupancy)
    for stage in STAGES:
        assert found.seconds.get(stage, 0) == sum(e.seconds.get(stage, 0) for e in efforts)
    assert efforts == before, "what was taken in is another"
    assert all(
        total(order) == found for order in itertools.islice(itertools.permutations(efforts), 6)
    )


def test_rates_are_those_of_all_together():
    """Not the mean of what each process had."""
    one = Effort({"prefill": 1.0, "decode": 2.0}, 100, 10, 10)
    one.occupancy = Occupancy(steps=10, rows=10, live_rows=10, most_slots=1)
    two = Effort({"prefill": 3.0}, 100, 0, 0)
    two.occupancy = Occupancy(steps=1, rows=30, live_rows=10, most_slots=4)
    figures = total([one, two]).figures()
    assert (figures["prefill_tokens_per_s"], figures["decode_tokens_per_s"]) == (50.0, 5.0)
    assert (figures["occupancy"], figures["most_slots"], figures["decode_steps"]) == (0.5, 4, 11)
    assert Effort().figures()["decode_tokens_per_s"] == 0.0


def test_outcomes_add_up():
    parts = [Part(n, range(n, n + 1)) for n in range(3)]
    found = Outcome()
    for n, part in enumerate(parts):
        again = InvarianceReport(rows=2, threads=[n + 1], differing_rows=n)
        again.differing = [f"row {n}: another"] * n
        found.add(
            Outcome(
                Effort({"decode": 1.0}, generated_tokens=5, repeated_rows=1),
                again,
                {"target": f"{n}"} if n else {},
                [FailedPart(part, "why")] if n != 1 else [],
            )
        )
    assert (found.effort.generated_tokens, found.effort.repeated_rows) == (15, 3)
    assert found.effort.seconds == {"prefill": 0.0, "decode": 3.0}
    assert found.invariance == InvarianceReport(
        rows=6,
        threads=[1, 2, 3],
        differing_rows=3,
        differing=["row 1: another", "row 2: another", "row 2: another"],
    )
    assert found.engine == {"target": "1"}, "that of the first that says one"
    assert [failed.part for failed in found.failed] == [parts[0], parts[2]]


def test_many_rows_that_differ_are_counted_and_some_are_named():
    found = Outcome()
    for n in range(NAMED_ROWS + 5):
        again = InvarianceReport(rows=1, threads=[1], differing_rows=1, differing=[f"row {n}"])
        found.add(Outcome(invariance=again))
    assert found.invariance.differing_rows == NAMED_ROWS + 5
    assert found.invariance.differing == [f"row {n}" for n in range(NAMED_ROWS)]
    assert not found.invariance.agrees
