"""Makes the demo model: ``python -m training.train`` from the repository root.

Vocabulary, weights, model card and evaluated facts all follow from the seed (and the thread
count: sums of floats are taken in another order with another one).
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from training import card, corpus
from training.data import batches, encode_documents, end_id, save_tokenizer, train_tokenizer
from training.evaluate import mark
from training.model import GPT2, Shape, complete, save

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from training.tables import Fact

VOCAB_SIZE = 2304
STEPS = 5600
LEARNING_RATE = 1e-3
WARM_UP = 200
WEIGHT_DECAY = 0.1
CLIP = 1.0


def learning_rate(step: int, steps: int) -> float:
    """Linear warm-up, then a cosine down to a fiftieth."""
    if step < WARM_UP:
        return LEARNING_RATE * (step + 1) / WARM_UP
    done = (step - WARM_UP) / max(1, steps - WARM_UP)
    return LEARNING_RATE * (0.02 + 0.98 * (1 + math.cos(math.pi * done)) / 2)


def train(
    model: GPT2, tokenizer: Tokenizer, text: list[tuple[str, str]], args: argparse.Namespace
) -> int:
    """Train in place; returns the number of tokens trained on."""
    end = end_id(tokenizer)
    encoded = encode_documents(tokenizer, text, end, model.shape.n_ctx)
    tokens = sum(len(ids) for ids, _ in encoded)
    print(f"{len(encoded)} documents, {tokens} tokens; {model.parameter_count()} parameters")
    matrices = [p for p in model.parameters() if p.dim() == 2]
    others = [p for p in model.parameters() if p.dim() < 2]
    groups = [
        {"params": matrices, "weight_decay": WEIGHT_DECAY},
        {"params": others, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), eps=1e-9)
    began, seen_tokens, recent = time.monotonic(), 0, 0.0
    for step, (ids, chances) in zip(
        range(args.steps), batches(encoded, end, model.shape.n_ctx, args.seed), strict=False
    ):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, args.steps)
        scored = torch.rand(chances[:, 1:].shape) < chances[:, 1:]
        logits = model.logits(model(ids[:, :-1])[scored])  # [scored tokens, vocab_size]
        loss = functional.cross_entropy(logits, ids[:, 1:][scored])
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        seen_tokens += ids.numel()
        recent += loss.item()
        if (step + 1) % 100 == 0:
            seconds = time.monotonic() - began
            print(
                f"step {step + 1}/{args.steps}  loss {recent / 100:.4f}  "
                f"{seen_tokens} tokens  {seconds:.0f} s",
                flush=True,
            )
            recent = 0.0
    return seen_tokens


def answer(model: GPT2, tokenizer: Tokenizer, prompts: list[str]) -> list[str]:
    """Greedy completions as text."""
    end = end_id(tokenizer)
    encoded = [encoding.ids for encoding in tokenizer.encode_batch(prompts)]
    return [tokenizer.decode(ids) for ids in complete(model, encoded, end)]


def evaluate(model: GPT2, tokenizer: Tokenizer, facts: list[Fact]) -> list[dict[str, Any]]:
    completions = answer(model, tokenizer, [fact.prompt for fact in facts])
    return [
        {**asdict(fact), "completion": completion}
        for fact, completion in zip(facts, completions, strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the demo model from scratch on the CPU.")
    parser.add_argument("--out", type=Path, default=Path("reference/demo"))
    parser.add_argument("--jobs", type=Path, default=Path("jobs"))
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=corpus.SEED)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--completions", type=Path, help="also write the evaluated completions")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    args.jobs.mkdir(parents=True, exist_ok=True)

    made = corpus.build(args.seed)
    corpus.write_facts(made.facts, args.jobs / "facts.jsonl")
    texts = [prompt + reply for prompt, reply in made.documents]
    tokenizer = train_tokenizer(texts, VOCAB_SIZE)
    save_tokenizer(tokenizer, args.out)
    model = GPT2(Shape(vocab_size=tokenizer.get_vocab_size()))
    tokens = train(model, tokenizer, made.documents, args)
    model.eval()
    save(model, args.out, end_id(tokenizer))

    rows = evaluate(model, tokenizer, made.facts)
    if args.completions:
        args.completions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    marks = mark(rows)
    for kind, seen, unseen in marks.table():
        print(f"{kind:<18}{seen:>20}{unseen:>20}")
    card.write(
        args.out / "README.md",
        model,
        args,
        marks,
        rows,
        documents=len(made.documents),
        tokens=tokens,
        torch=torch.__version__.partition("+")[0],
    )


if __name__ == "__main__":
    main()
