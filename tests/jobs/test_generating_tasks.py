"""Tasks that generate: greedy answers, and completions beside blessed ones."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.generator import EngineGenerator, ReferenceGenerator
from jobs.language_model import LanguageModel
from jobs.task_spec import TaskSpec
from jobs.tasks import KINDS
from runner import RunSettings, run
from runner.errors import InputError, SettingsError
from runner.score import ReferenceScorer

JOBS = Path(__file__).parents[2] / "jobs"


@pytest.fixture(scope="module")
def model(demo):
    return LanguageModel(demo, ReferenceScorer(demo), EngineGenerator(demo, threads=1))


def do(model, kind, folder, **keys):
    spec = TaskSpec("mine", kind, where="job.toml: tasks.mine", folder=folder, **keys)
    return KINDS[kind].run(KINDS[kind].checked(spec), model)


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def figures(result):
    return {metric.name: metric.value for metric in result.metrics}


# Greedy answers.


def test_answers_are_exact_but_for_the_space_around_them(model, tmp_path):
    rows = [
        {"prompt": "The capital of France is", "answer": "Paris."},
        {"prompt": "The capital of France is", "answer": ["Lyon.", " Paris. "], "id": "b"},
        {"prompt": "The capital of France is", "answer": "paris."},
        {"prompt": "The capital of France is", "answer": "Paris"},
    ]
    write(tmp_path / "in.jsonl", rows)
    result = do(model, "greedy", tmp_path, data=("in.jsonl",))
    assert [row.correct for row in result.rows] == [True, True, False, False]
    assert [row.answer for row in result.rows] == [" Paris."] * 4
    assert result.rows[1].expected == "Lyon. |  Paris. "
    assert result.rows[1].id == "b"
    assert len({row.id for row in result.rows}) == 4
    (metric,) = result.metrics
    assert (metric.name, metric.value, metric.n) == ("exact_match", 0.5, 4)
    assert metric.stderr == pytest.approx((0.25 / 3) ** 0.5)  # the sample's deviation over 2
    for options, right in (
        ({"ignore_case": True}, [True, True, True, False]),
        ({"stop": ["."]}, [False, False, False, True]),
        ({"strip": False}, [False] * 4),
    ):
        found = do(model, "greedy", tmp_path, data=("in.jsonl",), options=options)
        assert [row.correct for row in found.rows] == right, options
    few = do(model, "greedy", tmp_path, data=("in.jsonl",), options={"max_new_tokens": 1})
    assert few.rows[0].answer == " Par"


def test_groups_are_counted_apart(model, tmp_path):
    rows = [
        {"q": "The opposite of hot is", "a": "cold.", "kind": "opposites"},
        {"q": "The opposite of hot is", "a": "old.", "kind": "opposites"},
        {"q": "The plural of mouse is", "a": "mice.", "kind": 7},
    ]
    write(tmp_path / "in.jsonl", rows)
    columns = {"prompt": "q", "answer": "a", "group": "kind"}
    result = do(model, "greedy", tmp_path, data=("in.jsonl",), columns=columns)
    assert figures(result) == {
        "exact_match": pytest.approx(2 / 3),
        "exact_match/7": 1.0,
        "exact_match/opposites": 0.5,
    }
    assert [metric.n for metric in result.metrics] == [3, 1, 2]
    assert result.rows[0].values == {"exact_match": 1.0, "exact_match/opposites": 1.0}
    assert result.metrics[1].of == "exact_match/7"


def test_rows_that_are_none_are_told(model, tmp_path):
    rows = [
        {"prompt": "The opposite of hot is", "answer": []},
        {"prompt": "The opposite of hot is", "answer": 3},
        {"prompt": "The opposite of hot is"},
        {"prompt": "hot " * 400, "answer": "cold."},
        {"prompt": "The opposite of hot is", "answer": "cold."},
    ]
    write(tmp_path / "in.jsonl", rows)
    result = do(model, "greedy", tmp_path, data=("in.jsonl",))
    assert figures(result) == {"exact_match": 1.0}
    told = {bad.where.rpartition(":")[2]: bad.reason for bad in result.bad_rows}
    assert sorted(told) == ["1", "2", "3", "4"]
    assert "an empty list" in told["1"]
    assert "is 3; expected a string" in told["2"]
    assert "no 'answer'" in told["3"]
    assert "expected at most 255" in told["4"]
    assert "--" not in told["4"]  # options of another command


def test_the_sample_is_half_known(model):
    data, columns = ("samples/facts.jsonl",), {"group": "kind"}
    result = do(model, "greedy", JOBS, data=data, columns=columns)
    found = figures(result)
    assert 0.6 < found["exact_match"] < 0.9
    assert len(found) > 30
    assert any(" | " in row.expected and row.correct for row in result.rows)
    assert model.generator.check.agrees
    assert model.generator.check.rows >= 8


# Completions beside blessed ones.


@pytest.fixture(scope="module")
def blessed(tmp_path_factory):
    """Completions that the batch job itself has made."""
    folder = tmp_path_factory.mktemp("blessed")
    for name in ("out.parquet", "out.jsonl"):
        settings = {"max_new_tokens": 10, "stop": (".",), "column_prefix": "gpt2_"}
        run(RunSettings(str(JOBS / "prompts.jsonl"), str(folder / name), threads=1, **settings))
    return folder


@pytest.mark.parametrize("name", ["out.parquet", "out.jsonl"])
def test_the_same_model_writes_the_same(model, blessed, name):
    result = do(model, "completions", blessed, data=(name,))
    assert figures(result) == {"same": 1.0, "common_tokens": 1.0}
    assert result.details["changed"] == result.details["differs"] == []
    assert result.details["made_with"]["name"] == "demo"
    assert len(result.rows) == 24
    assert result.rows[0].id == "0"
    assert result.rows[0].answer == " Paris"  # the stop text is known from the file


def changed(blessed, tmp_path, change):
    """The blessed file with its rows changed, its provenance kept."""
    table = pq.read_table(blessed / "out.parquet")
    rows = table.to_pylist()
    change(rows)
    footer = pq.read_metadata(blessed / "out.parquet").metadata
    kept = table.schema.with_metadata({b"picobatch": footer[b"picobatch"]})
    pq.write_table(pa.Table.from_pylist(rows, kept), tmp_path / "old.parquet")
    return ("old.parquet",)


def test_each_change_is_told_with_its_place(model, demo, blessed, tmp_path):
    encode = demo.tokenizer.encode

    def change(rows):
        rows[3] |= {"gpt2_completion": " clever", "gpt2_completion_ids": encode(" clever.")}
        rows[5] |= {"gpt2_completion_ids": rows[5]["gpt2_completion_ids"][:1]}
        rows[7] |= {"gpt2_completion": None, "gpt2_error": "was bad"}

    result = do(model, "completions", tmp_path, data=changed(blessed, tmp_path, change))
    assert len(result.rows) == 23
    assert result.details["error_rows"] == 1
    wrong = [row for row in result.rows if not row.correct]
    assert [row.id for row in wrong] == ["3", "5"]
    assert wrong[0].expected == " clever"
    told = result.details["changed"]
    assert [(row["id"], row["token"]) for row in told] == [("3", 0), ("5", 1)]
    assert told[0]["before"] == " clever."
    assert told[0]["now"] == f"{wrong[0].answer}."
    assert told[1]["before"] == ""
    assert figures(result)["same"] == pytest.approx(21 / 23)
    tokens = sum(row.values["tokens"] for row in result.rows)
    lost = len(encode(" clever."))
    assert figures(result)["common_tokens"] == pytest.approx((tokens - lost) / tokens)


def test_rows_keep_their_own_limits_and_prompts_of_tokens(model, demo, tmp_path):
    rows = [
        {"prompt": "The capital of France is", "max_new_tokens": 1},
        {"prompt": demo.tokenizer.encode("The capital of France is"), "max_new_tokens": 2},
        {"prompt": "The opposite of hot is", "max_new_tokens": 0},
        {"prompt": "The opposite of hot is", "max_new_tokens": None},
        {"prompt": 5, "max_new_tokens": None},
    ]
    write(tmp_path / "in.jsonl", rows)
    out = tmp_path / "out.jsonl"
    run(RunSettings(str(tmp_path / "in.jsonl"), str(out), ignore_eos=True, max_new_tokens=9))
    result = do(model, "completions", tmp_path, data=("out.jsonl",))
    assert figures(result) == {"same": 1.0, "common_tokens": 1.0}
    assert [row.values["tokens"] for row in result.rows] == [1, 2, 0, 9]
    assert result.rows[1].prompt == "The capital of France is"
    assert result.details["error_rows"] == 1


def test_another_setting_than_the_files_is_refused(model, blessed):
    with pytest.raises(SettingsError, match=r'"max_new_tokens" is 20, but .*out.parquet was made '):
        do(model, "completions", blessed, data=("out.parquet",), options={"max_new_tokens": 20})
    with pytest.raises(SettingsError, match=r'"ignore_eos" is true, but .* made with false'):
        do(model, "completions", blessed, data=("out.parquet",), options={"ignore_eos": True})
    options = {"max_new_tokens": 10, "stop": ["."], "truncate": False}
    assert do(model, "completions", blessed, data=("out.parquet",), options=options).rows


def test_a_file_without_provenance_needs_its_settings(model, tmp_path):
    row = {"prompt": "The capital of France is", "completion": " Paris."}
    write(tmp_path / "old.jsonl", [row])
    with pytest.raises(InputError, match=r"no provenance.*job.toml: tasks.mine how it was made"):
        do(model, "completions", tmp_path, data=("old.jsonl",))
    options = {"max_new_tokens": 12}
    result = do(model, "completions", tmp_path, data=("old.jsonl",), options=options)
    assert figures(result) == {"same": 1.0, "common_tokens": 1.0}
    assert result.details["made_with"] is None


def test_another_model_is_told(demo, blessed):
    from dataclasses import replace

    other = replace(demo, checkpoint=replace(demo.checkpoint, sha256="0" * 64))
    model = LanguageModel(other, ReferenceScorer(other), ReferenceGenerator(other))
    result = do(model, "completions", blessed, data=("out.parquet",), limit=2)
    assert result.details["differs"] == ["weights_sha256"]
    assert len(result.rows) == 2


def test_files_of_two_jobs_are_two_tasks(model, blessed, tmp_path):
    run(RunSettings(str(JOBS / "prompts.jsonl"), str(tmp_path / "b.jsonl"), max_new_tokens=3))
    data = (str(blessed / "out.jsonl"), "b.jsonl")
    with pytest.raises(InputError, match=r"b.jsonl: was made by another model or with other"):
        do(model, "completions", tmp_path, data=data)
