"""examples/nightly: the crontab's line and the workflow's steps are run, the rest is looked at.

What needs `kubernetes-validate` or Airflow, which are large, is skipped where they are not there.
"""

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml

from jobs.cli import cli
from jobs.spec import load_spec

ROOT = Path(__file__).parents[2]
NIGHTLY = ROOT / "examples" / "nightly"
JOB = f"""
name = "nightly"
history = "kept/history"
report = false
threads = 1
[baseline]
name = "good"
folder = "kept/baselines"
[tasks.lambada]
kind = "last_word"
data = "{ROOT / "jobs" / "samples" / "lambada.jsonl"}"
format = "lambada"
limit = 12
"""
TOO_MUCH = "[tasks.lambada.thresholds]\nacc = { min = 1.5 }\n"


def executable(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def in_example(name):
    return (NIGHTLY / name).read_text(encoding="utf-8")


def documents(name):
    return list(yaml.safe_load_all(in_example(name)))


# The crontab, run as cron does it


@pytest.fixture
def home(tmp_path):
    """A home with a job and an environment, as the crontab expects it."""
    folder = tmp_path / "evaluation"
    executable(
        folder / ".venv" / "bin" / "runner",
        f'PYTHONPATH="{ROOT}" exec "{sys.executable}" -m jobs.cli "$@"',
    )
    (folder / "nightly.toml").write_text(JOB)
    return tmp_path


def as_cron(home):
    """Cron's environment and shell; what is printed would be mailed."""
    lines = [
        line
        for line in in_example("crontab").splitlines()
        if line and not line.startswith("#") and not re.match(r"\w+=", line)
    ]
    (command,) = (line.split(maxsplit=5)[5] for line in lines)
    assert "%" not in command, "which cron takes for the end of a line"
    names = {"HOME": str(home), "LOGNAME": "nobody", "PATH": "/usr/bin:/bin", "SHELL": "/bin/sh"}
    environment = [f"{name}={value}" for name, value in names.items()]
    return subprocess.run(
        ["env", "-i", *environment, "/bin/sh", "-c", command],
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )


def exit_codes(folder):
    runs = sorted((folder / "runs" / "nightly").glob("*/results.json"))
    return sorted(json.loads(path.read_text())["exit_code"] for path in runs)


needs_flock = pytest.mark.skipif(not shutil.which("flock"), reason="flock is not installed")


@needs_flock
def test_a_good_night_by_cron_is_silent_and_a_bad_one_is_mailed(home):
    done = as_cron(home)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
    folder = home / "evaluation"
    assert exit_codes(folder) == [0]
    (folder / "nightly.toml").write_text(JOB + TOO_MUCH)
    done = as_cron(home)
    assert exit_codes(folder) == [0, 5]
    assert "lambada acc: threshold" in done.stdout
    assert len(list((folder / "kept" / "history").glob("*.parquet"))) == 2


@needs_flock
def test_what_keeps_a_night_by_cron_from_running_is_mailed(home):
    (home / "evaluation" / "nightly.toml").write_text("model = 3\n")
    assert "nightly.toml:1: model is 3; expected a string" in as_cron(home).stdout
    (home / "evaluation" / ".venv" / "bin" / "runner").unlink()
    assert "No such file" in as_cron(home).stdout


@needs_flock
def test_two_nights_by_cron_do_not_overlap(home):
    lock = home / "evaluation" / "nightly.lock"
    with subprocess.Popen(["flock", "--no-fork", lock, "sleep", "60"]) as held:
        while subprocess.run(["flock", "--nonblock", lock, "true"], check=False).returncode == 0:
            assert held.poll() is None
        as_cron(home)
        held.kill()
    assert exit_codes(home / "evaluation") == []


# systemd


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_systemd_finds_nothing_wrong(tmp_path):
    runner = str(executable(tmp_path / "bin" / "runner", "exit 0"))
    units = sorted(NIGHTLY.glob("picobatch-eval*"))
    assert [unit.suffix for unit in units] == [".service", ".service", ".timer"]
    for unit in units:
        text = unit.read_text().replace("/opt/picobatch/bin/runner", runner)
        (tmp_path / unit.name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", *(f"./{unit.name}" for unit in units)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout + done.stderr, done.returncode) == ("", 0)


# GitHub Actions


def steps():
    (workflow,) = documents("github-actions.yml")
    (job,) = workflow["jobs"].values()
    return {step.get("name", step.get("uses")): step for step in job["steps"]}


def run_step(name, folder, **environment):
    """One of the workflow's scripts, by the shell that GitHub gives it to."""
    step = steps()[name]
    return subprocess.run(
        ["bash", "-e", "-c", step["run"]],
        cwd=folder / step.get("working-directory", "."),
        env={
            **os.environ,
            "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "GITHUB_OUTPUT": str(folder / "output"),
            "GITHUB_SHA": "0123456789abcdef",
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_workflow_keeps_to_githubs_schema():
    done = subprocess.run(
        [
            *(sys.executable, "-m", "check_jsonschema"),
            *("--builtin-schema", "vendor.github-workflows"),
            str(NIGHTLY / "github-actions.yml"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("code", range(6))
@pytest.mark.parametrize(("bless", "more"), [("", ""), ("good one", "--bless good one ")])
def test_the_workflow_passes_an_exit_code_on(tmp_path, code, bless, more):
    executable(tmp_path / "bin" / "runner", f"printf '%s ' \"$@\" > asked; exit {code}")
    done = run_step("Evaluate", tmp_path, BLESS=bless)
    assert done.returncode == 0, "what comes after must run: it keeps the report"
    assert (tmp_path / "asked").read_text() == f"eval evaluation/nightly.toml {more}"
    assert (tmp_path / "output").read_text() == f"code={code}\n"
    done = run_step("Verdict", tmp_path, CODE=str(code))
    assert done.returncode == code
    assert ("::error" in done.stdout) == (code != 0)
    assert ("a gate failed" in done.stdout) == (code == 5)


def test_the_workflow_keeps_history_on_its_branch(tmp_path):
    def git(*arguments, folder=tmp_path):
        done = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True
        )
        return done.stdout

    git("init", "--quiet", "--bare", "remote.git")
    (tmp_path / "evaluation").mkdir()
    git("clone", "--quiet", "remote.git", "evaluation/kept")
    kept = tmp_path / "evaluation" / "kept"
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    git("switch", "--quiet", "--orphan", "evaluation", folder=kept)
    git(*who, "commit", "--quiet", "--allow-empty", "-m", "Evaluations", folder=kept)
    git("push", "--quiet", "-u", "origin", "evaluation", folder=kept)
    (kept / "history").mkdir()
    (kept / "history" / "one.parquet").write_bytes(b"PAR1")
    for _ in range(2):  # the second time there is nothing to keep
        done = run_step("Keep history and baselines", tmp_path)
        assert done.returncode == 0, done.stderr
    remote = tmp_path / "remote.git"
    said = git("log", "--format=%s", "evaluation", folder=remote).splitlines()
    assert said == ["Evaluation of 0123456789abcdef", "Evaluations"]
    tree = git("ls-tree", "-r", "--name-only", "evaluation", folder=remote)
    assert tree == "history/one.parquet\n"


def test_the_workflow_keeps_what_the_job_writes(tmp_path):
    """The folders that its steps name are those of such a job file."""
    (tmp_path / "evaluation").mkdir()
    file = tmp_path / "evaluation" / "nightly.toml"
    file.write_text(JOB)
    spec = load_spec(file)
    kept = tmp_path / steps()["History and baselines"]["with"]["path"]
    assert Path(spec.history).parent == kept
    assert spec.baselines.parent == kept
    assert (tmp_path / steps()["Keep the report"]["with"]["path"]) in spec.output.parents


# Kubernetes


def test_the_manifest_keeps_to_kubernetes_schema():
    validate = pytest.importorskip("kubernetes_validate").validate
    found = documents("kubernetes.yaml")
    assert [document["kind"] for document in found] == [
        "ConfigMap",
        "PersistentVolumeClaim",
        "CronJob",
    ]
    for document in found:
        validate(document, "1.37", strict=True)


def test_the_manifest_fits_the_job_that_it_holds(tmp_path):
    config, claim, cron = documents("kubernetes.yaml")
    file = tmp_path / "nightly.toml"
    file.write_text(config["data"]["nightly.toml"])
    spec = load_spec(file, finds_files=False)
    assert cron["spec"]["concurrencyPolicy"] == "Forbid"
    pod = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    mounted = {mount["name"]: Path(mount["mountPath"]) for mount in container["volumeMounts"]}
    volumes = {volume.pop("name"): volume for volume in pod["volumes"]}
    assert mounted.keys() == volumes.keys()
    assert container["command"][-1] == str(mounted["job"] / "nightly.toml")
    assert volumes["job"]["configMap"]["name"] == config["metadata"]["name"]
    data = volumes["data"]["persistentVolumeClaim"]["claimName"]
    assert data == claim["metadata"]["name"]
    written = [spec.output, spec.history, spec.baselines, spec.models_dir]
    read = [path for task in spec.tasks.values() for path in task.data]
    for path in [*written, *read]:
        assert mounted["data"] in Path(path).parents
    limits = container["resources"]["limits"]
    assert str(spec.threads) == limits["cpu"]
    assert spec.memory < int(limits["memory"].removesuffix("Gi")) * 2**30
    (rule,) = (
        rule["onExitCodes"]["values"]
        for rule in cron["spec"]["jobTemplate"]["spec"]["podFailurePolicy"]["rules"]
        if "onExitCodes" in rule
    )
    assert 5 in rule
    assert 1 not in rule, "a download that failed may succeed at the next try"


# Airflow


@pytest.mark.skipif(not importlib.util.find_spec("airflow"), reason="Airflow is not installed")
def test_airflow_takes_the_dag(tmp_path):
    script = (
        "import runpy, sys; from airflow.sdk import DAG;"
        "found = [d for d in runpy.run_path(sys.argv[1]).values() if isinstance(d, DAG)];"
        "print([[t.task_id for t in d.tasks] for d in found])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(NIGHTLY / "airflow_dag.py")],
        env={**os.environ, "AIRFLOW_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.endswith("[['evaluate']]\n"), done.stdout + done.stderr


# Each command, in whatever file


def runner_commands(text):
    """Calls of `runner` in a script, a unit, a manifest, a page."""
    text = re.sub(r"\$\{BLESS:\+(.*?)\}", r"\1", text).replace('",\n', "\n")
    for found in re.findall(r"(?:[\w./]*/)?\brunner (\w[^\n|&>`#)]*)", text.replace("\\\n", " ")):
        yield shlex.split(found)
    for found in re.findall(r"command: \[runner, (.*)\]", text):
        yield found.split(", ")


def checked(arguments):
    """Have click read a command as it would, and run nothing; returns what it understood.

    As `runner`'s own: click keeps the `-h` of a command from the first time that it is asked.
    """
    name, *arguments = arguments
    assert name in cli.commands, name
    whole = cli.make_context("runner", [name])
    return cli.commands[name].make_context(name, arguments, parent=whole).params


@pytest.mark.parametrize("path", sorted(NIGHTLY.iterdir()), ids=lambda path: path.name)
def test_every_command_is_one(path):
    commands = list(runner_commands(path.read_text(encoding="utf-8")))
    for arguments in commands:
        checked(arguments)
    waits = path.name in ("picobatch-eval.timer", "picobatch-eval-failed.service")
    assert bool(commands) != waits


def test_a_command_that_is_none_is_seen():
    (arguments,) = runner_commands("x && /opt/bin/runner eval nightly.toml --blessed good >log")
    assert arguments == ["eval", "nightly.toml", "--blessed", "good"]
    with pytest.raises(click.UsageError, match="--blessed"):
        checked(arguments)
