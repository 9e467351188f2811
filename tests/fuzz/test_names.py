"""Names and numbers of a command line that were taken badly once."""

import json
import sys

import pytest

from reference import PicobatchError
from runner import run
from runner.errors import OutputError, PlaceError, SettingsError
from runner.inputs import input_files
from runner.merge import merge
from runner.places import place_of
from tests.fuzz import seeds
from tests.fuzz.test_terminal import runner

COLON = "run:1.jsonl"  # which Arrow takes for an address


def rows_of(path):
    return [json.loads(line) for line in path.read_bytes().splitlines()]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.jsonl").write_bytes(seeds.PROMPTS)
    return tmp_path


@pytest.mark.parametrize("given", [COLON, f"./{COLON}", "run:*.jsonl", "*.jsonl", "file://{}"])
def test_a_file_with_a_colon_in_its_name(here, given):
    (here / "in.jsonl").rename(here / COLON)
    report = run(seeds.settings(given.format(here / COLON), "out:2.jsonl", max_new_tokens=1))
    assert report.rows == len(rows_of(here / "out:2.jsonl")) == 5
    assert sorted(path.name for path in here.iterdir()) == [
        *("out:2.jsonl", "out:2.jsonl.manifest.json", COLON)
    ]


def test_shards_with_a_colon_in_their_names(here):
    for n in range(2):
        run(seeds.settings("in.jsonl", "out:2.jsonl", shard=(n, 2)))
    assert merge("out:2.jsonl").rows == len(rows_of(here / "out:2.jsonl")) == 5


@pytest.mark.parametrize("name", ["a\0b.jsonl", "\udcff.jsonl", "file:///a%00b"])
def test_names_that_no_file_has(here, name):
    for use in (place_of, lambda text: input_files(text).__enter__()):
        with pytest.raises(PicobatchError, match=r"null byte|no Unicode"):
            use(name)
    assert [path.name for path in here.iterdir()] == ["in.jsonl"]


@pytest.mark.skipif(sys.platform != "linux", reason="names are text there")
@pytest.mark.parametrize("given", ["folder", "folder/*.jsonl"])
def test_a_folder_with_a_name_that_is_no_text(here, given):
    (here / "folder").mkdir()
    (here / "folder" / "\udcff.jsonl").write_bytes(seeds.PROMPTS)
    with pytest.raises(PicobatchError, match="no Unicode"):
        run(seeds.settings(given, "o.jsonl"))


@pytest.mark.parametrize("name", ["x" * 300 + ".jsonl", "a/" * 3000 + "b.jsonl"])
def test_names_that_are_too_long(here, name):
    with pytest.raises(OutputError, match="too long|not there|expected at most 241"):
        run(seeds.settings("in.jsonl", name))


def test_a_host_is_told_without_its_password():
    with pytest.raises(PlaceError) as error:
        place_of("file://me:pass@host/a.jsonl")
    assert "pass" not in str(error.value)


@pytest.mark.parametrize("option", ["limit", "part_rows", "batch_size", "check_rows", "seed"])
def test_numbers_beyond_all_rows(here, option):
    with pytest.raises(SettingsError, match=f"{option} is 9"):
        run(seeds.settings("in.jsonl", "o.jsonl", **{option: 99 * 2**63}))
    run(seeds.settings("in.jsonl", "o.jsonl", **{option: 2**63 - 1}))
    assert len(rows_of(here / "o.jsonl")) == 5


def test_more_memory_than_there_is(here):
    result = runner("batch", "in.jsonl", "o.jsonl", "--memory", "9" * 400)
    assert result.exit_code == 2
    assert [path.name for path in here.iterdir()] == ["in.jsonl"]


@pytest.mark.parametrize("name", ["in.jsonl", "./in.jsonl", "sub/../in.jsonl", "link"])
def test_metrics_never_replace_an_input(here, name):
    (here / "sub").mkdir()
    (here / "link").symlink_to("in.jsonl")
    with pytest.raises(PicobatchError, match="metrics|input"):
        run(seeds.settings("in.jsonl", "o.jsonl", metrics=name))
    assert (here / "in.jsonl").read_bytes() == seeds.PROMPTS


def test_rows_run_alone_of_a_model_with_a_short_context(here):
    """A slot takes more than n_ctx tokens where that is no multiple of what slots grow by."""
    report = run(seeds.settings("in.jsonl", "o.jsonl", check_invariance=5, memory=8 << 30))
    assert report.invariance.rows
    assert report.invariance.agrees
    assert rows_of(here / "o.jsonl")[0]["id"] == 1
