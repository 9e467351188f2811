"""CRC-32C, against published vectors and against a library that is not ours."""

import google_crc32c
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference.checkpoint import crc32c as module
from reference.checkpoint.crc32c import BLOCK_BYTES, CHUNK_BYTES, crc32c, unmask


@pytest.mark.parametrize(
    ("data", "crc"),
    [  # RFC 3720, appendix B.4
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(reversed(range(32))), 0x113FDB5C),
        (b"123456789", 0xE3069283),
        (b"", 0),
    ],
)
def test_published_vectors(data, crc):
    assert crc32c(data) == crc


@given(st.binary(max_size=2000))
def test_any_bytes_as_the_oracle(data):
    assert crc32c(data) == google_crc32c.value(data)


@pytest.mark.parametrize("around", [511, 512, 1024, 32 * BLOCK_BYTES, CHUNK_BYTES, 3 * CHUNK_BYTES])
@pytest.mark.parametrize("more", [-1, 0, 1, 7])
def test_lengths_where_blocks_and_chunks_meet(around, more):
    data = np.random.default_rng(around).integers(0, 256, around + more, dtype=np.uint8)
    assert crc32c(data) == google_crc32c.value(data.tobytes())


def test_the_buffer_is_left_as_it_is():
    data = np.arange(100_000, dtype=np.float32)
    before = data.copy()
    assert crc32c(data) == google_crc32c.value(data.tobytes())
    np.testing.assert_array_equal(data, before)


def test_a_flipped_bit_anywhere_changes_it():
    data = bytearray(np.random.default_rng(0).bytes(40_000))
    whole = crc32c(data)
    for at in range(0, len(data), 997):
        data[at] ^= 1 << at % 8
        assert crc32c(data) != whole
        data[at] ^= 1 << at % 8


def test_the_mask_of_tensorflow():
    for crc in (0, 1, 0xE3069283, 0xFFFFFFFF):
        masked = ((crc >> 15 | crc << 17) + module.MASK_DELTA) & 0xFFFFFFFF
        assert unmask(masked) == crc
