"""The weights a training begins with: random, but for attention heads that can already look back.

To copy from a story, a model has to find an earlier place by a word that stands near it.  With only
random weights that skill comes late and all at once.  Here the first layer's heads begin as ones
that look one, two, three and four tokens back, and the next two layers' heads begin as ones that
match a word with what those saw.  All of it is trained further, nothing is frozen.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from training.model import GPT2, Block

EMBEDDING_STD = 0.05
OUTPUT_STD = 0.002  # of the matrices that write into the residual stream
LOOK_GAIN = 1.5
MATCH_GAIN = 1.7
SEEN_GAIN = 0.08
COPY_GAIN = 0.2


def _orthonormal(rows: int, columns: int) -> Tensor:
    """A random matrix [rows, columns] of orthonormal rows."""
    basis, _ = torch.linalg.qr(torch.randn(columns, rows))
    rows_first: Tensor = basis.T.contiguous()
    return rows_first


def _waves(n_ctx: int, rates: Tensor) -> Tensor:
    """Sines, then cosines, of the positions at these rates: [n_ctx, 2 * len(rates)]."""
    angles = torch.outer(torch.arange(n_ctx), rates)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def _set_head(block: Block, head: int, parts: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    """Give one head its query, key and value maps and its output map, all [head, n_embd]."""
    query, key, value, out = parts
    size, width = query.shape
    rows = slice(head * size, (head + 1) * size)
    for i, part in enumerate((query, key, value)):
        block.c_attn.weight[i * width : (i + 1) * width][rows] = part
    block.attn_proj.weight[:, rows] = out.T


def _random(model: GPT2) -> None:
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        elif parameter.dim() == 2:
            std = 1 / math.sqrt(model.shape.n_embd)
            std = EMBEDDING_STD if name.startswith("w") else std
            nn.init.normal_(parameter, std=OUTPUT_STD if "_proj" in name else std)


def initialise(model: GPT2, blocks: list[Block]) -> None:
    """Set all weights.  A head's width of the stream is for positions, the rest for words."""
    with torch.no_grad():
        _random(model)
        width, heads = model.shape.n_embd, model.shape.n_head
        size = width // heads
        rates = torch.logspace(math.log10(2.8), math.log10(0.02), size // 2)
        model.wpe.weight.zero_()
        model.wpe.weight[:, :size] = _waves(model.shape.n_ctx, rates) * EMBEDDING_STD * math.sqrt(2)
        model.wte.weight[:, :size] *= 0.1

        place = torch.eye(size, width)
        words = [torch.zeros(size, width) for _ in range(heads)]  # what a head reads of a word
        codes = [torch.zeros(size, width) for _ in range(heads)]  # where it writes it
        first = blocks[0]
        for head in range(heads):
            words[head][:, size:] = _orthonormal(size, width - size)
            codes[head][:, size:] = _orthonormal(size, width - size)
            turn = (head + 1) * rates
            sine, cosine = torch.diag(turn.sin()), torch.diag(turn.cos())
            back = torch.cat([torch.cat([cosine, -sine], 1), torch.cat([sine, cosine], 1)])
            look = (LOOK_GAIN * back @ place, LOOK_GAIN * place, words[head])
            _set_head(first, head, (*look, SEEN_GAIN * codes[head]))
        for near, block in enumerate(blocks[1:3]):
            seen, word = MATCH_GAIN * codes[near], MATCH_GAIN * words[near]
            for head in range(heads - 1):  # after a word: what stood some way before that word
                _set_head(block, head, (seen, word, codes[head], COPY_GAIN * words[head]))
            _set_head(block, heads - 1, (word, seen, words[-1], COPY_GAIN * words[-1]))
