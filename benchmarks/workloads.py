"""Loads of token ids, alike for every engine that is compared.

short      64 prompts of 16 tokens, 64 new ones each
mixed      64 prompts of lognormal lengths (8 to 230 tokens, median about 50), 64 new
long       16 prompts of 512 tokens, 128 new
geometric  256 prompts of such lengths, geometric numbers of new tokens (1 to 128, mean about 40)
fewshot    512 prompts that share a header of 300 tokens, 16 new
repeated   512 prompts, 64 different ones, 32 new
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

N_VOCAB = 50257
NAMES = ("short", "mixed", "long", "geometric", "fewshot", "repeated")


@dataclass(frozen=True)
class Load:
    """Prompts, and the new tokens that each is to get."""

    prompts: list[list[int]]
    new_tokens: list[int]

    @property
    def n_new(self) -> int:
        return sum(self.new_tokens)


def make_load(name: str, seed: int = 0) -> Load:
    """A load by its name; the same on every call."""
    rng = np.random.default_rng(seed)

    def ids(length: int) -> list[int]:
        return [int(token) for token in rng.integers(0, N_VOCAB - 1, length)]

    def lognormal(count: int) -> list[list[int]]:
        lengths = np.clip(np.exp(rng.normal(3.95, 0.7, count)), 8, 230).astype(int)
        return [ids(length) for length in lengths]

    if name == "short":
        return Load([ids(16) for _ in range(64)], [64] * 64)
    if name == "mixed":
        return Load(lognormal(64), [64] * 64)
    if name == "long":
        return Load([ids(512) for _ in range(16)], [128] * 16)
    if name == "geometric":
        return Load(lognormal(256), [int(n) for n in np.clip(rng.geometric(1 / 40, 256), 1, 128)])
    if name == "fewshot":
        header = ids(300)
        return Load([header + ids(int(rng.integers(16, 48))) for _ in range(512)], [16] * 512)
    if name == "repeated":
        some = lognormal(64)
        return Load([some[int(n)] for n in rng.integers(0, 64, 512)], [32] * 512)
    raise ValueError(f"{name}: expected one of {', '.join(NAMES)}")


def write_load(load: Load, path: Path) -> None:
    """As a prompts file of token ids, with each row's number of new tokens."""
    table = pa.table(
        {
            "prompt": pa.array(load.prompts, pa.list_(pa.int32())),
            "max_new_tokens": load.new_tokens,
        }
    )
    pq.write_table(table, path)
