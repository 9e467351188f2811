"""Inputs and what must come of them: anyone can prove a port of the model with these."""

import json
from itertools import islice
from typing import Any

import numpy as np

from reference import Model, gpt2, greedy

FOLDER = "test_vectors"
EXPECTED = "expected.json"
TEXTS = ("The capital of France is", "Hello, world! 1 + 1 =", "naïve café, 日本語 🙂\n\n  x", "")
MOST_NEW = 8  # tokens


def vectors(model: Model) -> dict[str, bytes]:
    """Files by name: `expected.json`, and logits as the NumPy reference computes them.

    For some texts: their ids, cut to leave room in the context; the logits after each of these,
    little-endian float32 [n_tokens, n_vocab], row by row, in a file of their own; and the greedy
    completion, which goes on past end-of-text. An empty text starts from end-of-text.
    """
    tokenizer, n_ctx = model.tokenizer, model.hparams["n_ctx"]
    n_new = min(MOST_NEW, n_ctx - 1)
    n_head, rows = model.hparams["n_head"], []
    files: dict[str, bytes] = {}
    for n, text in enumerate(TEXTS):
        ids = tokenizer.encode(text) or [tokenizer.eos_id or 0]
        ids = ids[: max(n_ctx - n_new, 1)]
        logits = gpt2(np.array(ids), **model.params, n_head=n_head)
        new = list(islice(greedy(ids, model.params, n_head, tokenizer.choices), n_new))
        row: dict[str, Any] = {
            "text": text,
            "input_ids": ids,
            "logits": {"file": f"logits_{n}.f32", "shape": list(logits.shape)},
            "completion_ids": new,
            "completion": tokenizer.decode(new),
        }
        rows.append(row)
        files[f"logits_{n}.f32"] = logits.astype("<f4").tobytes()
    expected = {"weights_sha256": model.weights_sha256, "rows": rows}
    files[EXPECTED] = (json.dumps(expected, indent=1, ensure_ascii=False) + "\n").encode()
    return files
