"""The README of an exported folder: what its graphs take, and how to run them."""

from collections.abc import Sequence
from string import Template

import numpy as np

from reference import Model
from reference.messages import printable

from .variants import GRAPHS, VARIANTS

PROMPT = "The capital of France is"
N_NEW = 8  # tokens that the examples generate
FORMATS = {
    "float32": "everything in float32.",
    "float16": "matrices, embeddings, keys and values in float16, computed with in float16; what "
    "lies between and the logits in float32.",
    "int8": "matrices and embeddings in 8 bits with a scale for each channel; a row of activations "
    "is rounded with a scale of its own, so that no row depends on its neighbours.",
}
PADDING = Template(""" Ids from $n_tokens on pad the
vocabulary: no token is theirs, and their logits are to be left out.""")
TEXT = Template("""# $name as ONNX

GPT-2 with $n_layer blocks of $n_head heads, $n_embd numbers wide, for $n_vocab tokens and a
context of $n_ctx. Exported from its reference in NumPy and checked against it: `manifest.json` has
the results, `test_vectors/` what a port must compute, `runner check` proves the folder again. The
licence is that of the model's weights.

- `onnx/$with_past`, for generation: `input_ids`, `attention_mask`, `position_ids`, and for each
  block N `past_key_values.N.key` and `.value`, $past of shape [batch, $n_head, past, $d]; `logits`
  after each new token, `present.N.key` and `.value`. The first call has a past of no tokens, each
  next one passes `present` as `past_key_values`. Rows may be padded on either side, with any id:
  `attention_mask` [batch, past + new] is 0 there and 1 elsewhere, and `position_ids` count the
  tokens that stand before each in its row.
- `onnx/$forward`, for scoring and for servers: `input_ids` [batch, $n_ctx], `logits`
  [batch, $n_ctx, $n_vocab]. Rows are padded on the right with any id; the causal mask is inside.
- `onnx/$next_logits`: the same with `last` [batch], the place of each row's last token; `logits`
  [batch, $n_vocab] are those after it.

Ids, masks and positions are int64, logits float32. The graphs share `$weights`. A text starts as
it is, an empty one from the end-of-text token$eos.$padding

$formats
In Python, with onnxruntime and tokenizers:

```python
import numpy as np, onnxruntime, tokenizers
tokenizer = tokenizers.Tokenizer.from_file("tokenizer.json")
session = onnxruntime.InferenceSession("onnx/$with_past")
ids, new = tokenizer.encode("$prompt").ids, []
past = {i.name: np.zeros((1, $n_head, 0, $d), "$past") for i in session.get_inputs()[3:]}
for _ in range(min($n_new, $n_ctx - len(ids))):
    start = next(iter(past.values())).shape[2]
    feeds = {"input_ids": [ids], "attention_mask": [[1] * (start + len(ids))],
             "position_ids": [list(range(start, start + len(ids)))]}
    logits, *present = session.run(None, {**feeds, **past})
    ids, past = [int(logits[0, -1, :$n_tokens].argmax())], dict(zip(past, present))
    new += ids
print(tokenizer.decode(new))
```

In JavaScript, with transformers.js, run from this folder:

```js
import { basename, dirname } from "node:path";
import { env, pipeline } from "@huggingface/transformers";
env.localModelPath = dirname(process.cwd());
env.allowRemoteModels = false;
const complete = await pipeline("text-generation", basename(process.cwd()), { dtype: "$called" });
const [row] = await complete("$prompt", { max_new_tokens: $n_new, do_sample: false });
console.log(row.generated_text);
```

In C++, with onnxruntime, from the ids of a prompt to the ids that follow:

```cpp
// g++ -std=c++17 complete.cpp -lonnxruntime
#include <onnxruntime_cxx_api.h>
#include <algorithm>
#include <iostream>
#include <vector>
int main() {
  Ort::Env env;
  Ort::Session session(env, "onnx/$next_logits", Ort::SessionOptions());
  auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  std::vector<int64_t> ids{$ids}, shape{1, $n_ctx}, one{1};  // $prompt
  int64_t last = ids.size() - 1, end = std::min<int64_t>(last + $n_new, $n_ctx - 1);
  ids.resize($n_ctx);
  const char *inputs[] = {"input_ids", "last"}, *outputs[] = {"logits"};
  while (last < end) {
    Ort::Value feeds[] = {
        Ort::Value::CreateTensor(memory, ids.data(), ids.size(), shape.data(), shape.size()),
        Ort::Value::CreateTensor(memory, &last, 1, one.data(), one.size())};
    auto found = session.Run(Ort::RunOptions(), inputs, feeds, 2, outputs, 1);
    const float* logits = found[0].GetTensorData<float>();
    ids[++last] = std::max_element(logits, logits + $n_tokens) - logits;
    std::cout << ids[last] << " ";
  }
}
```
""")


def readme(model: Model, dtypes: Sequence[str]) -> str:
    """In Markdown, for a folder with this model's graphs in these formats."""
    hparams, tokenizer = model.hparams, model.tokenizer
    first, n_tokens = VARIANTS[dtypes[0]], tokenizer.max_id + 1
    ids = tokenizer.encode(PROMPT)[: max(hparams["n_ctx"] - N_NEW, 1)]
    return TEXT.substitute(
        **hparams,
        **{name: first.file(name) for name in GRAPHS},
        name=printable(" ".join(model.name.split())),
        d=hparams["n_embd"] // hparams["n_head"],
        n_tokens=n_tokens,
        padding=PADDING.substitute(n_tokens=n_tokens) if n_tokens < hparams["n_vocab"] else "",
        eos="" if tokenizer.eos_id is None else f", {tokenizer.eos_id}",
        past=np.dtype(first.past).name,
        weights=first.weights_file,
        called=first.called,
        formats=_formats(dtypes),
        prompt=PROMPT,
        ids=", ".join(map(str, ids)),
        n_new=N_NEW,
    )


def _formats(dtypes: Sequence[str]) -> str:
    """What each format is, and where it lies."""
    lines = [
        f"- {dtype}, `onnx/{VARIANTS[dtype].file('with_past')}` and so on: {FORMATS[dtype]}"
        for dtype in dtypes
    ]
    return "\n".join(["Number formats:", "", *lines, ""])
