"""Where an output came from: collected, kept in the Parquet footer and a manifest, read back."""

import datetime as dt
import json
import platform
from dataclasses import asdict
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq

from reference import Model, __version__
from reference.files import MOST_BYTES, as_object
from reference.published import without_user

from .engine import runtime_version
from .errors import InputError
from .lines import fingerprint
from .messages import cut
from .parts import Plan
from .places import Place, shown_place
from .report import COUNTS, RunReport
from .settings import RunSettings
from .shape import is_deep
from .storage import Format, format_of, manifest_of

FOOTER_KEY = "picobatch"  # of the provenance, one JSON value in a Parquet footer


def provenance(
    settings: RunSettings,
    report: RunReport,
    model: Model,
    key: dict[str, Any],
    plan: Plan,
    started: dt.datetime,
) -> dict[str, Any]:
    """Everything that says where an output came from.

    Of a job that was stopped and went on, times, the engine's figures, repeated rows, what was run
    again alone and settings that change no row are those of the last run. On a cluster they are
    those of all its tasks together, but for the time in all.
    """
    return {
        "format": 2,
        "input": {"path": shown_place(settings.input), "files": key["input"]},
        "output": report.output,
        "key": {name: value for name, value in key.items() if name != "input"},
        "model": {
            "name": model.name,
            "hparams": dict(model.hparams),
            "weights_sha256": model.weights_sha256,
            "tokenizer_sha256": model.tokenizer.sha256,
        },
        "engine": report.engine,
        "settings": asdict(settings)
        | {
            "input": shown_place(settings.input),
            "output": shown_place(settings.output),
            "base_url": settings.base_url and without_user(settings.base_url),
        },
        "rows": [plan.rows.start, plan.rows.stop],
        "parts": {
            "count": report.parts,
            "rows": plan.part_rows,
            "resumed": report.resumed_parts,
            "rows_by_processor": report.rows_by_processor,
        },
        **({"cluster": report.cluster} if report.cluster is not None else {}),
        "first_bad_row": report.first_bad_row and asdict(report.first_bad_row),
        "counts": {name: getattr(report, name) for name in COUNTS},
        "started": started.isoformat(timespec="seconds"),
        "finished": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "elapsed_s": report.elapsed_s,
        "check": report.check.as_dict(),
        "invariance": report.invariance.as_dict(),
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


def manifest_bytes(found: dict[str, Any]) -> bytes:
    return (json.dumps(found, indent=2) + "\n").encode()


def read_provenance(place: Place) -> dict[str, Any]:
    """The provenance of a completions file: from its footer, or from the manifest beside it.

    Raises
    ------
    InputError
        Where the file is missing or holds none.
    """
    file, manifest = place, manifest_of(place)
    if not file.is_file():
        raise InputError(
            f"{place.name}: no such file; expected a completions file. Check the path."
        )
    is_parquet = format_of(place.path) is Format.PARQUET
    try:
        if is_parquet:
            with file.open() as stream:
                footer = pq.read_metadata(stream).metadata or {}
            found = footer.get(FOOTER_KEY.encode())
            if found is not None:
                return as_object(_loaded(found), f"{place.name}: its provenance", InputError)
        elif manifest.exists():
            return read_manifest(place)
    except (pa.ArrowException, OSError, ValueError, RecursionError, MemoryError) as e:
        raise InputError(
            f"{place.name}: not readable ({cut(str(e))}); expected a completions file of "
            "`runner batch`. Copy it again from its source."
        ) from None
    raise InputError(
        f"{place.name}: no provenance; expected a file that `runner batch` wrote"
        + ("." if is_parquet else f", with {PurePosixPath(manifest.path).name} beside it.")
    )


def read_manifest(output: Place) -> dict[str, Any]:
    """What the manifest beside an output says: its provenance, its length and its hash.

    Raises
    ------
    InputError
        Where there is none.
    """
    manifest = manifest_of(output)
    try:
        found = _loaded(manifest.read_bytes() if manifest.n_bytes() <= MOST_BYTES else b"")
    except (OSError, ValueError, RecursionError) as e:
        said = "no such file" if isinstance(e, FileNotFoundError) else cut(str(e))
        raise InputError(
            f"{manifest.name}: {said}; expected the manifest that was written beside "
            f"{output.name}. Copy it along."
        ) from None
    return as_object(found, manifest.name, InputError)


def is_as_written(output: Place, manifest: dict[str, Any]) -> bool:
    """Whether an output is, to the byte, the file that its manifest tells of."""
    written, found = manifest.get("file"), fingerprint(output)
    return isinstance(written, dict) and all(
        found[name] == written.get(name) for name in ("bytes", "sha256")
    )


def _loaded(text: bytes) -> Any:
    found = json.loads(text)
    if is_deep(found):
        raise ValueError("nested too deeply")
    return found
