"""Job files: what is read of them, and what is said of those that are wrong.

What a file says is compared with what `tomllib` reads of it; lines with where the text stands.
"""

import hashlib
import os
from pathlib import Path

import pytest

from jobs.spec import load_spec
from jobs.task_spec import Threshold
from jobs.tasks import KINDS
from jobs.toml_table import TOLD_FAULTS, JobFileError, dotted
from runner.errors import SettingsError

ROOT = Path(__file__).parents[2]
TASK = '[tasks.a]\nkind = "last_word"\ndata = "rows.jsonl"\nformat = "lambada"\n'


@pytest.fixture
def job(tmp_path):
    """Writes a job file beside a file of data."""
    (tmp_path / "rows.jsonl").write_text('{"text": "a b c"}\n')

    def write(text, name="night.toml"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def faults(path):
    with pytest.raises(JobFileError) as refused:
        load_spec(path)
    assert isinstance(refused.value, SettingsError)  # exit code 2
    return str(refused.value).replace(f"{path}", "F").split("\n")


def test_what_holds_where_a_file_says_little(job, tmp_path):
    path = job(TASK)
    spec = load_spec(path)
    assert spec.name == "night"
    assert spec.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (spec.model, spec.dtype, spec.engine) == ("demo", "float32", "onnxruntime")
    assert spec.output == tmp_path / "runs" / "night"
    assert Path(spec.history) == spec.output / "history"
    assert spec.baselines == spec.output / "baselines"
    assert (spec.baseline, spec.memory, spec.report, spec.is_trial) == (None, None, None, False)
    assert (spec.seed, spec.check_rows, spec.z) == (0, 8, 2.0)
    assert spec.tasks["a"].options == {"rule": "harness"}
    assert spec.tasks["a"].data == ("rows.jsonl",)
    assert load_spec(path, Path("elsewhere")).history == str(Path("elsewhere/history"))


def test_all_that_a_file_can_say(job, tmp_path):
    spec = load_spec(
        job(
            'name = "n"\nmodel = "demo"\ndtype = "int8"\noutput = "o"\nhistory = "s3://b/h"\n'
            'threads = 3\nmemory = "1.5G"\nmodels_dir = "m"\nbase_url = "http://x"\nseed = 7\n'
            'check_rows = "all"\nengine = "reference"\nreport = false\n'
            '[baseline]\nname = "good"\nfolder = "/b"\n[gate]\nz = 3\n' + TASK + "limit = 5\n"
            'rule = "paper"\n[tasks.a.thresholds]\nacc = { min = 0.5, max = 1 }\n'
            "[tasks.a.allow]\nacc = 0.01\n"
        )
    )
    assert (spec.name, spec.dtype, spec.output) == ("n", "int8", tmp_path / "o")
    assert (spec.history, spec.baselines, spec.baseline) == ("s3://b/h", Path("/b"), "good")
    assert (spec.threads, spec.memory, spec.seed, spec.check_rows) == (3, 3 << 29, 7, None)
    assert (spec.models_dir, spec.base_url) == (str(tmp_path / "m"), "http://x")
    assert (spec.engine, spec.report, spec.z) == ("reference", False, 3.0)
    task = spec.tasks["a"]
    assert (task.limit, task.options) == (5, {"rule": "paper"})
    assert (task.thresholds, task.allow) == ({"acc": Threshold(0.5, 1)}, {"acc": 0.01})


def test_a_job_for_a_cluster(job):
    text = 'engine = "ray"\nray_address = "head:6379"\ncpus_per_task = 3\n'
    spec = load_spec(job(text + TASK))
    assert (spec.engine, spec.ray_address, spec.cpus_per_task) == ("ray", "head:6379", 3)
    spec = load_spec(job('engine = "ray"\n' + TASK))
    assert (spec.ray_address, spec.cpus_per_task) == (None, None)


def test_all_faults_are_told_at_once_each_where_it_stands(job):
    text = (
        "modl = 'demo'\n"
        "threads = 0\n"
        "[gate]\n"
        "z = true\n" + TASK.replace("rows", "nothing").replace("lambada", "lambda") + "rule = 3\n"
        "limit = [\n  1,\n]\n"
        "[tasks.a.thresholds]\n"
        "acc = { min = 'high' }\n"
        "accu = { max = 1 }\n"
        "[tasks.b]\n"
        "kind = 'last_wrd'\n"
        "[tasks.c]\n"
        "data = 'rows.jsonl'\n"
    )
    found = faults(job(text))
    for place, said in (
        ("F:1: modl is no key of a job;", 'Write "model".'),
        ("F:2: threads is 0; expected a whole number from 1 to 512.", "Correct it."),
        ("F:4: gate.z is true; expected a number, 0 or more.", "Correct it."),
        ("F:7: tasks.a.data cannot be read:", "no such file or folder; expected data."),
        ("F:8: tasks.a.format is 'lambda': no format of a last_word task;", 'Write "lambada"'),
        ('F:9: tasks.a.rule is 3; expected "harness" or "paper".', "Correct it."),
        ("F:10: tasks.a.limit is a list; expected a whole number, 1 or more.", "Correct it."),
        ("F:14: tasks.a.thresholds.acc.min is 'high'; expected a number.", "Correct it."),
        ("F:15: tasks.a.thresholds.accu is no metric of a last_word task;", 'Write "acc".'),
        ("F:17: tasks.b.kind is 'last_wrd': no kind of task;", 'Write "last_word".'),
        ("F:18: tasks.c.kind is missing; expected one of", "Add it."),
    ):
        (line,) = [line for line in found if line.startswith(place)]
        assert said in line
        found.remove(line)
    assert not found


@pytest.mark.skipif(os.name == "nt", reason="links")
def test_paths_are_short_where_that_leads_to_the_same(job, tmp_path):
    (tmp_path / "there" / "deep").mkdir(parents=True)
    (tmp_path / "jobs").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there" / "deep")
    (tmp_path / "jobs" / "rows.jsonl").write_text('{"text": "a b c"}\n')
    text = 'output = "../runs"\nhistory = "../link/../history"\nbaseline.folder = "../good"\n'
    spec = load_spec(job(text + TASK, "jobs/night.toml"))
    assert spec.output == tmp_path / "runs"
    assert spec.baselines == tmp_path / "good"
    assert Path(spec.history).resolve() == tmp_path / "there" / "history"  # not beside the link


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a = ", "F: is no TOML: Invalid value at its end. Correct it."),
        ("a = 1\nb = x", "F:2:5: is no TOML: Invalid value. Correct it."),
        ("a = 1\na = 2", "F: is no TOML: Cannot overwrite a value at its end. Correct it."),
        (b"a = '\xff'", "F:1: byte 5 is not UTF-8; expected TOML. Save it so."),
        ("", "F: tasks has no table; expected a table for each task. Add [tasks.NAME]."),
        ("tasks = 3", "F:1: tasks is 3; expected a table. Correct it."),
        ("tasks.a = 3", "F:1: tasks.a is 3; expected a table. Correct it."),
        (f"seed = 9{'0' * 20}", "F:1: seed is a number beyond 64 bits, which TOML has not."),
        (f"seed = {'9' * 5000}", "is no TOML: Exceeds the limit (4300 digits)"),
        ("seed = 1979-05-27", "F:1: seed is the time 1979-05-27; expected a whole number from 0."),
        ("dtype = 'float64'", 'only engine = "reference" computes in it.'),
        (
            "dtype = 'float64'\nengine = 'ray'",
            'F:1: dtype is "float64"; only engine = "reference" computes in it.',
        ),
        (
            "name = 'a'\nray_address = 'h:1'",
            'F:2: ray_address is for engine = "ray"; expected it with that only. Set that.',
        ),
        ("engine = 'reference'\ncpus_per_task = 2", "F:2: cpus_per_task is for engine = "),
        (
            "engine = 'ray'\ncpus_per_task = 0",
            "F:2: cpus_per_task is 0; expected a whole number from 1 to 512.",
        ),
        ("engine = 'ray'\nray_address = 3", "F:2: ray_address is 3; expected a string that is"),
        ("model = 'nowhere'", "F:1: model cannot be had: "),
        ("output = 's3://b/k'", "F:1: output is 's3://b/k'; expected a folder of this machine."),
        ('output = "a\\u0000b"', "F:1: output is 'a\\x00b'; expected a folder of this machine."),
        (
            "history = 'ftp://h/x'",
            "F:1: history is no place to add to: ftp://h/x: ftp:// is unknown;",
        ),
        (
            "history = 'http://h/x'",
            "F:1: history is no place to add to: http://h/x: can only be read",
        ),
        ('history = "a\\u0000b"', "F:1: history is no place to add to: "),
        ("name = '../x'", "F:1: name is '../x'; expected a name of letters, digits,"),
        ('name = "\\u001b[2J"', "F:1: name is '\\x1b[2J'; expected a name"),
        ('"\\u001b[2J" = 1', 'F:1: "\\x1b[2J" is no key of a job;'),
        (f"{'k' * 5000} = 1", f'F:1: "{"k" * 39}..." is no key of a job;'),
        ("check_rows = 'some'", "F:1: check_rows is 'some'; expected a whole number from 0, or "),
        ("memory = '8X'", "F:1: memory is '8X'; expected bytes, or a size such as 512M or 8G."),
        ("baseline.name = '.x'", "F:1: baseline.name is '.x'; expected a name of letters,"),
        ("baseline.nam = 'x'", "F:1: baseline.nam is no key of a baseline; expected name, folder."),
        ("gate = []", "F:1: gate is an empty list; expected a table."),
        ("z.y.x = 1", "F:1: z is no key of a job;"),
        ("\ntasks.A.kind = 'x'\ntasks.a.kind = 'x'", "F:3: tasks.a differs from another task"),
        ("tasks.'a/b'.kind = 'x'", 'F:1: tasks."a/b" is no name for a task; expected a name'),
        (
            TASK + "thresholds.acc = {}",
            "F:5: tasks.a.thresholds.acc is empty; expected min,",
        ),
        (TASK + "thresholds.acc = {min = 2, max = 1}", "thresholds.acc.min is 2, above max, which"),
        (TASK + "thresholds.acc.min = nan", "thresholds.acc.min is nan; expected a number."),
        (
            TASK + "thresholds.acc.mn = 1",
            "thresholds.acc.mn is no key of a threshold; expected",
        ),
        (TASK + "allow.acc = -1", "F:5: tasks.a.allow.acc is -1; expected a number, 0 or more."),
        (TASK + "allow.bleu = 1", "F:5: tasks.a.allow.bleu is no metric of a last_word task;"),
        (TASK + "columns.text = 'x'", 'F:5: tasks.a.columns is there beside "format", which knows'),
        (TASK + "lmit = 2", "F:5: tasks.a.lmit is no key of a last_word task; expected"),
        (
            TASK.replace('"rows.jsonl"', "[]"),
            "F:3: tasks.a.data is an empty list; expected a",
        ),
        ("[tasks.a]\nkind = 'last_word'", "F:1: tasks.a.data is missing; a last_word task needs"),
        (
            TASK.replace('"lambada"', '""'),
            "F:4: tasks.a.format is ''; expected a string that is not empty.",
        ),
    ],
)
def test_one_fault(job, text, said):
    found = [line for line in faults(job(text)) if said in line]
    assert len(found) == 1
    assert len(found[0]) < 600


def test_lines_are_told_whatever_a_value_holds(job):
    text = 'a = """\n[tasks.x]\nthreads = 1\n"""\n# threads = 2\nthreads = 0\n' + TASK
    assert any(line.startswith("F:6: threads is 0;") for line in faults(job(text)))


def test_many_faults_are_counted(job):
    found = faults(job("".join(f"k{n} = {n}\n" for n in range(900)) + TASK))
    assert len(found) <= TOLD_FAULTS + 1
    assert found[-1] == f"... and {900 - len(found) + 1} faults more."


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 100_000,
        "a = " + "[" * 200 + "]" * 200,
        "a = " + "{b = " * 50_000,
        "[" + "a." * 150 + "a]",
    ],
)
def test_what_is_nested_deeply(job, text):
    (found,) = faults(job(text))
    assert "nested too deeply" in found


def test_a_key_of_very_many_parts(job):
    """Python's parser would take minutes."""
    assert faults(job("\na" + ".a" * 120_000 + " = 1")) == [
        "F:2: has 120,000 dots; expected 200 at most on a line. Break it, or correct it."
    ]


def test_what_is_no_file_of_ours(tmp_path, job):
    for path, said in (
        (tmp_path, "is no file; expected a job file."),
        (tmp_path / "none.toml", "No such file or directory; expected a job file."),
        (Path(f"{tmp_path}/a\0b"), "expected a job file."),
        (tmp_path / ("x" * 300), "File name too long; expected a job file."),
        (job("# " + "x" * (1 << 18)), "bytes; expected a job file of at most 262,144."),
    ):
        with pytest.raises(JobFileError) as refused:
            load_spec(path)
        assert said in str(refused.value)
    os.mkfifo(tmp_path / "pipe")
    assert "is no file" in faults(tmp_path / "pipe")[0]
    os.mkfifo(tmp_path / "pipe.jsonl")
    (found,) = faults(job(TASK.replace("rows.jsonl", "pipe.jsonl")))
    assert "pipe, a device or the like" in found


def test_a_byte_order_mark_is_no_fault(job):
    assert load_spec(job(b"\xef\xbb\xbf" + TASK.encode())).tasks


def test_keys_are_written_as_toml_writes_them():
    assert dotted(("tasks", "a-b_1", "x")) == "tasks.a-b_1.x"
    assert dotted(("a b", "\x1b", "\u202e", "x" * 80)) == (
        f'"a b"."\\x1b"."\\u202e"."{"x" * 39}..."'
    )


@pytest.mark.parametrize("path", sorted((ROOT / "jobs").glob("*.toml")), ids=lambda p: p.name)
def test_our_own_job_files(path):
    """What they name exists, but for data that is the user's."""
    spec = load_spec(path, finds_files=path.name == "demo.toml")
    assert set(spec.tasks) >= {"lambada", "hellaswag", "blimp", "wikitext"}


def test_every_kind_says_what_it_expects(job):
    """A key that no kind has is refused by each, and the nearest of its own is named."""
    for name in KINDS:
        (found,) = [
            f for f in faults(job(f"tasks.a.kind = '{name}'\ntasks.a.dta = 1")) if "dta" in f
        ]
        assert f"is no key of a {name} task" in found
        assert 'Write "data".' in found
