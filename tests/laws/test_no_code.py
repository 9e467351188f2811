"""No file of others can become code: nothing is unpickled, evaluated or unpacked."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("reference", "exporter", "runner", "jobs", "training", "benchmarks", "examples")
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]

# zipfile and tarfile: archives name the files that they write.
MODULES = {
    *("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"),
    *("dbm", "code", "codeop", "runpy", "imp", "zipfile", "tarfile", "yaml", "xmlrpc", "copyreg"),
}
CALLS = {"eval", "exec", "compile", "__import__"}
METHODS = {
    *("torch.load", "np.fromregex", "pd.read_pickle", "yaml.load", "yaml.unsafe_load"),
    *("pa.deserialize", "pyarrow.deserialize", "os.system", "os.popen", "shutil.unpack_archive"),
    *("np.lib.format.read_array", "pickle.loads", "onnx.hub.load", "ctypes.CDLL"),
}
SAFE_VALUES = {
    **dict.fromkeys(("allow_pickle", "trust_remote_code", "shell"), "False"),
    "weights_only": "True",
}
NUMPY_LOADS = {"np.load", "numpy.load", "np.lib.npyio.NpzFile"}


def breaches(tree):
    """What in a module could run what it reads."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.split(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from [node.module] if node.module.split(".")[0] in MODULES else []
        elif isinstance(node, ast.Call):
            yield from _called(node)


def _called(node):
    called = ast.unparse(node.func)
    if called in CALLS | METHODS:
        yield called
    if called in NUMPY_LOADS and "allow_pickle" not in [k.arg for k in node.keywords]:
        yield f"{called} without allow_pickle=False"
    for keyword in node.keywords:
        value = ast.unparse(keyword.value)
        if value != SAFE_VALUES.get(keyword.arg, value):
            yield f"{keyword.arg}={value}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_that_is_read_is_run(path):
    assert not list(breaches(ast.parse(path.read_text(encoding="utf-8"))))


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import loads",
        "import os.path, marshal",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=x)",
        "torch.load(path, weights_only=True)",
        "eval('1')",
        "exec(text)",
        "yaml.load(text)",
        "f(weights_only=False)",
        "AutoModel.from_pretrained(x, trust_remote_code=True)",
        "subprocess.run(x, shell=True)",
    ],
)
def test_the_law_sees_a_breach(code):
    assert list(breaches(ast.parse(code)))


def test_the_law_lets_pass_what_is_harmless():
    harmless = "np.load(path, allow_pickle=False)\nmodel.eval()\nre.compile('x')\nimport json"
    assert not list(breaches(ast.parse(harmless)))
    assert len(FILES) > 80
