"""The memory behind the slots: keys and values of the sequences that run."""

import math
import mmap
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from reference import HParams

FloatArray: TypeAlias = npt.NDArray[np.float32]
CacheArray: TypeAlias = npt.NDArray[Any]  # float32, or int8

CAPACITY_STEP = 64  # places; see `Engine`


@dataclass(frozen=True)
class Block:
    """Keys and values of some tokens of one sequence: [2 * n_layer, n_head, n, d]."""

    arrays: CacheArray

    @property
    def n_tokens(self) -> int:
        return int(self.arrays.shape[2])


class SlotCache:
    """A KV cache with a slot for each running sequence.

    An array for each block's keys and one for its values, [n_slots, n_head, n_cap, d]. The system
    hands out memory when it is first written to: places that no token was put to cost nothing.

    Parameters
    ----------
    hparams : HParams
        Of the model.
    dtype : dtype
        Of the numbers: float32, or int8.

    Attributes
    ----------
    n_slots, n_cap : int
        Sequences, and tokens of each; at first none.
    token_bytes : int
        Of one token of one sequence.
    arrays, with_idle : list of array
        The slots; and the same memory with one more slot before them, which is nobody's.
    """

    def __init__(self, hparams: HParams, dtype: npt.DTypeLike = np.float32) -> None:
        self._dtype = np.dtype(dtype)
        self.token_bytes = 2 * hparams["n_layer"] * hparams["n_embd"] * self._dtype.itemsize
        self.n_slots = self.n_cap = 0
        shape = (0, hparams["n_head"], 0, hparams["n_embd"] // hparams["n_head"])
        self.arrays = [self._untouched(shape) for _ in range(2 * hparams["n_layer"])]
        self.with_idle = list(self.arrays)

    def resize(self, n_slots: int, n_cap: int, lengths: npt.NDArray[np.int64]) -> None:
        """Go on with other numbers of slots and places; slot i keeps its first `lengths[i]` tokens.

        Array by array, so that no more than one is held twice.
        """
        for n, old in enumerate(self.arrays):
            shape = (n_slots + 1, old.shape[1], n_cap, old.shape[3])
            self.with_idle[n] = self._untouched(shape)
            self.arrays[n] = self.with_idle[n][1:]
            for slot, length in enumerate(lengths.tolist()):
                self.arrays[n][slot, :, :length] = old[slot, :, :length]
        self.n_slots, self.n_cap = n_slots, n_cap

    def shaped(self, n_slots: int, n_cap: int) -> list[CacheArray]:
        """The arrays' memory in another shape, and more of it where that takes more.

        What they held is lost.
        """
        shape = (n_slots, self.arrays[0].shape[1], n_cap, self.arrays[0].shape[3])
        if math.prod(shape) > self.arrays[0].size:
            self.n_slots, self.n_cap = n_slots, n_cap
            self.arrays = [self._untouched(shape) for _ in self.arrays]
        return [array.reshape(-1)[: math.prod(shape)].reshape(shape) for array in self.arrays]

    def move(self, source: int, target: int, length: int) -> None:
        """Put the first `length` tokens of one slot into another."""
        for array in self.arrays:
            array[target, :, :length] = array[source, :, :length]

    def take(self, slot: int, length: int) -> Block:
        """A copy of a slot's first `length` tokens."""
        return Block(np.stack([array[slot, :, :length] for array in self.arrays]))

    def fill(self, slot: int, block: Block) -> None:
        """Put tokens to the first places of a slot."""
        for array, part in zip(self.arrays, block.arrays, strict=True):
            array[slot, :, : block.n_tokens] = part

    def _untouched(self, shape: tuple[int, ...]) -> CacheArray:
        """Zeros that take memory page by page, when they are written to.

        NumPy would ask for huge pages, which take most of a slot at its first token.
        """
        n = math.prod(shape)
        memory = mmap.mmap(-1, max(n * self._dtype.itemsize, 1))
        return np.frombuffer(memory, self._dtype, n).reshape(shape)
