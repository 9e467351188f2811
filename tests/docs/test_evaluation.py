"""docs/evaluation.md tells of every key, kind, metric and verdict that there is."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from jobs import finding
from jobs.cli import cli
from jobs.formats import FORMATS
from jobs.history import SCHEMA
from jobs.results import EvalResult
from jobs.spec import load_spec
from jobs.tasks import KINDS
from jobs.tasks.kind import COMMON_KEYS
from reference import PicobatchError
from runner.report import ExitCode

PAGE = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
CODE = re.compile(r"`([^`\n]+)`")


def section(title):
    """What stands under a heading, to the next of its rank."""
    marks = title.split(" ")[0]
    return re.split(rf"^#{{2,{len(marks)}}} ", PAGE.split(f"\n{title}\n")[1], flags=re.MULTILINE)[0]


def keys_known(tmp_path, table):
    """The keys that a message lists where one is none."""
    file = tmp_path / "job.toml"
    file.write_text(f'{table}\nnone = 1\n[tasks.a]\nkind = "parity"\n')
    with pytest.raises(PicobatchError) as caught:
        load_spec(file)
    return re.search(r"none is no key.*?; expected ([\w, ]+)\.", str(caught.value))[1].split(", ")


def first_column(text):
    return [
        set(CODE.findall(line.split("|")[1]))
        for line in text.splitlines()
        if line.startswith("| ") and not line.startswith("| key")
    ]


def test_every_key_of_a_job(tmp_path):
    of_job, _, of_tasks = section("## The job file").partition("And of each task:")
    told = first_column(of_job)
    plain = set().union(*(names for names in told if not any("[" in name for name in names)))
    tables = {"baseline", "gate", "tasks"}
    assert plain == set(keys_known(tmp_path, "")) - tables
    for table in ("baseline", "gate"):
        inside = set().union(*(names for names in told if f"[{table}]" in names)) - {f"[{table}]"}
        assert inside == set(keys_known(tmp_path, f"[{table}]"))
    assert {"[tasks.NAME]"} in told
    assert set().union(*first_column(of_tasks)) == set(COMMON_KEYS)


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_every_kind(kind):
    (title,) = re.findall(rf"^### `{kind.name}`.*$", PAGE, re.MULTILINE)
    told = set(CODE.findall(section(title)))
    names = {*kind.options, *kind.formats, *(kind.metrics or ()), *kind.ungated}
    names |= {*kind.columns, *kind.optional_columns}
    names |= {column for name in kind.formats if name != "text" for column in FORMATS[name].columns}
    assert names <= told, names - told


def test_no_kind_that_is_none():
    assert re.findall(r"^### `(\w+)`", PAGE, re.MULTILINE) == list(KINDS)


def test_every_verdict_and_exit_code():
    verdicts = set().union(*first_column(section("## The gate")))
    known = {finding.BETTER, finding.SAME, finding.WORSE, finding.NEW, *finding.FAILING}
    assert verdicts == known
    rows = section("## Exit codes").splitlines()
    assert [int(row.split("|")[1]) for row in rows if re.match(r"\| \d", row)] == list(ExitCode)


def test_what_a_run_leaves():
    told = set(CODE.findall(section("## What a run leaves")))
    kept = {field.name for field in fields(EvalResult)} - {"kinds"}
    assert kept <= told, kept - told
    assert set(SCHEMA.names) <= set(CODE.findall(section("## The history")))


def test_every_option_of_the_command():
    for parameter in cli.commands["eval"].params:
        for option in parameter.opts:
            if option.startswith("--"):
                assert f"`{option}" in PAGE, option
