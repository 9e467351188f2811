"""Every block of the documents runs, and prints what they say it prints.

`pycon` blocks are doctests, one session per document. In `console` blocks each line after `$ `
is a shell command, with its output below; all of a document's commands share one folder, in which
a `text` block that begins with `# FILE` is that file. What is
measured (times, differences of logits, versions) may differ from the page; `...` stands for more.
"""

import doctest
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.cli import cli

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    "docs/evaluation.md",
    "docs/models.md",
    "docs/tutorial.md",
]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL
# What cannot be run from within itself; tests/docs/test_wheel.py installs the project.
NOT_RUN = ["make test", "make lint", "pip install .", "git clone"]


MEASURED = {
    r"\d{4}-\d\d-\d\dT[\d:+]+": "<time>",
    r"\d+(?:\.\d+)+(?:e[+-]?\d+)?|\b\d+e-\d+\b": "<measured>",
    r"[\d,]+ tokens/s": "<measured> tokens/s",
    r"[\d,]+ MiB": "<measured> MiB",
    r"threads \d+|\d+ threads": "<measured> threads",
    r"machine .*": "machine <measured>",
}


def masked(text):
    for pattern, name in MEASURED.items():
        text = re.sub(pattern, name, text)
    return text


def blocks(document, language):
    text = (ROOT / document).read_text(encoding="utf-8")
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE)
    return [re.sub(rf"^{indent}", "", body, flags=re.MULTILINE) for indent, body in found]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_python_blocks(document, monkeypatch, tmp_path):
    from exporter import primitives

    monkeypatch.setattr(primitives, "PRIMITIVES", primitives.PRIMITIVES)
    before = dict(primitives.PRIMITIVES)
    monkeypatch.chdir(tmp_path)
    source = "\n".join(blocks(document, "pycon"))
    try:
        test = doctest.DocTestParser().get_doctest(source, {}, document, document, 0)
        runner = doctest.DocTestRunner(optionflags=FLAGS)
        said = []
        runner.run(test, out=said.append)
        assert not runner.failures, "".join(said)
    finally:
        primitives.PRIMITIVES.clear()
        primitives.PRIMITIVES.update(before)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_console_blocks(document, tmp_path):
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in ("jobs", "Makefile", "pyproject.toml"):
        (folder / name).symlink_to(ROOT / name)
    # `make` finds an environment that is ready: the one that runs this test.
    venv = folder / ".venv"
    venv.mkdir()
    (venv / "bin").symlink_to(Path(sys.executable).parent)
    shutil.copyfile(ROOT / "pyproject.toml", venv / ".installed")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    # `make test` runs this: the inner make must not take itself for a part of it.
    foreign = ("MAKE", "MFLAGS", "VENV", "PYTHON", "DEMO_OUTPUT")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
    for block in blocks(document, "text"):
        if named := re.match(r"# (\w+\.(?:py|toml))\n", block):
            (folder / named[1]).write_text(block)
    for block in blocks(document, "console"):
        for command, expected in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE):
            done = subprocess.run(
                command,
                shell=True,
                cwd=folder,
                env={**environment, "PATH": path},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            matches = doctest.OutputChecker().check_output(
                masked(expected), masked(done.stdout), FLAGS
            )
            assert matches, f"$ {command}\nexpected:\n{expected}\nprinted:\n{done.stdout}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_no_block_escapes(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    languages = re.findall(r"^ *```(\w+)$", text, re.MULTILINE)
    assert set(languages) <= {"console", "pycon", "sh", "text"}
    for block in blocks(document, "sh"):
        for line in block.splitlines():
            assert line.startswith(tuple(NOT_RUN)), f"{document}: {line!r} is run by no test"


def test_every_command_is_documented():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, command in cli.commands.items():
        assert f"`runner {name}" in text, f"README does not mention runner {name}"
        assert command.help


def test_every_document_is_tested():
    with_blocks = {
        str(path.relative_to(ROOT))
        for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
        if blocks(path.relative_to(ROOT), "(?:pycon|console)")
    }
    assert with_blocks <= set(DOCUMENTS)
