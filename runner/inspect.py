"""What `runner inspect` prints: where a file or an exported folder came from."""

import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from exporter import open_package

from .errors import InputError
from .messages import cut, printable
from .places import READ_ONLY, Place, explained, place_of, scheme_of, shown_place
from .provenance import read_provenance
from .report import places_in_words
from .store_errors import StoreError
from .tables import table
from .writer import read_rows

# What goes wrong with values that are not those of a job.
FOREIGN = (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError)
NUMBER = r"\.\d+\."  # of a block, in a name


def inspect_path(source: str | Path, *, as_json: bool = False) -> str:
    """The provenance of a completions file, or the manifest of an exported folder.

    Parameters
    ----------
    source : str or Path
        What `runner batch` or `runner export` wrote; as text, also an address of an object store.
    as_json : bool
        All of it as JSON; otherwise in short lines.

    Raises
    ------
    InputError, ExportError
        Where there is none, or an export's files are not what was written.
    """
    place = _place(source)
    package = _package(place)
    if package is not None:
        found = open_package(package).manifest
    else:
        with explained(place, InputError):
            found = read_provenance(place)
    try:
        if as_json:
            # DEL is the one control character that JSON leaves as it is.
            return json.dumps(found, indent=2).replace("\x7f", "\\u007f")
        lines = _package_lines(found) if package is not None else _job_lines(found)
        return "\n".join(map(_one_line, lines))
    except FOREIGN as e:
        raise InputError(f"{place.name}: {_foreign(e)}") from None


def _place(source: str | Path) -> Place:
    if isinstance(source, Path):
        return Place.local(source)
    if scheme_of(source) in READ_ONLY:
        raise InputError(
            f"{shown_place(source)}: what is on the web cannot be looked at there; expected a "
            "path, or an address of an object store. Fetch it and its manifest first."
        )
    return place_of(source)


def _package(place: Place) -> Path | None:
    """The exported folder that a place is."""
    path = Path(place.path)
    return path if place.is_local and path.is_dir() else None


def _one_line(text: str) -> str:
    """A line that stays one: a value in it cannot write others."""
    return printable(text.replace("\n", "\\n"))


def _foreign(error: Exception) -> str:
    return (
        f"its provenance is not complete ({type(error).__name__}: {cut(str(error))}); expected "
        "what `runner` wrote. Make the file again."
    )


def first_rows(source: str | Path, n_rows: int) -> Iterator[str]:
    """Prompts and completions from the start of a completions file, a line each."""
    place = _place(source)
    if not n_rows or _package(place) is not None:
        return
    try:
        settings = read_provenance(place)["settings"]
        prompt, prefix = settings["prompt_column"], settings["column_prefix"]
        answer, error = f"{prefix}completion", f"{prefix}error"
        for row in islice(read_rows(place, [prompt, answer, error]), n_rows):
            told = f"error: {row[error]}" if row[answer] is None else repr(row[answer])
            yield _one_line(f"{row[prompt]!r} -> {told}")
    except StoreError as e:
        raise InputError(f"{place.name}: {e}") from None
    except (*FOREIGN, pa.ArrowException, OSError, MemoryError) as e:
        raise InputError(f"{place.name}: {_foreign(e)}") from None


def _job_lines(found: dict[str, Any]) -> list[str]:
    counts, check = found["counts"], found["check"]
    return [
        f"input        {found['input']['path']}",
        *_model_lines(found["model"]),
        f"rows         {counts['rows']:,}, {counts['bad_rows']:,} of them bad",
        f"tokens       {counts['prompt_tokens']:,} in, {counts['completion_tokens']:,} out",
        f"time         {found['started']}, {found['elapsed_s']['total']:,} s",
        *(
            [f"engine       {_engine(found)}", *_cluster_lines(found.get("cluster"))]
            if "shards" not in found
            else [f"shards       {len(found['shards'])}, each with an engine of its own"]
        ),
        f"check        {_verdict(check)}",
        *(f"             {row}" for row in check["offending"]),
        *([f"int8         {_loss(check['int8'])}"] if check["int8"] else []),
        "settings     " + _pairs(found["settings"]),
        "versions     " + _pairs(found["versions"]),
    ]


def _package_lines(found: dict[str, Any]) -> list[str]:
    lines = [
        f"made by      {found['made_by']}, opset {found['opset']}, target {found['target']}",
        *_model_lines(found["model"]),
    ]
    rows = [("file", "bytes", "graph", "inputs", "parity")]
    graphs: dict[str, tuple[str, str, str]] = {}
    for dtype, variant in found["variants"].items():
        parity = variant["parity"]
        if parity:
            lines.append(f"{dtype:12} {_cost(parity['record'])}")
        for name, graph in variant["graphs"].items():
            said = _short_verdict(parity["checks"][name]) if parity else "not checked"
            graphs[graph["file"]] = f"{name}, {dtype}", _names(graph["inputs"]), said
    for name, file in found["files"].items():
        rows.append((name, f"{file['bytes']:,}", *graphs.get(name, ("", "", ""))))
    return [*lines, "", *table(rows, right=[1])]


def _cost(record: dict[str, Any]) -> str:
    return (
        f"{'ok' if record['agrees'] else 'FAILED'}: on {record['positions']} tokens of text, "
        f"logits differ from float32 NumPy by {record['max_abs_diff']:.2g} at most, "
        f"{record['mean_abs_diff']:.2g} on average; same choice at {record['top1_agreement']:.2%}; "
        f"KL {record['kl_mean']:.2g}; perplexity {record['perplexity_change']:+.3%}"
    )


def _short_verdict(check: dict[str, Any]) -> str:
    verdict = "ok" if check["agrees"] else "FAILED"
    return f"{verdict}, {check['max_abs_diff']:.2g} (of {check['tolerance']:.2g})"


def _model_lines(model: dict[str, Any]) -> list[str]:
    return [
        f"model        {model['name']} ({_pairs(model['hparams'])})",
        f"weights      sha256 {model['weights_sha256']}",
        f"tokenizer    sha256 {model['tokenizer_sha256']}",
    ]


def _engine(found: dict[str, Any]) -> str:
    engine, settings = found["engine"], found["settings"]
    threads = found["cluster"]["cpus_per_task"] if "cluster" in found else settings["threads"]
    return (
        f"{settings['dtype']}, {threads} threads, up to {engine['most_slots']} rows "
        f"together; prefill {engine['prefill_tokens_per_s']:,.0f} tokens/s, decode "
        f"{engine['decode_tokens_per_s']:,.0f} tokens/s; "
        f"{engine['peak_bytes'] / 2**20:,.0f} MiB at most"
    )


def _cluster_lines(cluster: dict[str, Any] | None) -> list[str]:
    if cluster is None:
        return []
    return [f"cluster      {places_in_words(cluster)}; the engine's figures are a task's"]


def _loss(int8: dict[str, Any]) -> str:
    return (
        f"{int8['rms_in_std']:.1%} of the logits' spread from float32 (rms), same choice at "
        f"{int8['top1_agreement']:.1%}, KL {int8['kl_divergence']:.2g}"
    )


def _verdict(check: dict[str, Any]) -> str:
    if not check["rows"]:
        return "none"
    return (
        f"{'ok' if check['agrees'] else 'FAILED'}: {check['rows']} rows, "
        f"{check['positions']} positions, max difference {check['max_abs_diff']:.2g} "
        f"(tolerance {check['tolerance']:.2g}), near ties {check['near_ties']}, "
        f"disagreements {check['disagreements']}"
    )


def _names(shapes: dict[str, str]) -> str:
    """A graph's inputs; of those that each block has, what they end with."""
    names: dict[str, list[str]] = {}
    for name in dict.fromkeys(re.sub(NUMBER, ".N.", name) for name in shapes):
        stem, dot, end = name.rpartition(".")
        names.setdefault(stem or name, []).append(dot + end if stem else "")
    return ", ".join(stem + ", ".join(ends) for stem, ends in names.items())


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())
