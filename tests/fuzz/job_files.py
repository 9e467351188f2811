"""Job files of `runner eval`, as bytes and as values: read, and their plan made."""

import json
import random
import shutil
import tomllib
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from jobs.plan import plan
from jobs.spec import load_spec
from jobs.toml_table import MOST_DOTS
from runner.places import scheme_of

from . import mutate, seeds
from .names import within

JOB = "job.toml"
TASK = {"data": "sub/*.jsonl", "limit": 3}
VALUES: dict[str, Any] = {
    "name": "night",
    "model": "demo",
    "dtype": "float32",
    "engine": "onnxruntime",
    "output": "runs",
    "history": "runs/history",
    "threads": 2,
    "memory": "8G",
    "models_dir": "models",
    "base_url": "http://127.0.0.1:9",
    "seed": 1,
    "check_rows": "all",
    "report": False,
    "baseline": {"name": "good", "folder": "baselines"},
    "gate": {"z": 2.0},
    "tasks": {
        "words": {
            **TASK,
            "kind": "last_word",
            "columns": {"text": "prompt"},
            "rule": "paper",
            "thresholds": {"acc": {"min": 0.5, "max": 1}, "perplexity": {"max": 9.5}},
            "allow": {"acc": 0.01},
        },
        "texts": {"kind": "perplexity", "data": ["text.txt"], "format": "text", "document": "line"},
        "facts": {**TASK, "kind": "greedy", "max_new_tokens": 2, "stop": ["."], "strip": True},
        "mine": {"kind": "python", "function": "mine.py:check"},
        "speed": {"kind": "throughput", "prompts": 4},
    },
}
WORDS = (
    b"[tasks.words]\n",
    b"[[tasks]]\n",
    b"tasks = 1\n",
    b"a.b.c = {d = [1, {e = 2}]}\n",
    b'"""\n',
    b"'''",
    b"1979-05-27T07:32:00Z",
    b"0x7fffffffffffffffff",
    b"-inf",
    b'"\\u0000\\U0010ffff"',
    b"\xef\xbb\xbf",
    b"." * 300,
)


@cache
def jobs_dir() -> Path:
    """A job file with all that one can say, and the data that it names."""
    folder = seeds.ROOT / "job-files"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a.jsonl").write_bytes(seeds.PROMPTS)
    (folder / "text.txt").write_text("the\nin the\n")
    (folder / JOB).write_text(_toml(VALUES))
    shutil.copytree(seeds.huggingface_dir(), folder / "model")
    return folder


def change_toml(rng: random.Random, data: bytes) -> bytes:
    """Other bytes, or something of another file in it; or lines of it in another order."""
    kind = rng.randrange(4)
    if kind == 0:
        at = rng.randrange(len(data) + 1)
        return data[:at] + rng.choice(WORDS) + data[at:]
    if kind == 1:
        lines = data.split(b"\n")
        at, to = rng.randrange(len(lines)), rng.randrange(len(lines))
        lines[at], lines[to] = lines[to], lines[at]
        return b"\n".join(lines)
    return mutate.change_bytes(rng, data)


def write_job(folder: Path, name: str, content: bytes) -> None:
    if name != JOB:
        with suppress(ValueError, AttributeError, RecursionError):  # some other bytes
            content = _toml(json.loads(content)).encode(errors="surrogatepass")
    (folder / JOB).write_bytes(content)


def read_job(folder: Path, _name: str) -> None:
    """Read a job file, and say what it would do, but for data that lie elsewhere."""
    if not _leads_away(folder / JOB):
        with within(folder):
            plan(load_spec(folder / JOB), None)


def _leads_away(job: Path) -> bool:
    """Whether other folders would be searched, or servers that are not there asked for long."""
    try:
        text = job.read_text(encoding="utf-8-sig")
        if any(line.count(".") > MOST_DOTS for line in text.split("\n")):
            return False  # refused, and rightly so: parsing it takes long
        found = tomllib.loads(text)
        names = json.dumps([task.get("data") for task in found["tasks"].values()])
    except (ValueError, LookupError, AttributeError, TypeError, RecursionError):
        return False
    return any(
        text.startswith(("/", "\\u")) or ".." in text or scheme_of(text) is not None
        for text in names.split('"')[1::2]
    )


def _toml(value: Any, *, is_root: bool = True) -> str:
    """A value as TOML; the tables of a root have lines of their own."""
    if isinstance(value, dict):
        pairs = [
            f"{json.dumps(k, ensure_ascii=False)} = {_toml(v, is_root=False)}"
            for k, v in value.items()
        ]
        return "\n".join(pairs) if is_root else f"{{{', '.join(pairs)}}}"
    if isinstance(value, list):
        return f"[{', '.join(_toml(item, is_root=False) for item in value)}]"
    if isinstance(value, float):
        return repr(value)
    return '""' if value is None else json.dumps(value, ensure_ascii=False)
