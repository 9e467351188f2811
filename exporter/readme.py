"""The README of an exported folder: what its graphs take, and how to run them."""

from collections.abc import Sequence

import numpy as np

from reference import Model

from .variants import GRAPHS, VARIANTS

TEXT = """# {name} as ONNX

GPT-2 with {n_layer} blocks of {n_head} heads, {n_embd} numbers wide, for {n_vocab} tokens and a
context of {n_ctx}. Exported from its reference in NumPy and checked against it: `manifest.json` has
the results, `test_vectors/` what a port must compute, `runner check` proves the folder again. The
licence is that of the model's weights.

- `onnx/{with_past}`, for generation: `input_ids`, `attention_mask`, `position_ids`, and for each
  block N `past_key_values.N.key` and `.value`, of shape [batch, {n_head}, past, {d}]; `logits`
  after each new token, `present.N.key` and `.value`. The first call has a past of no tokens, each
  next one passes `present` as `past_key_values`. Rows may be padded on either side, with any id:
  `attention_mask` [batch, past + new] is 0 there and 1 elsewhere, and `position_ids` count the
  tokens that stand before each in its row.
- `onnx/{forward}`, for scoring and for servers: `input_ids` [batch, {n_ctx}], `logits`
  [batch, {n_ctx}, {n_vocab}]. Rows are padded on the right with any id; the causal mask is inside.
- `onnx/{next_logits}`: the same with `last` [batch], the place of each row's last token; `logits`
  [batch, {n_vocab}] are those after it.

Ids, masks and positions are int64, everything else float32. The graphs share `{weights}`. A
text starts as it is, an empty one from the end-of-text token{eos}.

In Python, with onnxruntime and tokenizers:

```python
import numpy as np, onnxruntime, tokenizers
tokenizer = tokenizers.Tokenizer.from_file("tokenizer.json")
session = onnxruntime.InferenceSession("onnx/{with_past}")
ids, new = tokenizer.encode("The capital of France is").ids, []
past = {{i.name: np.zeros((1, {n_head}, 0, {d}), "{past}") for i in session.get_inputs()[3:]}}
for _ in range(min(8, {n_ctx} - len(ids))):
    start = next(iter(past.values())).shape[2]
    feeds = {{"input_ids": [ids], "attention_mask": [[1] * (start + len(ids))],
             "position_ids": [list(range(start, start + len(ids)))]}}
    logits, *present = session.run(None, {{**feeds, **past}})
    ids, past = [int(logits[0, -1].argmax())], dict(zip(past, present))
    new += ids
print(tokenizer.decode(new))
```
"""


def readme(model: Model, dtypes: Sequence[str]) -> str:
    """In Markdown, for a folder with this model's graphs."""
    hparams, eos_id = model.hparams, model.tokenizer.eos_id
    first = VARIANTS[dtypes[0]]
    return TEXT.format(
        **hparams,
        **{name: first.file(name) for name in GRAPHS},
        name=model.name,
        d=hparams["n_embd"] // hparams["n_head"],
        eos="" if eos_id is None else f", {eos_id}",
        past=np.dtype(first.past).name,
        weights=first.weights_file,
    )
