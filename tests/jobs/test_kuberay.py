"""examples/ray and docs/cluster.md: their commands are read, the manifest's numbers fit each other.

KubeRay's schema of the manifest is too large to be kept here.
"""

import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from runner.settings import bytes_of
from tests.docs.test_docs import blocks
from tests.jobs.test_scheduling import checked, runner_commands

ROOT = Path(__file__).parents[2]
RAY = ROOT / "examples" / "ray"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def in_example(name):
    return (RAY / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def job():
    (found,) = yaml.safe_load_all(in_example("rayjob.yaml"))
    assert (found["apiVersion"], found["kind"]) == ("ray.io/v1", "RayJob")
    return found["spec"]


@pytest.fixture(scope="module")
def asked(job):
    """What the job's command asks for."""
    name, *arguments = shlex.split(job["entrypoint"])
    assert name == "runner"
    return checked(arguments)


def containers(job):
    """The submitter's, the head's and those of the workers."""
    cluster = job["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    templates = [job["submitterPodTemplate"], *(group["template"] for group in groups)]
    found = [template["spec"]["containers"] for template in templates]
    return [container for (container,) in found]


def n_bytes(quantity):
    assert quantity.endswith("i"), f"{quantity} would be taken for powers of 1,000"
    return bytes_of(quantity.removesuffix("i"))


def test_the_command_is_one_that_goes_on(asked):
    assert (asked["engine"], asked["ray_address"]) == ("ray", "auto")
    assert asked["resume"], "a further try of a job that is done would fail"


def test_a_shell_leaves_the_command_as_it_is(job):
    """KubeRay puts it into a shell script as it stands."""
    done = subprocess.run(
        ["/bin/sh", "-c", f"printf '%s\\n' {job['entrypoint']}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == shlex.split(job["entrypoint"])


def test_tasks_fill_a_worker_and_fit_into_it(job, asked):
    cluster = job["rayClusterSpec"]
    assert cluster["enableInTreeAutoscaling"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    (group,) = cluster["workerGroupSpecs"]
    assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    resources = containers(job)[-1]["resources"]
    assert group["rayStartParams"]["num-cpus"] == resources["limits"]["cpu"]
    n_tasks, unused = divmod(int(resources["limits"]["cpu"]), asked["cpus_per_task"])
    assert n_tasks >= 1
    assert unused == 0
    store = int(group["rayStartParams"]["object-store-memory"])
    assert n_tasks * asked["memory"] + store < n_bytes(resources["limits"]["memory"])


def test_what_is_asked_of_kubernetes_is_what_may_be_used(job):
    """A pod that may use more than it asked for is the first to be thrown out."""
    submitter, *nodes = containers(job)
    assert submitter["resources"]["requests"].keys() == {"cpu", "memory"}
    for container in nodes:
        resources = container["resources"]
        assert resources["requests"] == resources["limits"]
        assert resources["limits"].keys() >= {"cpu", "memory"}


def test_a_further_try_is_worth_it_and_the_cluster_goes(job):
    assert job["backoffLimit"] > 0
    assert job["activeDeadlineSeconds"] > 0
    assert job["ttlSecondsAfterFinished"] > 0
    assert job["shutdownAfterJobFinishes"], "else the time before is for nothing"


def test_every_node_has_the_image_that_is_built(job, asked):
    (image,) = {container["image"] for container in containers(job)}
    assert f"docker build -f examples/ray/Dockerfile -t {image} ." in in_example("Dockerfile")
    assert f"docker build -f examples/ray/Dockerfile -t {image} ." in in_example("README.md")
    (downloaded,) = runner_commands(in_example("Dockerfile"))
    assert checked(downloaded) | {"name": asked["model"], "download": True} == checked(downloaded)


def test_the_image_has_a_ray_that_the_project_allows(job):
    dockerfile = in_example("Dockerfile")
    (version,) = re.findall(r'"ray\[default\]==([\d.]+)"', dockerfile)
    assert job["rayClusterSpec"]["rayVersion"] == version
    ray = [Requirement(text) for text in PROJECT["optional-dependencies"]["ray"]]
    (specifier,) = (found.specifier for found in ray if found.name == "ray")
    assert version in specifier
    (python,) = re.findall(r"^FROM python:([\d.]+)-slim$", dockerfile, re.MULTILINE)
    assert python in SpecifierSet(PROJECT["requires-python"])


def test_every_node_reaches_the_store_and_tells_nobody(job):
    _, *nodes = containers(job)
    (made,) = set(re.findall(r"create secret generic (\S+)", in_example("README.md")))
    keys = set(re.findall(r"--from-literal=(\w+)=", in_example("README.md")))
    known = (ROOT / "docs" / "storage.md").read_text(encoding="utf-8")
    for container in nodes:
        variables = {entry["name"]: entry["value"] for entry in container["env"]}
        assert variables.pop("RAY_USAGE_STATS_ENABLED") == "0"
        assert [entry["secretRef"]["name"] for entry in container["envFrom"]] == [made]
        for name in {*variables, *keys}:
            assert f"`{name}`" in known, f"{name} is nothing that the job looks at"


def test_pods_are_what_a_strict_namespace_lets_in(job):
    """Pod Security Standards, restricted; KubeRay copies a container's to those that it adds."""
    cluster = job["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for template in [job["submitterPodTemplate"], *(group["template"] for group in groups)]:
        context = template["spec"]["securityContext"]
        assert context["runAsNonRoot"]
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert f"USER {context['runAsUser']}" in in_example("Dockerfile")
    allowed = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    for holder in [cluster["autoscalerOptions"], *containers(job)]:
        assert holder["securityContext"] == allowed


@pytest.mark.parametrize("path", sorted(RAY.iterdir()), ids=lambda path: path.name)
def test_every_command_is_one(path):
    commands = list(runner_commands(path.read_text(encoding="utf-8")))
    assert commands
    for arguments in commands:
        checked(arguments)


def test_every_command_of_the_guide_is_one():
    commands = list(runner_commands("\n".join(blocks("docs/cluster.md", "sh"))))
    assert commands
    for arguments in commands:
        checked(arguments)
