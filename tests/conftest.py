"""What all tests share: small models, the demo, the real vocabulary where it is there."""

import atexit
import os
import shutil
import signal
import tempfile
import threading

# One thread per test process, before NumPy is loaded: pytest runs one process per core.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Begun by a script with `&` it would ignore Ctrl-C, and so would all that tests start.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Nothing of the user's is read or written, and nothing is fetched from outside.
SCRATCH = tempfile.mkdtemp(prefix="picobatch-tests-")
atexit.register(shutil.rmtree, SCRATCH, ignore_errors=True)
os.environ["PICOBATCH_CACHE_DIR"] = f"{SCRATCH}/cache"
os.environ["PICOBATCH_MODELS_DIR"] = f"{SCRATCH}/models"
os.environ["PICOBATCH_BASE_URL"] = "http://127.0.0.1:9"

from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from reference import HParams, load_model, load_tokenizer, param_shapes
from reference.tree import tree_map

# CI runs the same examples each time; elsewhere new ones are tried.
settings.register_profile("default", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("default")

ROOT = Path(__file__).parent.parent


def make_params(hparams: HParams, seed: int = 0) -> dict:
    """Weights with some spread, so that logits differ and no part is idle."""
    rng = np.random.default_rng(seed)

    def leaf(path: str, shape: tuple[int, ...]):
        center = 1.0 if path.endswith(".g") else 0.0
        return (center + 0.3 * rng.standard_normal(shape)).astype(np.float32)

    return tree_map(leaf, param_shapes(hparams))


TINY = HParams(n_vocab=97, n_ctx=16, n_embd=24, n_head=3, n_layer=2)


@pytest.fixture(scope="session")
def tiny():
    """Sizes and weights of a model that costs nothing."""
    return TINY, make_params(TINY)


@pytest.fixture(scope="session")
def random_params():
    """Makes weights for any sizes."""
    return make_params


@pytest.fixture(scope="session")
def demo():
    return load_model("demo")


@pytest.fixture(scope="session")
def gpt2_tokenizer():
    """GPT-2's real tokenizer, from a folder that is not part of the project."""
    default = ROOT.parent / "shared" / "gpt2"
    folder = Path(os.environ.get("PICOBATCH_GPT2_VOCABULARY", default))
    if not (folder / "encoder.json").is_file():
        pytest.skip("GPT-2's vocabulary is not here: set PICOBATCH_GPT2_VOCABULARY to its folder")
    return load_tokenizer(folder / "encoder.json", folder / "vocab.bpe")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Tests of a cluster run one after another: each process would start a cluster of its own."""
    if config.getoption("dist") != "load":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class OneByOne(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return "cluster" if nodeid.startswith("tests/cluster/") else nodeid

    return OneByOne(config, log)
