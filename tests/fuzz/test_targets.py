"""Every parser on files that were changed: see law.py for what must hold.

hypothesis chooses the changes; `make fuzz` goes on from there with atheris.
"""

import hashlib
import random
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import job_calls, job_seeds, law, run, targets
from tests.fuzz.target import UNTOUCHED

EXAMPLES = {
    "check": 8,
    "jsonl": 25,
    "package": 25,
    "parquet": 40,
    "requests": 25,
    "folder": 25,
    "options": 30,
}
ODD_FILES = [
    ("job.json", "link"),
    ("job.json", "fifo"),
    ("answers.json", "fifo"),
    ("part-00000.json", "link"),
    ("<part>", "fifo"),
    ("<part>", "link"),
    ("<part>", "folder"),
    ("part-00000.json", "folder"),
    ("part-00000.jsonl", "fifo"),  # as files of parts were called before they had a hash
    ("part-00001-0123456789abcdef.jsonl", "link"),
    ("part-00001-0123456789abcdef.jsonl", "made"),
    ("part-00002-0123456789abcdef.jsonl", "folder"),
    ("part-00002-0123456789abcdef.jsonl", "full"),
    ("part-00001.jsonl", "link"),
    ("part-00001.jsonl", "made"),
    ("part-00002.jsonl", "folder"),
    ("tmp-00001.jsonl", "made"),
    ("tmp-01234567-00001.jsonl", "made"),
    ("tmp-answers.json", "link"),
    ("lock", "link"),
    ("lock", "made"),
    ("<parts>", "link"),
    ("<parts>", "made"),
    ("<parts>", "fifo"),
    ("<output>", "made"),
    ("<output>", "fifo"),
    ("<manifest>", "link"),
]
NEVER_REFUSED = ("cache", "check", "jsonl", "line", "requests")
NIGHTLY_SECONDS = 20


@pytest.fixture(scope="module", autouse=True)
def _seeds():
    targets.add_seeds()


@pytest.mark.parametrize("name", targets.TARGETS)
def test_real_files_are_read(name):
    target = targets.TARGETS[name]
    assert len(target.inputs()) == sum(
        max(1, len(target.seeds.get(file, ()))) for file in target.files
    )
    for data in target.inputs():
        error = target.try_input(data)
        # Places are of all kinds; the copied output is not what the copied manifest tells of.
        assert error is None or name in ("places", "resume"), f"{name}: {error}"


@pytest.mark.parametrize("name", targets.TARGETS)
def test_whatever_a_file_holds_we_answer_for_it(name):
    target = targets.TARGETS[name]
    inputs, n_refused = target.inputs(), 0

    @settings(
        max_examples=EXAMPLES.get(name, 80),
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(st.sampled_from(inputs), st.integers(0, 2**32), st.integers(1, 3))
    def obeys(data, seed, n_changes):
        nonlocal n_refused
        rng = random.Random(seed)
        for _ in range(n_changes):
            data = target.change(rng, data)
        n_refused += target.try_input(data) is not None

    obeys()
    assert n_refused or name in NEVER_REFUSED, "nothing was damaged"


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pipes with names")
@pytest.mark.parametrize(("file", "kind"), ODD_FILES)
def test_what_lies_in_the_place_of_a_file(file, kind):
    """Nothing is read or written through a link, and no pipe is waited for."""
    target = targets.TARGETS["folder"]
    target.try_input(b"\0" + job_calls.folder_input([[file, kind]]))


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_link_to_just_what_a_part_is_said_to_be():
    """Nobody's file is taken for a part, though its hash is the one in the record."""
    record = job_seeds.sealed_files()["part-00000.json"]
    found = {"n_bytes": len(UNTOUCHED), "sha256": hashlib.sha256(UNTOUCHED).hexdigest()}
    changed = record | {"record": record["record"] | found}
    odd = [["part-00000.jsonl", "link"], [f"part-00000-{found['sha256'][:16]}.jsonl", "link"]]
    data = job_calls.folder_input(odd, **{"part-00000.json": changed})
    assert targets.TARGETS["folder"].try_input(b"\0" + data) is None


def test_a_record_whose_hash_leads_elsewhere():
    """A part's file is called after its record, whose hash is only what somebody wrote there."""
    target = targets.TARGETS["folder"]
    record = job_seeds.sealed_files()["part-00000.json"]
    for sha256 in ("/../../in", "/../x", "\0", "", "\n", "A" * 64, "a" * 63, "\u00e9"):
        changed = record | {"record": record["record"] | {"sha256": sha256}}
        odd = [["part-00000-", "folder"]]
        data = job_calls.folder_input(odd, **{"part-00000.json": changed})
        assert target.try_input(b"\0" + data) is None


@pytest.mark.nightly
@pytest.mark.parametrize("name", targets.TARGETS)
def test_what_atheris_finds(name, tmp_path):
    if not run.is_installed():
        pytest.skip("atheris is not installed: pip install -e '.[fuzz]'")
    found = run.fuzz(name, NIGHTLY_SECONDS, tmp_path)
    assert not found.crashes, run.said(found.output)
    assert found.executions > 20


# The law itself must be able to fail.


def test_the_law_sees_what_breaks_it(tmp_path):
    outside = tmp_path.parent / "outside"
    outside.write_text("")

    def raises(error):
        raise error

    with pytest.raises(law.BreachError, match="opened or called outside"):
        law.obey(outside.read_bytes, tmp_path)
    with pytest.raises(law.BreachError, match="os.system"):
        law.obey(lambda: __import__("os").system("true"), tmp_path)
    with pytest.raises(ZeroDivisionError):
        law.obey(lambda: 1 // 0, tmp_path)
    with pytest.raises(law.BreachError, match="without a message"):
        law.obey(lambda: raises(law.PicobatchError()), tmp_path)
    assert law.obey(lambda: raises(law.PicobatchError("\x1b[2J")), tmp_path).args == ("\x1b[2J",)


def test_messages_are_short_and_harmless():
    error = law.PicobatchError("a\x1b]52;c;x\x07\u202e\x9b\ud800\r\n" + "b" * 10**6 + "what to do")
    assert str(error).startswith("a\\x1b]52;c;x\\x07\\u202e\\x9b\\ud800\\r\nbbb")
    assert str(error).endswith("bbwhat to do")
    assert len(str(error)) < 2100
