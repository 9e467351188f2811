"""Who may import whom: reference <- exporter <- runner <- jobs, and one home for each library."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAY_IMPORT = {
    "reference": {"reference"},
    "exporter": {"reference", "exporter"},
    "runner": {"reference", "exporter", "runner"},
    "jobs": {"reference", "exporter", "runner", "jobs"},
}
OURS = {"reference", "exporter", "runner", "jobs", "training", "tests", "benchmarks"}
HOMES = {
    "onnx": (
        "exporter/",
        "runner/provenance.py",  # which names its version
        "runner/runtimes/",  # one of which is its evaluator
    ),
    "onnxruntime": ("runner/engine.py",),
    "ray": ("runner/cluster/",),
    "pyarrow": ("runner/", "jobs/"),
    "click": ("runner/cli.py", "runner/options.py", "jobs/cli.py"),
    "jinja2": ("jobs/report/",),
    "matplotlib": ("jobs/report/",),
    "lm_eval": ("jobs/harness.py",),
    "regex": ("reference/tokenizer.py", "reference/added_tokens.py"),
    "psutil": ("runner/clock.py", "runner/batch_size.py"),
    "safetensors": ("reference/checkpoint/",),
    "tqdm": (
        "reference/generate.py",
        "reference/progress.py",
        "runner/progress.py",
        "jobs/progress.py",
        "jobs/harness.py",
    ),
    "requests": ("reference/download.py",),
    "urllib3": ("reference/download.py",),
    "filelock": ("reference/model_files.py", "runner/lock.py"),
    "platformdirs": ("reference/models.py", "reference/cache.py"),
}
FILES = [path for package in MAY_IMPORT for path in sorted((ROOT / package).rglob("*.py"))]


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way_and_libraries_stay_at_home(path):
    name = path.relative_to(ROOT).as_posix()
    for module in imports(path):
        if module in OURS:
            assert module in MAY_IMPORT[name.split("/")[0]], f"{name} imports {module}"
        if module in HOMES:
            assert name.startswith(HOMES[module]), f"{name} imports {module}"


def test_the_law_sees_files_and_breaches():
    assert len(FILES) > 20
    assert "onnxruntime" in set(imports(ROOT / "runner" / "engine.py"))
