"""Where an output came from: collected, kept in the Parquet footer and a manifest, read back."""

import datetime as dt
import json
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq

from reference import Model, __version__
from reference.published import without_user

from .engine import Engine, runtime_version
from .errors import InputError
from .report import RunReport
from .settings import RunSettings
from .storage import Format, format_of, manifest_path

FOOTER_KEY = "picobatch"  # of the provenance, one JSON value in a Parquet footer


def provenance(
    settings: RunSettings,
    report: RunReport,
    model: Model,
    engine: Engine,
    source: str,
    started: dt.datetime,
) -> dict[str, Any]:
    """Everything that says where an output came from."""
    return {
        "format": 1,
        "input": {"path": source},
        "output": report.output,
        "model": {
            "name": model.name,
            "hparams": dict(model.hparams),
            "weights_sha256": model.weights_sha256,
            "tokenizer_sha256": model.tokenizer.sha256,
        },
        "engine": engine.describe() | report.engine,
        "settings": asdict(settings)
        | {"base_url": settings.base_url and without_user(settings.base_url)},
        "counts": {
            "rows": report.rows,
            "bad_rows": report.bad_rows,
            "prompt_tokens": report.prompt_tokens,
            "completion_tokens": report.completion_tokens,
            "repeated_rows": report.repeated_rows,
        },
        "started": started.isoformat(timespec="seconds"),
        "finished": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "elapsed_s": report.elapsed_s,
        "check": report.check.as_dict(),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    return {
        "picobatch": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "onnx": onnx.__version__,
        "onnxruntime": runtime_version(),
        "pyarrow": pa.__version__,
        "machine": f"{platform.system()} {platform.machine()}",
    }


def write_manifest(path: Path, found: dict[str, Any]) -> None:
    path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def read_provenance(path: str) -> dict[str, Any]:
    """The provenance of a completions file: from its footer, or from the manifest beside it.

    Raises
    ------
    InputError
        Where the file is missing or holds none.
    """
    file, manifest = Path(path), manifest_path(path)
    if not file.is_file():
        raise InputError(f"{path}: no such file; expected a completions file. Check the path.")
    try:
        if format_of(path) is Format.PARQUET:
            footer = pq.read_metadata(file).metadata or {}
            found = footer.get(FOOTER_KEY.encode())
            if found is not None:
                return dict(json.loads(found))
        elif manifest.is_file():
            return dict(json.loads(manifest.read_bytes()))
    except (pa.ArrowException, OSError, ValueError, TypeError, RecursionError) as e:
        raise InputError(
            f"{path}: not readable ({e}); expected a completions file of `runner batch`. "
            "Copy it again from its source."
        ) from None
    raise InputError(
        f"{path}: no provenance; expected a file that `runner batch` wrote"
        + ("." if format_of(path) is Format.PARQUET else f", with {manifest.name} beside it.")
    )
