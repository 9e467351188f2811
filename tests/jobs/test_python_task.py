"""A user's own task: what its function is given, may return, and may do wrong."""

import json
import os
import sys
import textwrap

import pytest

from jobs.language_model import LanguageModel
from jobs.task_spec import TaskSpec
from jobs.tasks import KINDS
from runner.errors import InputError, SettingsError
from runner.score import ReferenceScorer

KIND = KINDS["python"]


@pytest.fixture(scope="module")
def model(demo):
    return LanguageModel(demo, ReferenceScorer(demo))


@pytest.fixture
def do(model, tmp_path):
    rows = [{"prompt": "The opposite of hot is", "n": n} for n in range(3)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "{\n")

    def do(code, name="score", **keys):
        (tmp_path / "mine.py").write_text(textwrap.dedent(code))
        options = {"function": f"mine.py:{name}"} | keys.pop("options", {})
        where = "job.toml: tasks.mine"
        keys = {"data": ("in.jsonl",), "folder": tmp_path} | keys
        spec = TaskSpec("mine", "python", options=options, where=where, **keys)
        return KIND.run(KIND.checked(spec), model)

    return do


def test_names_and_numbers(do):
    result = do(
        """
        import numpy as np

        def score(task_rows, model):
            (text,) = model.generate([task_rows[0]["prompt"]], 8)
            return {
                "rows": len(task_rows),
                "sum": np.float32(sum(row["n"] for row in task_rows)),
                "cold": text == " cold.",
                "wait_s": 1.5,
            }
        """,
        options={"lower_is_better": ["wait_s"]},
    )
    found = {metric.name: (metric.value, metric.higher_is_better) for metric in result.metrics}
    assert found == {
        "rows": (3.0, True),
        "sum": (3.0, True),
        "cold": (1.0, True),
        "wait_s": (1.5, False),
    }
    assert all(type(metric.value) is float for metric in result.metrics)
    assert result.metrics[0].n == 3
    assert [bad.where.rpartition(":")[2] for bad in result.bad_rows] == ["4"]
    assert len(result.data) == 1


def test_rows_become_means(do):
    result = do(
        """
        from jobs.results import RowResult

        def score(task_rows, model):
            return [
                RowResult(str(r["n"]), r["prompt"], "", "", None, {"x": r["n"], "odd": r["n"] % 2})
                for r in task_rows
            ]
        """
    )
    x, odd = result.metrics
    assert (x.name, x.value, x.of, x.n) == ("x", 1.0, "x", 3)
    assert x.stderr == pytest.approx(1 / 3**0.5)
    assert (odd.name, odd.value) == ("odd", pytest.approx(1 / 3))
    assert [row.id for row in result.rows] == ["0", "1", "2"]


def test_a_value_that_some_rows_have_is_a_mean_of_those(do):
    result = do(
        """
        from jobs.results import RowResult

        def score(task_rows, model):
            values = [{}, {"x": 1}, {"x": 2, "y": 5}]
            return [RowResult(str(n), "", "", "", None, v) for n, v in enumerate(values)]
        """
    )
    found = [(metric.name, metric.value, metric.n) for metric in result.metrics]
    assert found == [("x", 1.5, 2), ("y", 5.0, 1)]


def test_what_it_prints_is_no_output_and_where_it_goes_it_goes_alone(do, capsys):
    here = os.getcwd()  # noqa: PTH109
    code = """
        import os

        def score(task_rows, model):
            os.chdir("/")
            print("hello")
            return {"x": 1}
        """
    do(code)
    assert os.getcwd() == here  # noqa: PTH109
    assert capsys.readouterr() == ("", "hello\n")


def test_a_result_of_its_own_is_taken_as_it_is(do):
    result = do(
        """
        from jobs.results import BadRow, Metric, TaskResult

        def score(task_rows, model):
            metric = Metric("loss", 2.0, 0.1, 3, higher_is_better=False)
            return TaskResult([metric], bad_rows=[BadRow("mine", "odd")], details={"a": 1})
        """
    )
    (metric,) = result.metrics
    assert (metric.name, metric.stderr, metric.higher_is_better) == ("loss", 0.1, False)
    assert result.details == {"a": 1}
    assert [bad.reason for bad in result.bad_rows][1:] == ["odd"]


def test_without_data_there_are_no_rows(do):
    result = do("def score(task_rows, model):\n    return {'n': len(task_rows)}\n", data=())
    assert result.metrics[0].value == 0


def test_a_module_beside_the_job_file_can_be_imported(do, tmp_path):
    (tmp_path / "helpers_of_mine.py").write_text("HALF = 0.5\n")
    path = list(sys.path)
    code = "import helpers_of_mine as h\n\ndef score(task_rows, model):\n    return {'x': h.HALF}\n"
    assert do(code).metrics[0].value == 0.5
    options = {"function": "mine:score"}
    assert do(code, options=options).metrics[0].value == 0.5
    assert sys.path == path


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (
            "def score(task_rows, model):\n    return helper(task_rows)\n\n\n"
            "def helper(rows):\n    return rows[7]['n']\n",
            ["raised IndexError", 'mine.py", line 6, in helper', "IndexError: list index out of"],
        ),
        ("import nothing_of_this_name\n", ["raised ModuleNotFoundError", 'mine.py", line 1']),
        ("def score(:\n", ["raised SyntaxError", 'mine.py", line 1', "SyntaxError: invalid"]),
        ("import sys\nsys.exit(0)\n", ["raised SystemExit", 'mine.py", line 2']),
        ("other = 1\n", ["raised AttributeError", "mine.py has no function score"]),
        ("score = 1\n", ["raised AttributeError", "mine.py has no function score"]),
        ("def score(task_rows, model):\n    return None\n", ["returned NoneType null; expected a"]),
        ("def score(a, b):\n    return {'x': 'y'}\n", ["returned a dict with 'y'; expected"]),
        ("def score(a, b):\n    return [1]\n", ["returned a list with 1; expected"]),
        ("def score(a, b):\n    return {'x': 10**400}\n", ["returned a dict with 1000"]),
        ("def score(a, b):\n    return {}\n", ["returned no metric; expected a"]),
        ("def score(a, b):\n    return []\n", ["returned no metric; expected a"]),
        ("def score(a):\n    return {}\n", ["raised TypeError", "takes 1 positional argument"]),
    ],
)
def test_what_is_wrong_with_it_is_told(do, code, told):
    with pytest.raises(InputError) as error:
        do(code)
    message = str(error.value)
    assert message.startswith("job.toml: tasks.mine: mine.py:score ")
    for part in told:
        assert part in message
    assert "jobs/tasks" not in message  # its own lines, not ours


ROW = "RowResult('a', 'b', 'c', 'd', {}, {})"


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        (f"[{ROW.format(2, {'x': 1})}]", "a row 'a' with other fields than texts"),
        (f"[{ROW.format(None, {'x': 'y'})}]", "a row 'a' with other values than numbers"),
        (f"[{ROW.format(None, {'prompt': 1})}]", "a value 'prompt', which every row has"),
        ("[RowResult(1, 'b', 'c', 'd', None, {})]", "a row 1 with other fields than texts"),
        ("TaskResult([M, M])", "metrics without a name of their own each"),
        ("TaskResult([replace(M, value='2')])", "a metric 'm' whose value or scale is none"),
        ("TaskResult([replace(M, scale='odd')])", "a metric 'm' whose value or scale is none"),
        ("TaskResult([replace(M, of='x')])", "a metric of 'x'; expected a value that rows have"),
        ("TaskResult(details={'a': object()})", "details that JSON does not hold"),
    ],
)
def test_a_result_that_could_not_be_written_down_is_refused(do, returned, told):
    code = f"""
        from dataclasses import replace
        from jobs.results import Metric, RowResult, TaskResult

        M = Metric("m", 1.0, None, 3, higher_is_better=True)

        def score(task_rows, model):
            return {returned}
        """
    with pytest.raises(InputError, match="mine.py:score returned ") as error:
        do(code)
    assert told in str(error.value)


@pytest.mark.parametrize("function", ["mine.py", "mine:", "mine.py:a b", "", "a-b:c"])
def test_a_function_has_a_file_or_module_and_a_name(do, function):
    with pytest.raises(SettingsError, match=r'expected a function, as "file.py:name"'):
        do("", options={"function": function})
