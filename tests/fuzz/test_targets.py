"""Every parser on files that were changed: see law.py for what must hold.

hypothesis chooses the changes; `make fuzz` goes on from there with atheris.
"""

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import law, run, targets

EXAMPLES = {"check": 8, "jsonl": 25, "package": 25, "parquet": 40}
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
        assert target.try_input(data) is None, name


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
    assert n_refused or name in ("cache", "check", "jsonl", "line"), "nothing was damaged"


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
