"""How many rows a part has where nobody says it."""

from hypothesis import example, given
from hypothesis import strategies as st

from reference import HParams
from runner.parts import LEAST_PART_ROWS, MOST_PART_ROWS, PARTS_EACH, good_part_rows

SHAPES = HParams(n_vocab=50257, n_ctx=1024, n_embd=768, n_head=12, n_layer=12)


@given(st.integers(1, 10**9), st.integers(2, 32_000), st.integers(1, 1000))
@example(10**6, 320, 40)
def test_parts_that_are_done_at_a_time_leave_no_round_half_empty(n_rows, slots, new_tokens):
    most = good_part_rows(SHAPES, new_tokens, MOST_PART_ROWS * 2 * PARTS_EACH, 2)
    rows = good_part_rows(SHAPES, new_tokens, n_rows, slots)
    assert LEAST_PART_ROWS <= rows <= most
    rounds = -(-n_rows // (rows * slots))
    fewest = -(-n_rows // (most * slots))
    assert fewest <= rounds <= max(fewest, PARTS_EACH)
    left_over = rows * slots * rounds - n_rows
    assert rows == LEAST_PART_ROWS or left_over < slots * rounds  # a row of each part


def test_many_at_a_time_are_larger():
    assert 2040 <= good_part_rows(SHAPES, 40, 10**9, 3200) <= 2048


def test_in_one_process_they_have_a_round_number_of_rows():
    assert good_part_rows(SHAPES, 40, 100) == good_part_rows(SHAPES, 40, 10**9) == 256


def test_a_cluster_whose_nodes_are_still_to_come_has_large_ones():
    assert good_part_rows(SHAPES, 40, 100, 0) == good_part_rows(SHAPES, 40, 10**9, 0) == 2048
