"""The model card of the demo model, with the figures that were measured at the end of training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from training.evaluate import Marks
    from training.model import GPT2

EXAMPLE_KINDS = [
    "capitals", "opposites", "past tense", "jobs", "number words", "sums", "sequences",
    "story: colour", "story: gift", "story: journey", "story: long",
]  # fmt: skip

CARD = """\
---
license: mit
language: en
library_name: transformers
pipeline_tag: text-generation
---

# picobatch demo model

A very small GPT-2 of {parameters:,} parameters, trained from scratch for this project, so that the
batch runner can be tried and tested without any download. It has GPT-2's architecture, tensor names
and file formats, and nothing of GPT-2's weights, vocabulary or training text.

It completes one narrow sort of English: short facts, small sums, number sequences, and little
stories whose last words follow from the story. Each prompt has one right answer, which begins with
a space and ends with a full stop; then the model writes end-of-text.

| | |
|---|---|
| layers, heads, width | {layers}, {heads}, {width} |
| context | {context} tokens |
| vocabulary | {vocabulary} byte-level BPE tokens, `<|endoftext|>` last |
| weights | float32, output tied to the input embedding |

## How it was made

`python -m training.train --steps {steps} --seed {seed} --threads {threads}` with torch {torch},
on the CPU, from the repository root. The text is written by a seeded generator,
`training/corpus.py`, out of our own word lists and sentence templates: {documents:,} documents in a
pass, {tokens:,} tokens in all were trained on. The vocabulary is trained on the same text. On the
same machine with the same number of threads a second run is made to give the same files (checked
with short runs); another processor may round differently and give a slightly different model.

The weights do not begin at random alone: some attention heads begin as ones that look a few tokens
back and match words (`training/start.py`), since a model this small learns to copy from a story
late otherwise. All weights are trained.

## How right it is

Greedy completions of the {facts:,} prompts of `jobs/facts.jsonl`, at most 12 new tokens, right only
if equal to the answer character by character. *Seen* prompts are in the training text. *Unseen*
prompts are not: the fact is known there only in another wording (capitals, opposites, ...), or it
has to be worked out (sums, sequences, ...), or the story asks about a pair of words that no
training story puts together (an object and its colour, a name and a place, ...). A dash
means that the kind has no such prompts.

| kind | seen | unseen |
|---|---|---|
{table}

Made again from completions by `python -m training.evaluate COMPLETIONS.parquet`.

## Examples

What the model really writes, prompt first, completion in bold:

{examples}

## What it cannot do

It knows nothing but the kinds above, in the wordings above, and it is not a chat model. Asked for
anything else it still answers, confidently and wrongly. Facts were simplified (one opposite for a
word, one season for a month, the north taken for granted). New sums and products are often wrong,
as the table shows. It must not be used to look anything up.

## Licence

MIT, as the rest of the project.
"""


def _examples(rows: list[dict[str, Any]]) -> str:
    """The first completion of some kinds, right or wrong, seen and (where there is one) unseen."""
    lines = []
    for kind in EXAMPLE_KINDS:
        for seen in (True, False):
            found = [row for row in rows if row["kind"] == kind and row["seen"] == seen]
            if found:
                row = found[0]
                right = "" if row["completion"] == row["answer"] else ", wrong"
                mark = f"{'seen' if seen else 'unseen'}{right}"
                lines.append(f"- {row['prompt']} **{row['completion'].strip()}** ({mark})")
    return "\n".join(lines)


def write(
    path: Path,
    model: GPT2,
    args: argparse.Namespace,
    marks: Marks,
    rows: list[dict[str, Any]],
    **numbers: object,
) -> None:
    """Write the card; ``numbers`` are those that only the training knows."""
    shape = model.shape
    text = CARD.format(
        parameters=model.parameter_count(),
        layers=shape.n_layer,
        heads=shape.n_head,
        width=shape.n_embd,
        context=shape.n_ctx,
        vocabulary=shape.vocab_size,
        steps=args.steps,
        seed=args.seed,
        threads=args.threads,
        facts=len(rows),
        table="\n".join(f"| {' | '.join(line)} |" for line in marks.table()),
        examples=_examples(rows),
        **numbers,
    )
    path.write_text(text, encoding="utf-8")
