"""Prompts that cost little and answers to hold the runner to."""

from itertools import islice

import pytest

from reference import greedy


@pytest.fixture(scope="session")
def oracle(demo):
    """Greedy ids of the slow loop, up to end-of-text."""

    def complete(ids, n):
        found = []
        for token in islice(greedy(ids, demo.params, demo.hparams["n_head"]), n):
            if token == demo.tokenizer.eos_id:
                break
            found.append(token)
        return found

    return complete
