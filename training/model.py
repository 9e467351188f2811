"""A compact GPT-2 in torch, and how it is written in the Hugging Face layout."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from training.start import initialise

if TYPE_CHECKING:
    from pathlib import Path

LAYER_NORM_EPSILON = 1e-5


@dataclass(frozen=True)
class Shape:
    vocab_size: int
    n_ctx: int = 256
    n_embd: int = 128
    n_layer: int = 4
    n_head: int = 4


class Block(nn.Module):
    """One pre-LN transformer block: [rows, length, n_embd] to the same."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.n_embd
        self.n_head = shape.n_head
        self.ln_1 = nn.LayerNorm(width, eps=LAYER_NORM_EPSILON)
        self.c_attn = nn.Linear(width, 3 * width)
        self.attn_proj = nn.Linear(width, width)
        self.ln_2 = nn.LayerNorm(width, eps=LAYER_NORM_EPSILON)
        self.c_fc = nn.Linear(width, 4 * width)
        self.mlp_proj = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        rows, length, width = x.shape
        qkv = self.c_attn(self.ln_1(x)).view(rows, length, 3, self.n_head, width // self.n_head)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each [rows, n_head, length, head]
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.attn_proj(mixed.transpose(1, 2).reshape(rows, length, width))
        hidden = functional.gelu(self.c_fc(self.ln_2(x)), approximate="tanh")
        out: Tensor = x + self.mlp_proj(hidden)
        return out


class GPT2(nn.Module):
    """Token ids [rows, length] to final hidden states [rows, length, n_embd]."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.wte = nn.Embedding(shape.vocab_size, shape.n_embd)
        self.wpe = nn.Embedding(shape.n_ctx, shape.n_embd)
        blocks = [Block(shape) for _ in range(shape.n_layer)]
        self.h = nn.ModuleList(blocks)
        self.ln_f = nn.LayerNorm(shape.n_embd, eps=LAYER_NORM_EPSILON)
        initialise(self, blocks)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1]))
        for block in self.h:
            x = block(x)
        hidden: Tensor = self.ln_f(x)
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states [..., n_embd] to logits [..., vocab_size], by the tied embedding."""
        logits: Tensor = functional.linear(hidden, self.wte.weight)
        return logits

    def parameter_count(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())


def complete(model: GPT2, prompts: list[list[int]], end: int, most: int = 12) -> list[list[int]]:
    """Greedy continuations, each cut before the end-of-text token; at most ``most`` new tokens."""
    completions: list[list[int]] = [[] for _ in prompts]
    by_length = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    for first in range(0, len(by_length), 64):
        part = by_length[first : first + 64]
        lengths = torch.tensor([len(prompts[i]) for i in part])
        ids = torch.full((len(part), int(lengths.max()) + most), end)  # right-padded
        for row, i in enumerate(part):
            ids[row, : len(prompts[i])] = torch.tensor(prompts[i])
        every = torch.arange(len(part))
        with torch.no_grad():
            for step in range(most):
                hidden = model(ids[:, : int(lengths.max()) + step])
                ids[every, lengths + step] = model.logits(hidden[every, lengths + step - 1]).argmax(
                    -1
                )
        for row, i in enumerate(part):
            new = ids[row, lengths[row] : lengths[row] + most].tolist()
            completions[i] = new[: new.index(end)] if end in new else new
    return completions


def save(model: GPT2, folder: Path, end: int) -> None:
    """Write ``model.safetensors`` (names and [in, out] weights as in GPT-2) and ``config.json``."""
    renames = {
        "c_attn": "attn.c_attn",
        "attn_proj": "attn.c_proj",
        "c_fc": "mlp.c_fc",
        "mlp_proj": "mlp.c_proj",
    }
    tensors: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        linear = name.split(".")[-2]  # torch has a linear weight as [out, in]
        if linear in renames:
            theirs = name.replace(f".{linear}.", f".{renames[linear]}.")
            tensors[theirs] = tensor.T.contiguous() if tensor.dim() == 2 else tensor
        else:
            tensors[name] = tensor
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    shape = model.shape
    config = {
        "activation_function": "gelu_new",
        "architectures": ["GPT2LMHeadModel"],
        "attn_pdrop": 0.0,
        "bos_token_id": end,
        "embd_pdrop": 0.0,
        "eos_token_id": end,
        "initializer_range": 0.02,
        "layer_norm_epsilon": LAYER_NORM_EPSILON,
        "model_type": "gpt2",
        "n_ctx": shape.n_ctx,
        "n_embd": shape.n_embd,
        "n_head": shape.n_head,
        "n_layer": shape.n_layer,
        "n_positions": shape.n_ctx,
        "resid_pdrop": 0.0,
        "tie_word_embeddings": True,
        "vocab_size": shape.vocab_size,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
