"""The check in other programs: what it lets pass, and what it must not."""

import json
import shutil
import sys
from dataclasses import replace
from itertools import islice

import numpy as np
import onnxruntime
import pytest

from exporter import ExportError, export
from reference import gpt2, greedy
from runner import ExitCode
from runner.check import check_directory, exit_code, summary
from runner.comparison import compare
from runner.parity import parity_record
from runner.runtimes import RUNTIMES, Runtime, RuntimeMissingError
from runner.runtimes.node import NodeError, NodeScript, node_package

BAD_TOLERANCES = ["0.5", -1.0, float("nan"), float("inf"), 1, True, [0.5]]


@pytest.fixture(scope="module")
def folder(demo, tmp_path_factory):
    return export(
        demo,
        tmp_path_factory.mktemp("runtimes") / "x",
        n_ctx=24,
        dtypes=["float32", "float16", "int8"],
        verify=parity_record,
    ).directory


class Session:
    """onnxruntime, by itself."""

    def __init__(self, graph, threads):
        self.graph = graph
        self.session = onnxruntime.InferenceSession(str(graph.path))

    def run(self, outputs, feeds):
        assert list(feeds) == self.graph.inputs
        return self.session.run(outputs, feeds)


def check(monkeypatch, folder, **runtime):
    made = Runtime("mine", lambda: "1.2.3", **runtime)
    monkeypatch.setitem(RUNTIMES, "mine", made)
    return check_directory(folder, 1, runtimes=["mine"], n_prompts=9, n_new=5)


def test_a_runtime_that_is_right(monkeypatch, folder):
    rows = check(monkeypatch, folder, open=Session)
    assert [(row.dtype, row.graph) for row in rows] == [
        (dtype, graph)
        for dtype in ("float32", "float16", "int8")
        for graph in ("with_past", "forward", "next_logits")
    ]
    assert all(row.status == "ok" and row.version == "1.2.3" for row in rows)
    assert exit_code(rows) == ExitCode.DONE
    assert rows[0].tokens.positions == 2 * 9 * 5  # padded on either side
    assert rows[0].tokens.other_rows == 0
    assert rows[1].tokens is None
    text = summary(rows)
    assert "90/90" in text
    assert "18/18" in text
    assert len(text.splitlines()) == 10


def disturbed(change):
    class Disturbed(Session):
        def run(self, outputs, feeds):
            logits, *rest = super().run(outputs, feeds)
            return [change(logits.copy(), feeds), *rest]

    return Disturbed


def larger(logits, _):
    return logits * np.float32(1.02)


def one_row_off(logits, _):
    logits[-1, ..., 5] += 0.5
    return logits


def blind_to_padding(logits, feeds):
    mask = feeds.get("attention_mask")
    if mask is not None and not mask[:, 0].all():
        logits[...] = 0
    return logits


def as_float64(logits, _):
    return logits.astype(float)


def cut_short(logits, _):
    return logits[..., :-1]


def not_a_number(logits, _):
    logits[0, ..., 3] = np.nan
    return logits


@pytest.mark.parametrize(
    "change", [larger, one_row_off, blind_to_padding, as_float64, cut_short, not_a_number]
)
def test_a_runtime_that_is_wrong(monkeypatch, folder, change):
    rows = check(monkeypatch, folder, open=disturbed(change))
    assert rows[0].status == "FAILED"
    assert exit_code(rows) == ExitCode.DISAGREES
    assert "mine float32 with_past: " in summary(rows)


def test_a_runtime_that_fails_is_one_row_of_many(monkeypatch, folder):
    class Broken(Session):
        def __init__(self, graph, threads):
            if graph.path.name == "forward_fp16.onnx":
                raise RuntimeError("no kernel\nfor this")
            super().__init__(graph, threads)

    rows = check(monkeypatch, folder, open=Broken)
    assert [row.status for row in rows].count("FAILED") == 1
    assert rows[4].failed == "RuntimeError: no kernel for this"
    assert exit_code(rows) == ExitCode.DISAGREES


def generator(demo, change):
    def make(package, dtype, threads):
        def generate(prompts, n_new):
            answers = []
            for ids in prompts:
                new = list(islice(greedy(ids, demo.params, 4), n_new))
                eos = demo.tokenizer.eos_id
                new = new[: new.index(eos) + 1] if eos in new else new
                answers.append(change(new))
            return answers

        return generate

    return make


def test_a_program_that_generates_by_itself(monkeypatch, folder, demo):
    rows = check(monkeypatch, folder, generator=generator(demo, lambda new: new))
    assert [(row.dtype, row.graph) for row in rows] == [
        (dtype, "with_past") for dtype in ("float32", "float16", "int8")
    ]
    assert rows[0].status == "ok"
    assert rows[0].logits is None
    assert rows[0].tokens.rows == 9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda new: [*new[:-1], (new[-1] + 1) % 2000], "choices differ"),
        (lambda new: [7, *new[1:]], "choices differ"),
        (lambda new: [], "0 tokens; expected 5"),
        (lambda new: [7], "1 tokens; expected 5"),
        (lambda new: [*new[:4], 7, 7, 7, 7], "8 tokens; expected 5"),
        (lambda new: [7] * 100, "100 tokens; expected 5"),
        (lambda new: [*new[:-1], 2304], "2304 is no id; expected 0 to 2303"),
        (lambda new: [*new[:-1], -1], "-1 is no id"),
        (lambda new: [1.5, *new[1:]], "1.5 is no id"),
        (lambda new: [None, *new[1:]], "null is no id"),
    ],
)
def test_a_program_that_generates_something_else(monkeypatch, folder, demo, change, message):
    rows = check(monkeypatch, folder, generator=generator(demo, change))
    assert rows[0].status == "FAILED"
    assert exit_code(rows) == ExitCode.DISAGREES
    assert message in summary(rows)


def test_a_near_tie_excuses_no_other_token(demo):
    """With the tolerance of int8 the two best are often close: the lowest of all is wrong still."""
    logits = gpt2(np.array([5]), **demo.params, n_head=4)[0]
    first, second = np.argsort(-logits)[:2]
    logits[second] = logits[first] - 0.1
    for chosen, near, wrong in ((second, 1, 0), (np.argmin(logits), 0, 1)):
        one = compare(logits[None], logits[None], chosen=np.array([chosen]), tolerance=0.5)
        assert (one.near_ties, one.disagreements) == (near, wrong)


def test_a_name_that_is_not_here(monkeypatch, folder):
    def version():
        raise RuntimeMissingError("not installed: pip install it")

    monkeypatch.setitem(RUNTIMES, "mine", replace(RUNTIMES["tract"], name="mine", version=version))
    with pytest.raises(RuntimeMissingError, match="--runtime mine: not installed: pip install it"):
        check_directory(folder, 1, runtimes=["mine"])
    monkeypatch.setattr("runner.check.RUNTIMES", {"mine": RUNTIMES["mine"]})
    (row,) = check_directory(folder, 1)
    assert (row.status, row.skipped) == ("skipped", "not installed: pip install it")
    assert exit_code([row]) == ExitCode.FAILED
    assert "nothing was compared with the reference" in summary([row])


def test_what_compares_nothing_proves_nothing(monkeypatch, folder, demo):
    monkeypatch.setitem(
        RUNTIMES, "mine", Runtime("mine", lambda: "1", generator=generator(demo, lambda new: new))
    )
    rows = check_directory(folder, 1, runtimes=["mine"], n_prompts=0)
    assert {row.skipped for row in rows} == {"no prompts to complete"}
    assert exit_code(rows) == ExitCode.FAILED
    more = check_directory(folder, 1, runtimes=["mine", "onnxruntime"], n_prompts=0)
    assert exit_code(more) == ExitCode.DONE


@pytest.mark.parametrize("n_new", [23, 24, 1000])
def test_more_new_tokens_than_find_room(monkeypatch, folder, n_new):
    """As many as do are generated, and compared."""
    rows = check_directory(folder, 1, runtimes=["onnxruntime"], n_prompts=2, n_new=n_new)
    assert rows[0].tokens.positions == 2 * 2 * 23
    assert exit_code(rows) == ExitCode.DONE


@pytest.mark.parametrize(
    "parity", [None, {}, [], "x", {"tolerance": None}, *({"tolerance": t} for t in BAD_TOLERANCES)]
)
@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_a_format_without_its_record_is_not_checked_by_another(folder, tmp_path, dtype, parity):
    copy = shutil.copytree(folder, tmp_path / "copy")
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["variants"][dtype]["parity"] = parity
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ExportError, match=f"manifest.json: the tolerance of {dtype} is"):
        check_directory(copy, 1, runtimes=["onnxruntime"], n_prompts=0)


def test_a_slow_one_is_run_where_it_is_named(monkeypatch, folder):
    slow = Runtime("mine", lambda: "1", open=Session, slow=True)
    monkeypatch.setattr("runner.check.RUNTIMES", {"mine": slow})
    (row,) = check_directory(folder, 1)
    assert (row.status, row.skipped) == ("skipped", "slow: name it with --runtime")
    assert len(check_directory(folder, 1, runtimes=["mine"], n_prompts=0)) == 9


# The way to Node, with a script in its place.


@pytest.fixture
def node(monkeypatch, tmp_path):
    """A `node` that answers as Python says."""

    def install(body):
        bin_folder = tmp_path / "bin"
        bin_folder.mkdir()
        script = f"#!{sys.executable}\nimport json, sys\n{body}\n"
        (bin_folder / "node").write_text(script)
        (bin_folder / "node").chmod(0o755)
        package = tmp_path / "node_modules" / "some"
        package.mkdir(parents=True)
        (package / "package.json").write_text(json.dumps({"version": "9.8.7"}))
        (tmp_path / "below").mkdir()
        monkeypatch.chdir(tmp_path / "below")
        monkeypatch.setenv("PATH", str(bin_folder), prepend=":")

    return install


def test_a_script_that_answers_between_what_libraries_print(node):
    node("for line in sys.stdin: print('hello'); print(line.strip(), flush=True)")
    assert node_package("some")() == "9.8.7"
    ask = NodeScript("x.mjs", "some")
    assert ask({"a": [1]}) == {"a": [1]}
    assert ask({"b": "é"}) == {"b": "é"}


@pytest.mark.parametrize("body", ["sys.exit('Error: no memory')", "input(); sys.exit('Error: no')"])
def test_a_script_that_dies(node, body):
    node(body)
    ask = NodeScript("x.mjs", "some")
    with pytest.raises(NodeError, match="the script in Node ended: Error: no"):
        ask({})


def test_without_node(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeMissingError, match="Node is not there"):
        node_package("some")()
