"""CRC-32C, which guards TensorFlow's checkpoints, in NumPy.

A CRC is the remainder of a polynomial over GF(2) modulo `P`, and in GF(2) squaring is linear:
`P(x)**n == P(x**n)` for every power of two `n`. So `x**(32 n)` may be replaced by the lower terms
of `P` at `x**n`: a block of `n` bits is folded into 17 later blocks by XOR, at the speed of memory,
until little enough is left for the usual table.

References
----------
RFC 3720, appendix B.4 (the polynomial and test vectors); TensorFlow's `crc32c.h` (the mask).
"""

from typing import Any

import numpy as np
import numpy.typing as npt

DEGREE = 32
POLYNOMIAL = 0x1EDC6F41  # its terms below x**32
REVERSED = 0x82F63B78  # the same with the bits in the order in which bytes hold them
TERMS = [term for term in range(DEGREE) if POLYNOMIAL >> term & 1]
STRIDE = DEGREE - max(TERMS)  # blocks that can be folded at once, because none meets another

WORD_BYTES = 8
BLOCK_BYTES = 1 << 14  # of which 32 and a chunk stay in the cache
CHUNK_BYTES = 1 << 19
MASK_DELTA = 0xA282EAD8


def _table() -> list[int]:
    table = []
    for crc in range(256):
        for _ in range(8):
            crc = crc >> 1 ^ (REVERSED if crc & 1 else 0)  # noqa: PLW2901
        table.append(crc)
    return table


TABLE = _table()


def crc32c(data: Any) -> int:
    """The CRC-32C of a buffer.

    Parameters
    ----------
    data : bytes or array
        Anything that holds contiguous bytes; left as it is.

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    view = memoryview(data)
    if view.nbytes < 2 * DEGREE * WORD_BYTES:
        return _by_table(view.tobytes(), 0xFFFFFFFF) ^ 0xFFFFFFFF
    message = np.frombuffer(data, dtype=np.uint8)
    block = min(BLOCK_BYTES, _power_of_two(len(message) // DEGREE))
    n_padding = -len(message) % block  # zeros in front change nothing
    first = message[: CHUNK_BYTES - n_padding].copy()
    first[:4] ^= 0xFF  # where the register begins
    rest = _fold(np.concatenate([np.zeros(DEGREE * block + n_padding, np.uint8), first]), block)
    for start in range(len(first), len(message), CHUNK_BYTES):
        rest = _fold(np.concatenate([rest, message[start : start + CHUNK_BYTES]]), block)
    while block > WORD_BYTES:
        block //= 2
        rest = _fold(rest, block)
    return _by_table(rest.tobytes(), 0) ^ 0xFFFFFFFF


def unmask(masked: int) -> int:
    """The CRC that TensorFlow stores as `masked`."""
    rotated = (masked - MASK_DELTA) & 0xFFFFFFFF
    return (rotated << 15 | rotated >> 17) & 0xFFFFFFFF


def _fold(work: npt.NDArray[np.uint8], block: int) -> npt.NDArray[np.uint8]:
    """Fold whole blocks of `block` bytes into the last 32. Works in place, returns those."""
    blocks = work.view(np.uint64).reshape(-1, block // WORD_BYTES)
    last = len(blocks) - DEGREE
    for start in range(0, last, STRIDE):
        folded = blocks[start : min(start + STRIDE, last)]
        for term in TERMS:
            target = blocks[start + DEGREE - term :][: len(folded)]
            np.bitwise_xor(target, folded, out=target)
    return work[-DEGREE * block :]


def _by_table(data: bytes, crc: int) -> int:
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc


def _power_of_two(limit: int) -> int:
    """The largest one up to `limit`."""
    return 1 << limit.bit_length() - 1
