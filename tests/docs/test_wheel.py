"""The wheel: what is in it, and that it works without the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*command, **options):
    return subprocess.run(
        [sys.executable, *command], check=True, capture_output=True, text=True, **options
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    run("-m", "hatchling", "build", "-t", "wheel", "-d", str(folder), cwd=ROOT)
    return next(folder.glob("picobatch-*.whl"))


def test_what_is_in_it(wheel):
    with zipfile.ZipFile(wheel) as file:
        names = {name for name in file.namelist() if ".dist-info/" not in name}
        (metadata,) = (n for n in file.namelist() if n.endswith(".dist-info/METADATA"))
        needs = [
            line.split()[1].split(">")[0]
            for line in file.read(metadata).decode().splitlines()
            if line.startswith("Requires-Dist: ") and "extra ==" not in line
        ]
    assert {name.split("/")[0] for name in names} == {"reference", "exporter", "runner", "jobs"}
    assert {"reference/demo/model.safetensors", "reference/demo/README.md"} <= names
    assert {
        "jobs/demo.toml",
        "jobs/samples/lambada.jsonl",
        "jobs/report/report.html.jinja",
    } <= names
    assert set(needs) == {
        "click",
        "filelock",
        "numpy",
        "onnx",
        "onnxruntime",
        "platformdirs",
        "psutil",
        "pyarrow",
        "regex",
        "requests",
        "safetensors",
        "tqdm",
        "urllib3",
    }
    assert wheel.stat().st_size < 8_000_000


def test_it_works_without_the_checkout(wheel, tmp_path):
    site = tmp_path / "site"
    run("-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel))
    (tmp_path / "in.jsonl").write_text('{"prompt": "The capital of France is"}\n')
    found = run(
        "-c",
        "import reference, runner.cli as c; print(reference.__file__, flush=True); c.cli()",
        "batch",
        "in.jsonl",
        "-",
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
    ).stdout.splitlines()
    assert found[0].startswith(str(site))
    assert '"completion": " Paris."' in found[1]
