"""What a job file asks for, once it is known to be sound."""

from dataclasses import dataclass, field
from pathlib import Path

from reference.models import DEMO
from runner.settings import available_threads

from .task_spec import TaskSpec

ENGINES = ("onnxruntime", "reference", "ray")
EXACT = "float64"  # which NumPy alone computes in


@dataclass(frozen=True)
class JobSpec:
    """A job: a model, and the tasks that it is put to.

    Attributes
    ----------
    name : str
        Of the job; histories and reports call it that.
    file : Path
        The job file.
    sha256 : str
        Of its bytes.
    output : Path
        Folder of the runs.
    history : str
        Folder of what was found night after night: a path, or an address of an object store.
    baselines : Path
        Folder of the baselines.
    baseline : str or None
        The one that is compared with; there may be none of that name yet.
    tasks : dict of str to TaskSpec
        By name, in the order of the file.
    model : str
        A name, or a model directory.
    dtype : str
        `float32`, `int8`, or `float64` where the engine is the reference.
    engine : str
        `onnxruntime`, `reference`: NumPy, or `ray`: onnxruntime on the nodes of a cluster.
    threads : int
        Of one model call; on a node it is `cpus_per_task`.
    memory : int or None
        Bytes that a process may take, weights included; None shares what is free.
    models_dir, base_url : str or None
        As in `load_model`.
    seed : int
        Chooses the requests that are checked.
    check_rows : int or None
        How many are compared with the NumPy reference; None means all.
    report : bool or None
        Whether `report.html` is made; None where its libraries are installed.
    z : float
        Standard errors of a difference that a worsening must exceed.
    ray_address : str or None
        Of a running cluster; None means the one that RAY_ADDRESS names, or a Ray of the job's own.
    cpus_per_task : int or None
        CPUs of a task on a cluster, and its threads; None goes by the nodes.
    is_trial : bool
        Whether only some tasks or rows are taken. Such a run is no night: it is neither added to
        the history, nor can it become a baseline.
    """

    name: str
    file: Path
    sha256: str
    output: Path
    history: str
    baselines: Path
    baseline: str | None = None
    tasks: dict[str, TaskSpec] = field(default_factory=dict)
    model: str = DEMO
    dtype: str = "float32"
    engine: str = "onnxruntime"
    threads: int = field(default_factory=available_threads)
    memory: int | None = None
    models_dir: str | None = None
    base_url: str | None = None
    seed: int = 0
    check_rows: int | None = 8
    report: bool | None = None
    z: float = 2.0
    ray_address: str | None = None
    cpus_per_task: int | None = None
    is_trial: bool = False
