"""The vocabulary of the demo model, and the batches it is trained on."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

END_OF_TEXT = "<|endoftext|>"
PROMPT_CHANCE = 0.1  # that a prompt token is trained on in a batch; answer tokens always are
SHORT_TOKENS = 2048  # tokens of a batch of single documents
PACKED_ROWS = 8  # rows of a batch of full rows
PACKED_SHARE = 0.2  # of the batches

Encoded = tuple[list[int], int]  # a document's ids, end-of-text included; its prompt's length


def train_tokenizer(texts: list[str], vocab_size: int) -> Tokenizer:
    """A byte-level BPE as GPT-2 has it, with end-of-text as the last of ``vocab_size`` ids."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 1,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([END_OF_TEXT])
    return tokenizer


def end_id(tokenizer: Tokenizer) -> int:
    end = tokenizer.token_to_id(END_OF_TEXT)
    if end is None:
        raise ValueError(f"the vocabulary has no {END_OF_TEXT}")
    return int(end)


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write ``vocab.json`` and ``merges.txt`` in GPT-2's formats."""
    model = json.loads(tokenizer.to_str())["model"]
    vocab: dict[str, int] = model["vocab"] | {END_OF_TEXT: end_id(tokenizer)}
    ordered = dict(sorted(vocab.items(), key=lambda item: item[1]))
    (folder / "vocab.json").write_text(json.dumps(ordered, ensure_ascii=False), encoding="utf-8")
    merges = [" ".join(merge) for merge in model["merges"]]
    text = "\n".join(["#version: 0.2", *merges]) + "\n"
    (folder / "merges.txt").write_text(text, encoding="utf-8")


def encode_documents(
    tokenizer: Tokenizer, documents: list[tuple[str, str]], end: int, n_ctx: int
) -> list[Encoded]:
    """Encode documents in the way that prompts are encoded later: the prompt for itself."""
    prompts = tokenizer.encode_batch([prompt for prompt, _ in documents])
    answers = tokenizer.encode_batch([answer for _, answer in documents])
    encoded = []
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = [*prompt.ids, *answer.ids, end]
        if len(ids) > n_ctx:
            raise ValueError(f"a document has {len(ids)} tokens")
        encoded.append((ids, len(prompt.ids)))
    return encoded


def _short(part: list[Encoded], end: int) -> tuple[Tensor, Tensor]:
    """One document a row, right-padded: ids and chances, both [rows, longest]."""
    longest = max(len(ids) for ids, _ in part)
    ids = torch.full((len(part), longest), end)
    chances = torch.zeros(len(part), longest)
    for row, (document, prompt) in enumerate(part):
        ids[row, : len(document)] = torch.tensor(document)
        chances[row, :prompt] = PROMPT_CHANCE
        chances[row, prompt : len(document)] = 1.0
    return ids, chances


def _short_batches(
    encoded: list[Encoded], end: int, rng: random.Random
) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless passes over all documents, those of like length together."""
    while True:
        mixed = list(encoded)
        rng.shuffle(mixed)
        mixed.sort(key=lambda document: len(document[0]))  # stable: random within a length
        parts: list[list[Encoded]] = [[]]
        for document in mixed:
            if (len(parts[-1]) + 1) * len(document[0]) > SHORT_TOKENS:
                parts.append([])
            parts[-1].append(document)
        rng.shuffle(parts)
        for part in parts:
            yield _short(part, end)


def _packed_batches(
    encoded: list[Encoded], n_ctx: int, rng: random.Random
) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless full rows of many documents, cut at the row's end: both [PACKED_ROWS, n_ctx]."""
    while True:
        mixed = list(encoded)
        rng.shuffle(mixed)
        ids = torch.tensor([i for document, _ in mixed for i in document])
        chances = torch.tensor(
            [
                PROMPT_CHANCE if i < prompt else 1.0
                for document, prompt in mixed
                for i in range(len(document))
            ]
        )
        size = PACKED_ROWS * n_ctx
        for first in range(0, len(ids) - size + 1, size):
            rows = slice(first, first + size)
            yield ids[rows].view(PACKED_ROWS, n_ctx), chances[rows].view(PACKED_ROWS, n_ctx)


def batches(
    encoded: list[Encoded], end: int, n_ctx: int, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches of ids and chances, both [rows, length], a function of the seed."""
    rng = random.Random(f"{seed} batches")
    short = _short_batches(encoded, end, rng)
    packed = _packed_batches(encoded, n_ctx, rng)
    while True:
        yield next(packed if rng.random() < PACKED_SHARE else short)
