"""Beginnings that several prompts share: their keys and values are computed once."""

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from .kv_cache import Block

BLOCK_TOKENS = 32  # a shared beginning is a whole number of these

Key = tuple[int, bytes]  # tokens, and the hash of them


def block_keys(ids: Sequence[int]) -> Iterator[Key]:
    """A key for each beginning of whole blocks, the shortest first."""
    digest = hashlib.blake2b(digest_size=16)
    for end in range(BLOCK_TOKENS, len(ids) + 1, BLOCK_TOKENS):
        digest.update(np.array(ids[end - BLOCK_TOKENS : end], dtype=np.int64).tobytes())
        yield end, digest.digest()


def shared_keys(prompts: Iterable[Sequence[int]], known: "PrefixStore") -> list[list[Key]]:
    """For each prompt, the beginnings that it shares with another one or with what is stored."""
    keys = [list(block_keys(ids)) for ids in prompts]
    count = Counter(key for found in keys for key in found)
    return [[key for key in found if count[key] > 1 or key in known] for found in keys]


class PrefixStore:
    """Keys and values of beginnings, the most recently used ones, within a number of bytes."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._blocks: OrderedDict[Key, Block] = OrderedDict()

    def __contains__(self, key: Key) -> bool:
        return key in self._blocks

    def longest(self, keys: Sequence[Key]) -> Block | None:
        """The longest stored beginning of these."""
        for key in reversed(keys):
            if key in self._blocks:
                self._blocks.move_to_end(key)
                return self._blocks[key]
        return None

    def add(self, key: Key, block: Block) -> None:
        """Keep a beginning; those that were not used for longest make room."""
        self._blocks[key] = block
        self._bytes += block.arrays.nbytes
        while self._bytes > self._most_bytes:
            _, dropped = self._blocks.popitem(last=False)
            self._bytes -= dropped.arrays.nbytes
