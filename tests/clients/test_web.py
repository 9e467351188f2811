"""The page of examples/web, in Chromium, says what the oracle says.

With PICOBATCH_SCREENSHOT=docs/web.png in the environment the picture of it is taken again.
"""

import json
import os
import random
import shutil
import subprocess
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler
from itertools import islice
from pathlib import Path
from threading import Thread

import pytest

from exporter import export
from reference import greedy
from runner.parity import parity_record
from tests.servers import QuietServer

pytestmark = pytest.mark.clients

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PAGE = ROOT / "examples" / "web"
FACTS = ROOT / "jobs" / "facts.jsonl"
NODE_MODULES = HERE / "node_modules"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FRANCE = "The capital of France is"
N_PROMPTS, N_NEW = 8, 20


class Handler(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextmanager
def served(folder):
    server = QuietServer(("127.0.0.1", 0), partial(Handler, directory=folder))
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def opened(site, rows=(), screenshot=None):
    """What the page in this folder shows, in the words of web.mjs."""
    with served(site) as url:
        done = subprocess.run(
            ["node", HERE / "web.mjs", CHROMIUM, url],
            input=json.dumps({"rows": rows, "screenshot": screenshot}),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=100,
        )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def model(demo, tmp_path_factory):
    return export(demo, tmp_path_factory.mktemp("web") / "model").directory


@pytest.fixture
def site(model, tmp_path):
    """The page as its README has it set up."""
    if not (NODE_MODULES / "playwright-core").is_dir():
        pytest.skip("playwright-core is not there: run `make clients` where npm is")
    if CHROMIUM is None:
        pytest.skip("no `chromium` in PATH: install it")
    for name in ("index.html", "page.js"):
        shutil.copy(PAGE / name, tmp_path)
    (tmp_path / "model").symlink_to(model)
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "@huggingface").symlink_to(NODE_MODULES / "@huggingface")
    # transformers.js has a version of its own where another one lies beside it.
    own = NODE_MODULES / "@huggingface" / "transformers" / "node_modules" / "onnxruntime-web"
    runtime = own if own.is_dir() else NODE_MODULES / "onnxruntime-web"
    (tmp_path / "node_modules" / "onnxruntime-web").symlink_to(runtime)
    return tmp_path


def test_it_completes_as_the_reference(site, demo):
    facts = [json.loads(line)["prompt"] for line in FACTS.read_text().splitlines()]
    texts = [*random.Random(3).sample(facts, N_PROMPTS), FRANCE]
    rows = [{"text": text, "limit": N_NEW} for text in texts]
    found = opened(site, rows, os.environ.get("PICOBATCH_SCREENSHOT"))
    assert found["error"] is None
    assert found["elsewhere"] == []
    decode, eos_id = demo.tokenizer.decode, demo.tokenizer.eos_id
    for row, text in zip(found["rows"], texts, strict=True):
        ids = demo.tokenizer.encode(text)
        new = list(islice(greedy(ids, demo.params, demo.hparams["n_head"]), N_NEW))
        new = new[: new.index(eos_id)]
        grown = [shown for shown in row.pop("grown") if shown]
        assert len(new) > 1
        assert len(set(grown)) > 1
        assert grown == [decode(new)[: len(shown)] for shown in sorted(grown, key=len)]
        assert row == {
            "completion": decode(new),
            "tokens": str(len(new)),
            "ended": "end-of-text",
            "error": None,
        }
    assert row["completion"] == " Paris."


def test_it_takes_the_format_that_the_folder_has(site, demo):
    (site / "model").unlink()
    export(demo, site / "model", dtypes=["int8"], verify=parity_record)
    (row,) = opened(site, [{"text": FRANCE, "limit": N_NEW}])["rows"]
    assert (row["completion"], row["error"]) == (" Paris.", None)
    (site / "model" / "onnx" / "model_quantized.onnx_data").unlink()
    assert opened(site)["error"].startswith("model/onnx/model_quantized.onnx_data: 404 ")


def test_it_ends_at_the_limit_and_at_the_end_of_the_context(site, demo):
    n_ctx = demo.hparams["n_ctx"]
    text = "7" * (n_ctx - 2)
    assert len(demo.tokenizer.encode(text)) == n_ctx - 2
    rows = [{"text": FRANCE, "limit": 1}, {"text": text, "limit": N_NEW}]
    limited, full = opened(site, rows)["rows"]
    assert (limited["tokens"], limited["ended"]) == ("1", "the limit")
    assert (full["tokens"], full["ended"]) == ("2", "the end of the context")


def test_a_prompt_that_is_too_long_is_refused_in_words(site, demo):
    text = "The capital " * 200
    n = len(demo.tokenizer.encode(text))
    rows = [{"text": text, "limit": N_NEW}, {"text": FRANCE, "limit": N_NEW}]
    refused, fine = opened(site, rows)["rows"]
    assert refused["error"] == (
        f"Prompt: {n} tokens; expected at most 255, so that one can follow within the model's "
        "context of 256. Shorten the prompt."
    )
    assert refused["completion"] == ""
    assert (fine["completion"], fine["error"]) == (" Paris.", None)


@pytest.mark.parametrize("name", ["config.json", "onnx/model.onnx_data"])
def test_a_missing_model_is_said_in_words(site, model, name):
    (site / "model").unlink()
    if name != "config.json":
        shutil.copytree(model, site / "model")
        (site / "model" / name).unlink()
    assert opened(site)["error"] == (
        f"model/{name}: 404 File not found; expected an exported model. Run runner export demo "
        "examples/web/model, then load this page again."
    )


def test_a_missing_library_is_said_in_words(site):
    (site / "node_modules" / "@huggingface").unlink()
    error = opened(site)["error"]
    assert error.startswith("transformers.js: ")
    assert "Run npm install --ignore-scripts in examples/web" in error


def test_the_page_names_the_version_that_is_tried_here():
    wanted = json.loads((PAGE / "package.json").read_text())["dependencies"]
    tried = json.loads((HERE / "package.json").read_text())["dependencies"]
    assert wanted.items() <= tried.items()
