"""Programs of others load an exported folder as it is, and say what the oracle says.

`make clients` installs them, in an environment of their own.
"""

import json
import random
import subprocess
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from exporter import export
from reference import greedy

pytestmark = pytest.mark.clients

HERE = Path(__file__).parent
FACTS = HERE.parents[1] / "jobs" / "facts.jsonl"
N_PROMPTS, N_NEW = 56, 20


@pytest.fixture(scope="module")
def folder(demo, tmp_path_factory):
    return export(demo, tmp_path_factory.mktemp("clients") / "demo").directory


@pytest.fixture(scope="module")
def expected(demo):
    """Prompts of 4 to 138 tokens, and what follows them greedily, past end-of-text too."""
    facts = [json.loads(line)["prompt"] for line in FACTS.read_text().splitlines()]
    texts = random.Random(3).sample(facts, N_PROMPTS)
    prompts = [demo.tokenizer.encode(text) for text in texts]
    new = [list(islice(greedy(ids, demo.params, demo.hparams["n_head"]), N_NEW)) for ids in prompts]
    assert max(map(len, prompts)) > 100
    return list(zip(texts, prompts, new, strict=True))


def up_to_end(ids, eos_id):
    return ids[: ids.index(eos_id) + 1] if eos_id in ids else ids


def test_transformers_reads_the_same_tokens(folder, expected):
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for text, ids, _ in expected:
        assert tokenizer(text)["input_ids"] == ids
    assert tokenizer.eos_token == tokenizer.pad_token == "<|endoftext|>"
    assert tokenizer.model_max_length == 256


def test_optimum_generates_the_same_in_batches_padded_on_the_left(folder, expected):
    onnxruntime = pytest.importorskip("optimum.onnxruntime")
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = onnxruntime.ORTModelForCausalLM.from_pretrained(folder, use_io_binding=False)
    for start in range(0, N_PROMPTS, 8):
        rows = expected[start : start + 8]
        inputs = tokenizer([text for text, *_ in rows], return_tensors="pt", padding=True)
        found = model.generate(
            **inputs, max_new_tokens=N_NEW, do_sample=False, eos_token_id=None
        ).numpy()
        for row, (*_, new) in zip(found, rows, strict=True):
            assert row[inputs["input_ids"].shape[1] :].tolist() == new


def test_onnxruntime_genai_generates_the_same(folder, expected, demo):
    genai = pytest.importorskip("onnxruntime_genai")
    model = genai.Model(str(folder))
    tokenizer = genai.Tokenizer(model)
    for text, ids, new in expected:
        assert tokenizer.encode(text).tolist() == ids
        params = genai.GeneratorParams(model)
        params.set_search_options(max_length=len(ids) + N_NEW, do_sample=False)
        generator = genai.Generator(model, params)
        generator.append_tokens(np.array(ids, np.int32))
        found = []
        while not generator.is_done():
            generator.generate_next_token()
            found.append(int(generator.get_next_tokens()[0]))
        assert found == up_to_end(new, demo.tokenizer.eos_id)


def greedily(run, ids, hparams):
    """What a graph with past says, `run` by its inputs: an id at a time."""
    shape = (1, hparams["n_head"], 0, hparams["n_embd"] // hparams["n_head"])
    names = [f"{n}.{x}" for n in range(hparams["n_layer"]) for x in ("key", "value")]
    past = {f"past_key_values.{name}": np.zeros(shape, np.float32) for name in names}
    n_past, found = 0, []
    for _ in range(N_NEW):
        n = n_past + len(ids)
        logits, *present = run(
            {
                "input_ids": np.array([ids]),
                "attention_mask": np.ones((1, n), np.int64),
                "position_ids": np.arange(n_past, n)[None],
                **past,
            }
        )
        ids, n_past = [int(logits[0, -1].argmax())], n
        past = dict(zip(past, present, strict=True))
        found += ids
    return found


def test_openvino_runs_the_graph_with_past(folder, expected, demo):
    openvino = pytest.importorskip("openvino")
    hint = {"INFERENCE_PRECISION_HINT": "f32"}
    model = openvino.Core().compile_model(folder / "onnx" / "model.onnx", "CPU", hint)
    for _, ids, new in expected:
        assert greedily(lambda feeds: list(model(feeds).values()), ids, demo.hparams) == new


def test_tract_runs_every_graph(folder, expected, demo):
    tract = pytest.importorskip("tract")

    def runnable(graph):
        return tract.onnx().load(str(folder / "onnx" / graph)).into_model().into_runnable()

    with_past, forward = runnable("model.onnx"), runnable("forward.onnx")
    next_logits = runnable("next_logits.onnx")
    for _, ids, new in expected:

        def run(feeds):
            return [output.to_numpy() for output in with_past.run(list(feeds.values()))]

        assert greedily(run, ids, demo.hparams) == new
        n = len(ids)
        whole = np.zeros((1, 256), np.int64)
        whole[0, : n + N_NEW] = ids + new
        logits = forward.run([whole])[0].to_numpy()[0]
        assert logits[n - 1 : n + N_NEW - 1].argmax(axis=-1).tolist() == new
        last = np.array([n + N_NEW - 2])
        assert next_logits.run([whole, last])[0].to_numpy()[0].argmax() == new[-1]


def in_node(script, folder, rows):
    if not (HERE / "node_modules").is_dir():
        pytest.skip("tests/clients/node_modules is not there: run `make clients` where npm is")
    done = subprocess.run(
        ["node", HERE / script, folder],
        input=json.dumps(rows),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_transformers_js_generates_the_same(folder, expected, demo):
    rows = [{"text": text, "n_new": N_NEW} for text, *_ in expected]
    found = in_node("transformers_js.mjs", folder, rows)
    for row, (_, ids, new) in zip(found, expected, strict=True):
        assert row == {"ids": ids, "new": up_to_end(new, demo.tokenizer.eos_id)}


def test_onnxruntime_web_runs_the_graph_with_past(folder, expected):
    rows = [{"ids": ids, "n_new": N_NEW} for _, ids, _ in expected]
    found = in_node("onnxruntime_web.mjs", folder, rows)
    assert [row["new"] for row in found] == [new for *_, new in expected]
