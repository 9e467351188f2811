"""Whole jobs on what other jobs left, and what must come of them."""

import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from reference import PicobatchError
from runner import RunReport, run
from runner.inspect import inspect_path
from runner.job_folder import file_hash
from runner.merge import merge
from runner.messages import printable
from runner.places import Place
from runner.provenance import FOOTER_KEY
from runner.sealed import seal

from . import job_seeds, mutate, seeds
from .job_seeds import OUTPUT, PARTS
from .law import BreachError, harmless
from .mutate import Random
from .target import OUTSIDE, write

ODD = ("link", "made", "fifo", "folder", "full")  # things in the place of files
SAID_AS = {"<parts>": PARTS, "<output>": OUTPUT, "<manifest>": f"{OUTPUT}.manifest.json"}
PART = "<part>"  # the file of the part that is done
NAMES = (
    *("job.json", "answers.json", "lock", "part-00000.json", "part-00000.jsonl"),
    *("part-00001.json", "part-00001.jsonl", "part-00002.jsonl", "part-99999999999999.jsonl"),
    *("part-00001-0123456789abcdef.jsonl", "part-00002-0123456789abcdef.jsonl", "part-00000-"),
    *("part-..-x.json", "tmp-job.json", "tmp-00001.jsonl", "tmp-output.jsonl"),
    *("tmp-01234567-job.json", "tmp-01234567-00001.jsonl", "tmp-01234567-output.jsonl"),
    *("tmp-manifest.json", "tmp-answers.json", *SAID_AS, PART),
)


def strictly(line: bytes) -> Any:
    """JSON as every parser takes it."""

    def refuse(constant: str) -> None:
        raise BreachError(f"{constant} is no JSON")

    return json.loads(line.decode(), parse_constant=refuse)


# Requests.


def answer_requests(folder: Path, name: str) -> None:
    """Each line gets its response, whatever it holds."""
    output = folder / "responses.jsonl"
    report = run(seeds.settings(folder / name, output, format="openai"))
    asked = [line for line in (folder / name).read_bytes().split(b"\n") if line.strip()]
    answers = output.read_bytes().split(b"\n")[:-1]
    if not len(asked) == len(answers) == report.rows:
        raise BreachError(f"{len(asked)} requests, {len(answers)} responses, {report.rows} rows")
    for line, answer in zip(asked, answers, strict=True):
        found = strictly(answer)
        wanted = None
        with contextlib.suppress(ValueError, RecursionError, AttributeError):
            wanted = json.loads(line.strip().removeprefix(b"\xef\xbb\xbf").decode()).get(
                "custom_id"
            )
        if found["custom_id"] != (wanted if isinstance(wanted, str) else None):
            raise BreachError(f"{line[:300]!r} was answered by {answer[:300]!r}")
        assert found["response"]["status_code"] in (200, 400)


# The folder of a job that was stopped.


def folder_input(odd: list[list[str]] | None = None, **sealed: Any) -> bytes:
    """An input of that target: content that is sealed, and odd things by name."""
    files = job_seeds.sealed_files() | sealed
    return json.dumps({"sealed": files, "odd": odd or []}).encode()


def change_folder(rng: Random, data: bytes) -> bytes:
    """What is sealed is another; or things are no files, or damaged."""
    kind = rng.randrange(10)
    if kind == 0:
        return mutate.change_bytes(rng, data)
    try:
        found = json.loads(data)
        if kind < 4:
            n_odd = rng.choice((1, 1, 2))
            found["odd"] = [[rng.choice(NAMES), rng.choice(ODD)] for _ in range(n_odd)]
            return json.dumps(found).encode()
        name = rng.choice(sorted(found["sealed"]))
        content = mutate.change_json(rng, json.dumps(found["sealed"][name]).encode())
        return json.dumps(
            found | {"sealed": {**found["sealed"], name: json.loads(content)}}
        ).encode()
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return mutate.change_json(rng, data)


def write_folder(folder: Path, _: str, content: bytes) -> None:
    """Sealed files and odd things; garbage is `job.json` as it is."""
    try:
        found = json.loads(content)
        sealed, odd = dict(found["sealed"]), list(found["odd"])
    except (ValueError, TypeError, LookupError, RecursionError):
        (folder / PARTS / "job.json").write_bytes(content)
        return
    for path in (folder / PARTS).glob("*.json"):
        path.unlink()
    for name, what in sealed.items():
        if _is_a_name(name):
            try:
                text = seal(what)
            except RecursionError:
                text = content
            (folder / PARTS / name).write_bytes(text)
    for entry in odd:
        if isinstance(entry, list) and len(entry) == 2 and _is_a_name(entry[0]):
            name = job_seeds.part_file() if entry[0] == PART else entry[0]
            path = folder / SAID_AS.get(name, f"{PARTS}/{name}")
            with contextlib.suppress(OSError):  # inside of what is odd itself
                _make_odd(path, folder.parent, entry[1])


def _is_a_name(name: Any) -> bool:
    if not isinstance(name, str) or name in ("", ".", "..") or "/" in name or "\0" in name:
        return False
    with contextlib.suppress(UnicodeEncodeError):
        return len(os.fsencode(name)) < 250
    return False


def _make_odd(path: Path, box: Path, kind: Any) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    if kind == "link":
        path.symlink_to(box / OUTSIDE)
    elif kind == "made":  # a link to what is made where somebody writes to it
        path.symlink_to(box / "made")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind in ("folder", "full"):
        path.mkdir()
        if kind == "full":
            (path / "theirs").write_text("theirs")
    else:
        path.write_text(str(kind), errors="replace")


def go_on(folder: Path, _: str) -> None:
    """The command that was stopped, again: its output, or a refusal; with --overwrite too."""
    expected = job_seeds.finished() if _has_real_answers(folder) else None
    try:
        _complete(folder, expected)
    except PicobatchError:
        with contextlib.suppress(PicobatchError):
            _complete(folder, expected, overwrite=True)
        raise


def _has_real_answers(folder: Path) -> bool:
    """Whether the answers are what the job had kept: others, well sealed, nobody can tell."""
    path = folder / PARTS / "answers.json"
    if path.is_symlink() or not path.is_file():
        return True
    return path.read_bytes() == job_seeds.answers()


def _complete(folder: Path, expected: bytes | None, *, overwrite: bool = False) -> None:
    output = folder / OUTPUT
    options = job_seeds.JOB | {"overwrite": overwrite}
    report = run(seeds.settings(folder / "in.jsonl", output, **options))
    _check_report(report, len(job_seeds.finished().splitlines()))
    if output.is_symlink():
        raise BreachError("an output that is a link")
    found = output.read_bytes()
    if expected is not None and found != expected:
        raise BreachError(f"another output: {found[:1000]!r}")
    clean = [strictly(line) for line in job_seeds.finished().splitlines()]
    for row, was in zip(map(strictly, found.splitlines()), clean, strict=True):
        if row.keys() != was.keys() or row.get("id") != was.get("id"):
            raise BreachError(f"another row: {row}")


def _check_report(report: RunReport, n_rows: int) -> None:
    assert harmless(printable(report.summary()))
    assert int(report.exit_code) in (0, 3, 4)
    if report.rows != n_rows or not 0 <= report.bad_rows <= n_rows:
        raise BreachError(f"{report.rows} rows are said, {report.bad_rows} of them bad")


# Shards.


def write_shard(folder: Path, name: str, content: bytes) -> None:
    """A manifest, one that all shards share, or a shard that its manifest tells of."""
    if name == "all":
        for n in range(job_seeds.SHARDS):
            _write_as(folder, n, content)
        return
    write(folder, name, content)
    if not name.endswith(".manifest.json"):
        manifest = folder / f"{name}.manifest.json"
        found = json.loads(manifest.read_bytes())
        n_bytes, sha256 = file_hash(Place.local(folder / name))
        found["file"] = {"bytes": n_bytes, "sha256": sha256}
        manifest.write_text(json.dumps(found))


def _write_as(folder: Path, n: int, content: bytes) -> None:
    """What the first shard's manifest says, for another one: with that one's rows and file."""
    manifest = folder / f"{job_seeds.shard(n)}.manifest.json"
    own = json.loads(manifest.read_bytes())
    try:
        found = json.loads(content)
        was = json.loads(
            (job_seeds.job_shards_dir() / f"{job_seeds.shard(0)}.manifest.json").read_bytes()
        )
        for name in ("rows", "file", "counts", "check"):
            if found[name] == was[name]:
                found[name] = own[name]
        place = found["key"]["settings"]["shard"]
        if place == [0, job_seeds.SHARDS]:
            place[0] = n
        text = json.dumps(found).encode()
    except (ValueError, TypeError, LookupError, RecursionError):
        text = content
    manifest.write_bytes(text)


def merge_shards(folder: Path, name: str) -> None:
    """The output of the whole job, or a refusal."""
    suffix = ".parquet" if "parquet" in name else ".jsonl"
    output = folder / f"o{suffix}"
    try:
        report = merge(str(output))
    except PicobatchError:
        if output.exists():
            raise BreachError("an output is there, though it was refused") from None
        raise
    clean = job_seeds.finished()
    _check_report(report, len(clean.splitlines()))
    told = json.loads((folder / f"o{suffix}.manifest.json").read_bytes())
    if told["rows"] != [0, report.rows] or told["counts"]["rows"] != report.rows:
        raise BreachError(f"{told['rows']} were said, {told['counts']} were counted")
    if suffix == ".jsonl" and output.read_bytes() != clean:
        raise BreachError("another output")
    if suffix == ".parquet" and name.endswith("json"):
        assert pq.read_table(output).num_rows == report.rows
    with contextlib.suppress(PicobatchError):
        assert harmless(printable(inspect_path(output)))


# Outputs that are done.


def write_finished(folder: Path, name: str, content: bytes) -> None:
    """A file, or the footer of the Parquet output."""
    if name != "footer":
        write(folder, name, content)
        return
    table = pq.read_table(folder / "o.parquet")
    table = table.replace_schema_metadata({FOOTER_KEY: content})
    pq.write_table(table, folder / "o.parquet")


def resume(folder: Path, name: str) -> None:
    """Taken as done, as it is; or refused."""
    output = folder / ("o.jsonl" if "jsonl" in name else "o.parquet")
    before = output.read_bytes()
    options = job_seeds.JOB | {"overwrite": False, "resume": True}
    try:
        report = run(seeds.settings(folder / "in.jsonl", output, **options))
    finally:
        if output.read_bytes() != before:
            raise BreachError("a finished output was changed")
    _check_report(report, len(job_seeds.finished().splitlines()))
