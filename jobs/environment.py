"""What a run was made with: versions, processor, and the commit of the job file's folder."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

from runner.processor import instructions, processor
from runner.provenance import versions

from .job_spec import JobSpec

GIT = ("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
GIT_S = 20  # a large work tree takes its time to say whether it has changed


def environment(spec: JobSpec) -> dict[str, Any]:
    """Everything that a figure may follow from beside model, data and job file."""
    return {
        **versions(),
        "processor": processor(),
        "engine": spec.engine,
        "threads": spec.threads,
        "commit": commit_of(spec.file.parent),
    }


def on_cluster(environment: dict[str, Any], cluster: dict[str, Any]) -> dict[str, Any]:
    """The same of a run that a cluster did: its processors are those of the nodes."""
    named = "; ".join(cluster["processors"]) or environment["processor"]
    return environment | {"processor": named, "cluster": cluster}


def rounded_by(environment: dict[str, Any]) -> set[str]:
    """The instructions of those processors that computed a run, as far as it tells."""
    cluster = environment.get("cluster")
    found = cluster.get("processors") if isinstance(cluster, dict) else None
    kinds = found if isinstance(found, list) and found else [environment.get("processor")]
    return {instructions(kind) for kind in kinds if isinstance(kind, str)}


def commit_of(folder: Path) -> str | None:
    """The commit that is checked out there, with `-dirty` where files differ; None without git."""
    git = shutil.which("git")
    if git is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603 - git, found where the user's shell finds it
            [git, "-C", str(folder), *GIT],
            capture_output=True,
            check=True,
            text=True,
            timeout=GIT_S,
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
