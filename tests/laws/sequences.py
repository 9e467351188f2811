"""Prompts through a scheduler, down to the bits of their logits; and models of any sizes."""

from dataclasses import replace

import numpy as np

from reference import load_model
from reference.checkpoint.weights import Checkpoint
from runner.batch_size import BatchSize
from runner.generate import RunningSequence
from runner.records import Prompt
from runner.scheduler import Scheduler


def model_of(hparams, params, tokenizer):
    """A model of these sizes and weights, kept in memory."""
    return replace(
        load_model("demo"),
        hparams=hparams,
        tokenizer=tokenizer,
        checkpoint=Checkpoint.in_memory(hparams, params),
    )


def complete(
    engine, prompts, *, size=None, limits=None, most_bytes=1 << 30, n_ctx=256, keep=lambda row: True
):
    """Each prompt's ids, log-probability and logits, run together through one scheduler."""
    sequences = [
        RunningSequence(
            Prompt(row, "", list(ids), (limits or [3] * len(prompts))[row]),
            None,
            [],
            None,
            n_ctx,
            keep_logits=keep(row),
        )
        for row, ids in enumerate(prompts)
    ]
    scheduler = Scheduler(engine, BatchSize(size), most_bytes)
    scheduler.add(sequences)
    while scheduler.step() or scheduler.n_running or scheduler.n_waiting:
        pass
    return [(s.ids, s.logprob, np.array(s.logits)) for s in sequences], scheduler.occupancy


def assert_same(found, expected):
    """The same ids, and the same bits of log-probabilities and logits, where these were kept."""
    for (ids, logprob, logits), (ids_2, logprob_2, logits_2) in zip(found, expected, strict=True):
        assert ids == ids_2
        assert logprob == logprob_2
        if len(logits) and len(logits_2):
            np.testing.assert_array_equal(logits, logits_2)
