"""Programs of others load an exported folder as it is, and say what the oracle says.

`make clients` installs them, in an environment of their own.
"""

import json
import os
import random
import re
import shutil
import subprocess
from itertools import islice
from pathlib import Path

import pytest

from exporter import export
from exporter.tracer import OPSETS
from reference import greedy
from runner.check import check_directory, summary
from runner.parity import parity_record
from runner.runtimes import RUNTIMES, RuntimeMissingError

pytestmark = pytest.mark.clients

HERE = Path(__file__).parent
FACTS = HERE.parents[1] / "jobs" / "facts.jsonl"
N_PROMPTS, N_NEW, BATCH = 56, 20, 8
DTYPES = ["float32", "float16", "int8"]


@pytest.fixture(scope="module")
def package(demo, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clients") / "demo"
    return export(demo, folder, dtypes=DTYPES, verify=parity_record)


@pytest.fixture(scope="module")
def expected(demo):
    """Prompts of 4 to 138 tokens, and what follows them greedily, past end-of-text too."""
    facts = [json.loads(line)["prompt"] for line in FACTS.read_text().splitlines()]
    texts = random.Random(3).sample(facts, N_PROMPTS)
    prompts = [demo.tokenizer.encode(text) for text in texts]
    new = [list(islice(greedy(ids, demo.params, demo.hparams["n_head"]), N_NEW)) for ids in prompts]
    assert max(map(len, prompts)) > 100
    return list(zip(texts, prompts, new, strict=True))


@pytest.fixture
def here(monkeypatch):
    """Where npm has put its packages."""
    monkeypatch.chdir(HERE)


@pytest.fixture
def runtime(request, here):
    try:
        RUNTIMES[request.param].version()
    except RuntimeMissingError as e:
        pytest.skip(f"{request.param}: {e}")
    return RUNTIMES[request.param]


def up_to_end(ids, eos_id):
    return ids[: ids.index(eos_id) + 1] if eos_id in ids else ids


@pytest.mark.parametrize("runtime", [n for n, r in RUNTIMES.items() if not r.slow], indirect=True)
def test_every_format_and_graph(runtime, package):
    rows = check_directory(package.directory, 2, runtimes=[runtime.name], n_prompts=BATCH)
    assert all(row.agrees for row in rows), summary(rows)
    assert len(rows) == 3 * (1 if runtime.generator else 3)


# Whose onnxruntime is one release behind: 1.30.
TAKES_OPSET = {"onnxruntime-web": 26, "transformers.js": 26}


@pytest.mark.parametrize("runtime", RUNTIMES, indirect=True)
def test_the_newest_opset_and_its_attention(runtime, demo, tmp_path):
    opset = TAKES_OPSET.get(runtime.name, OPSETS[-1])
    formats = {"dtypes": DTYPES, "verify": parity_record}
    export(demo, tmp_path / "demo", opset=opset, n_ctx=64, **formats)
    rows = check_directory(tmp_path / "demo", 2, runtimes=[runtime.name], n_prompts=BATCH)
    assert all(row.agrees for row in rows), summary(rows)


GENERATORS = [name for name, runtime in RUNTIMES.items() if runtime.generator]


@pytest.mark.parametrize("runtime", GENERATORS, indirect=True)
def test_what_generates_by_itself_completes_texts_in_padded_batches(
    runtime, package, expected, demo
):
    generate = runtime.generator(package, "float32", 2)
    for start in range(0, N_PROMPTS, BATCH):
        rows = expected[start : start + BATCH]
        found = generate([ids for _, ids, _ in rows], N_NEW)
        for new, (*_, wanted) in zip(found, rows, strict=True):
            eos_id = demo.tokenizer.eos_id
            assert up_to_end(new, eos_id) == up_to_end(wanted, eos_id)


def test_transformers_reads_the_same_tokens(package, expected):
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(package.directory)
    for text, ids, _ in expected:
        assert tokenizer(text)["input_ids"] == ids
    assert tokenizer.eos_token == tokenizer.pad_token == "<|endoftext|>"
    assert tokenizer.model_max_length == 256
    odd = "He did n't go . It 's 3 , or 4 ?"
    assert tokenizer.decode(tokenizer(odd)["input_ids"]) == odd


def test_onnxruntime_genai_reads_the_same_tokens(package, expected):
    genai = pytest.importorskip("onnxruntime_genai")
    tokenizer = genai.Tokenizer(genai.Model(str(package.directory)))
    for text, ids, _ in expected:
        assert tokenizer.encode(text).tolist() == ids


def test_transformers_js_reads_the_same_tokens(package, expected, here):
    try:
        RUNTIMES["transformers.js"].version()
    except RuntimeMissingError as e:
        pytest.skip(str(e))
    done = subprocess.run(
        ["node", "tokenizer.mjs", package.directory],
        input=json.dumps([text for text, *_ in expected]),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout.splitlines()[-1]) == [ids for _, ids, _ in expected]


def block(package, language):
    """An example from the folder's README."""
    text = (package.directory / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    return code


def test_the_readme_runs_in_javascript_as_it_stands(package, here, tmp_path):
    try:
        RUNTIMES["transformers.js"].version()
    except RuntimeMissingError as e:
        pytest.skip(str(e))
    (tmp_path / "node_modules").symlink_to(HERE / "node_modules")
    (tmp_path / "complete.mjs").write_text(block(package, "js"))
    done = subprocess.run(
        ["node", tmp_path / "complete.mjs"],
        cwd=package.directory,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "The capital of France is Paris."


def test_the_readme_runs_in_cpp_as_it_stands(package, tmp_path, demo):
    """Where ONNXRUNTIME_HOME has `include/` and `lib/`."""
    home = os.environ.get("ONNXRUNTIME_HOME")
    if home is None or shutil.which("g++") is None:
        pytest.skip("ONNXRUNTIME_HOME is not set, or no g++")
    (tmp_path / "complete.cpp").write_text(block(package, "cpp"))
    flags = [f"-I{home}/include", f"-L{home}/lib", f"-Wl,-rpath,{home}/lib"]
    subprocess.run(
        ["g++", "-std=c++17", "-Wall", *flags, "complete.cpp", "-o", "complete", "-lonnxruntime"],
        cwd=tmp_path,
        check=True,
    )
    done = subprocess.run(
        [tmp_path / "complete"],
        cwd=package.directory,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    ids = demo.tokenizer.encode("The capital of France is")
    assert [int(n) for n in done.stdout.split()] == list(islice(greedy(ids, demo.params, 4), 8))
