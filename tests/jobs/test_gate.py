"""The gate: what passes, what fails, and what it says."""

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.gate import judge
from jobs.results import Metric
from tests.jobs.nights import result, row, spec, task


def run(*correct, shift=0.0, **more):
    rows = [row(n, c, -1.0 - n / 7 + shift) for n, c in enumerate(correct)]
    return result(t=task(rows), **more)


RIGHT, WRONG = [1] * 30, [0] * 30


def verdicts(gate):
    return {(f.task, f.metric): f.verdict for f in gate.findings}


def finding(gate, metric="acc"):
    (found,) = [f for f in gate.findings if f.metric == metric]
    return found


def test_the_same_run_passes():
    gate = judge(spec(), run(*RIGHT), run(*RIGHT))
    assert gate.verdict == "passed"
    assert {f.verdict for f in gate.findings} == {"same"}
    assert gate.flipped == gate.notes == []
    assert gate.baseline == {"name": "good", "run": "r1", "started": "2026-03-01T03:00:00+00:00"}


def test_rows_that_are_wrong_now_fail_it_and_are_told():
    now = [0] * 6 + [1] * 24
    gate = judge(spec(), run(*now), run(*RIGHT))
    found = finding(gate)
    assert gate.failed
    assert (found.verdict, found.paired, found.rows) == ("regression", True, 30)
    assert found.difference == pytest.approx(-0.2)
    # Six of thirty: the binomial's standard error, with n - 1.
    assert found.stderr == pytest.approx(math.sqrt(0.2 * 0.8 / 29))
    assert "worse by 0.2 than 1 (2.7 standard errors; 30 rows, paired)" in found.reason
    assert [(flip.id, flip.was_correct, flip.is_correct) for flip in gate.flipped] == [
        (f"row {n}", True, False) for n in range(6)
    ]
    flip = gate.flipped[2]
    assert (flip.prompt, flip.expected, flip.before, flip.after) == ("2 follows", " 3", " 3", " 7")


def test_few_flips_are_noise_unless_z_says_not():
    now = [0] * 3 + [1] * 27
    assert judge(spec(), run(*now), run(*RIGHT)).verdict == "passed"
    assert finding(judge(spec(), run(*now), run(*RIGHT))).verdict == "same"
    assert judge(spec(z=1.5), run(*now), run(*RIGHT)).failed


def test_wrong_rows_come_first_and_better_is_told():
    before = [0] * 10 + [1] * 20
    now = [1] * 10 + [1] * 19 + [0]
    gate = judge(spec(), run(*now), run(*before))
    assert gate.verdict == "passed"
    assert finding(gate).verdict == "better"
    assert [flip.is_correct for flip in gate.flipped] == [False] + [True] * 10


def test_what_is_allowed_is_let_pass_and_said():
    now = [0] * 6 + [1] * 24
    gate = judge(spec(allow={"acc": 0.2000001}), run(*now), run(*RIGHT))
    assert gate.verdict == "passed"
    assert finding(gate).verdict == "worse"
    assert "is let pass" in finding(gate).reason
    assert judge(spec(allow={"acc": 0.19}), run(*now), run(*RIGHT)).failed


def test_perplexity_is_judged_on_the_scale_of_its_rows():
    """Every row a little worse, by nearly the same: tiny beside the spread of rows, and certain."""
    before = result(t=task([row(n, 1, -1.0 - n) for n in range(30)]))
    now = result(t=task([row(n, 1, -1.01 - n - n % 3 / 1000) for n in range(30)]))
    gate = judge(spec(), now, before)
    found = finding(gate, "perplexity")
    assert verdicts(gate)["t", "perplexity"] == "regression"
    assert verdicts(gate)["t", "bits"] == "regression"
    assert found.difference > 0
    shift = 0.01 + 1 / 1000
    sd = math.sqrt(20 / 29) / 1000  # of 0, 1, 2 in thousandths, ten times each
    errors = shift / (sd / math.sqrt(30))
    assert f"({errors:.1f} standard errors" in found.reason
    assert found.stderr == pytest.approx(found.difference / errors, rel=1e-3)


def test_other_rounding_is_no_change_unless_the_job_file_says_so():
    now = run(*RIGHT, shift=-1e-7)
    assert {f.verdict for f in judge(spec(), now, run(*RIGHT)).findings} == {"same"}
    strict = judge(spec(allow={"perplexity": 0}), now, run(*RIGHT))
    assert finding(strict, "perplexity").verdict == "regression"


def test_rows_that_changed_are_compared_without_pairs_and_counted():
    def other(n_common):
        rows = [row(n if n < n_common else n + 100, n % 3 > 0) for n in range(30)]
        return result(t=task(rows))

    now = run(*[n % 3 > 0 for n in range(30)])
    found = finding(judge(spec(), now, other(28)))
    assert (found.paired, found.rows, found.verdict) == (False, 28, "same")
    assert "28 rows of both, 2 only now, 2 only in the baseline" in found.reason
    found = finding(judge(spec(), now, other(0)))
    assert (found.paired, found.rows) == (False, 0)
    one = now.tasks["t"].metrics[0].stderr
    assert found.stderr == pytest.approx(one * math.sqrt(2))


@pytest.mark.parametrize(
    ("n_now", "n_before", "said"),
    [(2, 30, "2 of its 30, and 0 more"), (30, 4, "4 of its 4, and 26 more")],
)
def test_rows_that_only_one_run_has_are_no_secret(n_now, n_before, said):
    """A file that lost its hard rows makes a model look better."""
    gate = judge(spec(), run(*RIGHT[:n_now]), run(*RIGHT[:n_before]))
    assert gate.notes == [f"other rows than the baseline's: t has {said}"]


def alone(value, name="ratio", stderr=None, *, better=True):
    """A metric that follows from no rows."""
    return Metric(name, value, stderr, 5, better)


def with_metric(*args, **more):
    return result(t=task([row(n, 1) for n in range(5)], alone(*args, **more)))


def test_without_rows_allow_alone_decides():
    now, before = with_metric(0.8), with_metric(1.0)
    # Where such figures vary from night to night, they are let pass; a plain number is not.
    for kind, verdict, said in (
        ("throughput", "passed", "worse"),
        ("python", "failed", "regression"),
    ):
        wanted = spec()
        wanted.tasks["t"] = replace(wanted.tasks["t"], kind=kind)
        gate = judge(wanted, now, before)
        assert (gate.verdict, finding(gate, "ratio").verdict) == (verdict, said)
        assert ("`allow` does not name it" in finding(gate, "ratio").reason) == (said == "worse")
    assert judge(spec(allow={"ratio": 0.1}), now, before).failed
    gate = judge(spec(allow={"ratio": 0.3}), now, before)
    assert (gate.verdict, finding(gate, "ratio").verdict) == ("passed", "worse")
    assert finding(judge(spec(), before, now), "ratio").verdict == "better"
    # Where lower is better, the other way round.
    now, before = with_metric(0.8, better=False), with_metric(1.0, better=False)
    assert finding(judge(spec(), now, before), "ratio").verdict == "better"
    assert judge(spec(allow={"ratio": 0.1}), before, now).failed


def test_a_speed_is_neither_better_nor_worse():
    wanted = spec()
    wanted.tasks["t"] = replace(wanted.tasks["t"], kind="throughput")
    now, before = (with_metric(speed, "tokens_per_s") for speed in (10.0, 1000.0))
    gate = judge(wanted, now, before)
    assert (gate.verdict, ("t", "tokens_per_s") in verdicts(gate)) == ("passed", False)
    assert judge(wanted, run(*RIGHT[:5]), before).failed  # it has to be there


def test_without_rows_standard_errors_count_where_there_are_some():
    now, before = with_metric(0.8, stderr=0.03), with_metric(1.0, stderr=0.04)
    found = finding(judge(spec(), now, before), "ratio")
    assert (found.verdict, found.stderr) == ("regression", pytest.approx(0.05))
    assert "4.0 standard errors; not paired" in found.reason
    assert judge(spec(z=4.1), now, before).verdict == "passed"


def test_metrics_that_are_made_otherwise_are_not_paired():
    before = run(*RIGHT[:5], *WRONG[:5])
    task_now = before.tasks["t"]
    changed = [replace(m, of="loglikelihood") if m.name == "acc" else m for m in task_now.metrics]
    now = replace(before, tasks={"t": replace(task_now, metrics=changed)})
    assert not finding(judge(spec(), now, before)).paired


@pytest.mark.parametrize("better", [True, False])
def test_one_row_has_no_standard_error_and_any_change_counts(better):
    gate = judge(spec(), run(0), run(1))
    assert finding(gate).verdict == "regression"
    assert finding(gate).stderr is None


def without(found, name):
    of = found.tasks["t"]
    kept = [m for m in of.metrics if m.name != name]
    return replace(found, tasks={"t": replace(of, metrics=kept)})


def test_a_missing_metric_fails():
    gate = judge(spec(), without(run(*RIGHT), "acc"), run(*RIGHT))
    assert gate.failed
    found = finding(gate)
    assert (found.verdict, found.value, found.before) == ("missing", None, 1.0)
    for named in ({"thresholds": {"acc": (0.1, None)}}, {"allow": {"acc": 0.1}}):
        gate = judge(spec(**named), without(run(*RIGHT), "acc"), None)
        assert gate.failed
        assert verdicts(gate) == {("t", "acc"): "missing"}
    assert not judge(spec(), run(*RIGHT), without(run(*RIGHT), "acc")).failed


def test_a_missing_task_fails_and_says_why():
    gate = judge(spec(), result(), run(*RIGHT))
    assert gate.failed
    assert {f.verdict for f in gate.findings} == {"missing"}
    assert "the task is not in this run" in gate.findings[0].reason
    failed = replace(result(), failed={"t": "no such file"})
    gate = judge(spec(), failed, run(*RIGHT))
    assert "the task failed: no such file" in gate.findings[0].reason
    gate = judge(spec(thresholds={"acc": (0.5, None)}), failed, None)
    assert verdicts(gate) == {("t", "acc"): "missing"}


def test_what_is_new_passes():
    gate = judge(spec(tasks=("t", "u")), result(t=task([row(0, 1)]), u=task([row(0, 1)])), run(1))
    assert gate.verdict == "passed"
    assert verdicts(gate)["u", "acc"] == "new"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_number_fails(value):
    found = with_metric(value)
    for before in (None, with_metric(1.0), result(t=task([row(0, 1)]))):
        for more in ({}, {"thresholds": {"ratio": (None, None)}}):
            gate = judge(spec(**more), found, before)
            assert gate.failed
            assert any(f.fails and f.metric == "ratio" for f in gate.findings)
    gate = judge(spec(), with_metric(1.0), with_metric(value))
    assert (gate.verdict, finding(gate, "ratio").verdict) == ("passed", "new")


@pytest.mark.parametrize(
    ("bounds", "fails"),
    [
        ((0.5, None), False),
        ((None, 0.5), False),
        ((0.51, None), True),
        ((None, 0.49), True),
        ((0.5, 0.5), False),
        ((None, None), False),
    ],
)
def test_thresholds_hold_without_a_baseline(bounds, fails):
    gate = judge(spec(thresholds={"acc": bounds}), run(0, 1), None)
    assert gate.failed == fails
    assert gate.baseline is None
    assert verdicts(gate) == ({("t", "acc"): "threshold"} if fails else {})
    assert "no baseline yet in baselines: only thresholds are judged" in gate.notes[0]
    assert "--bless good" in gate.notes[0]


def test_a_threshold_and_the_baseline_are_two_findings():
    now = [0] * 20 + [1] * 10
    gate = judge(spec(thresholds={"acc": (0.9, None)}), run(*now), run(*RIGHT))
    found = [f.verdict for f in gate.findings if f.metric == "acc"]
    assert sorted(found) == ["regression", "threshold"]


def test_nothing_to_hold_it_to():
    gate = judge(spec(), run(1), None)
    assert gate.verdict == "not gated"
    assert "nothing is judged" in gate.notes[0]


def test_another_baseline_is_compared_and_said():
    before = run(*RIGHT, job="other")
    before.model = before.model | {"dtype": "int8", "hparams": {"n_embd": 16, "n_layer": 2}}
    before.model["tokenizer_sha256"] = "a1b2c3d4" * 8
    before.kinds = {"t": "greedy"}
    now = run(*RIGHT)
    now.model = now.model | {"tokenizer_sha256": "e5f6a7b8" * 8}
    gate = judge(spec(), now, before)
    assert gate.verdict == "passed"
    said = "\n".join(gate.notes)
    for part in (
        "another tokenizer: a1b2c3d4; this run has e5f6a7b8",
        "job: other",
        "dtype: int8",
        "n_embd: 16",
        "kind of task, t: greedy",
    ):
        assert part in said
    assert "n_layer" not in said


def test_rows_without_right_or_wrong_do_not_flip():
    before = result(t=task([row(0, None), row(1, True), row(2, None)]))
    now = result(t=task([row(0, True), row(1, None), row(2, None)]))
    assert judge(spec(), now, before).flipped == []


def test_as_json():
    gate = judge(spec(thresholds={"acc": (1, None)}), run(0, 1, 1), run(1, 1, 1))
    found = json.loads(json.dumps(gate.as_dict()))
    assert found["verdict"] == "failed"
    assert {*found} == {"verdict", "baseline", "findings", "flipped", "notes"}
    assert {*found["findings"][0]} == {
        "task",
        "metric",
        "verdict",
        "value",
        "before",
        "difference",
        "stderr",
        "paired",
        "rows",
        "reason",
    }


cases = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40)


@given(cases, st.floats(0, 4), st.floats(0, 0.5))
def test_what_holds_of_any_two_runs(pairs, z, allow):
    now, before = (run(*of) for of in zip(*pairs, strict=True))
    gate = judge(spec(z=z, allow={"acc": allow}), now, before)
    other = judge(spec(z=z, allow={"acc": allow}), before, now)
    found, back = finding(gate), finding(other)
    # Swapped, what was better is worse by as much; and not both fail.
    assert found.difference == pytest.approx(-back.difference, abs=1e-12)
    assert found.stderr == pytest.approx(back.stderr, abs=1e-12)
    assert not (gate.failed and other.failed)
    # It fails where the two conditions of the rule hold, counted here by themselves.
    lost = sum(b and not a for a, b in pairs)
    won = sum(a and not b for a, b in pairs)
    n = len(pairs)
    d = (lost - won) / n
    variance = ((lost + won) / n - d * d) / (n - 1) if n > 1 else 0.0
    edge = abs(d - z * math.sqrt(variance)) < 1e-9 or abs(d - allow) < 1e-9
    if not edge:
        assert gate.failed == (d > allow and d > z * math.sqrt(variance))
    # More tolerance never fails what passed.
    assert not judge(spec(z=z + 1, allow={"acc": allow}), now, before).failed or gate.failed
    assert not judge(spec(z=z, allow={"acc": allow + 0.1}), now, before).failed or gate.failed
    assert len(gate.flipped) == lost + won


OLD, NEW = "Old (avx2)", "New (avx2 avx512f)"


@pytest.mark.parametrize(
    ("now", "before", "said"),
    [
        ([OLD], [OLD], []),
        ([OLD], ["Older (avx2)"], []),
        ([OLD], [], []),
        ([OLD], [3, None], []),
        ([OLD], [NEW], ["computed the baseline: avx2 avx512f; and this run: avx2"]),
        ([NEW, OLD], [NEW, OLD], ["computed this run: avx2; avx2 avx512f"]),
        (
            [NEW, OLD],
            [OLD],
            [
                "computed this run: avx2; avx2 avx512f",
                "computed the baseline: avx2; and this run: avx2; avx2 avx512f",
            ],
        ),
    ],
)
def test_processors_that_may_round_in_other_places_are_told(now, before, said):
    runs = []
    for processors in (now, before):
        runs.append(run(*RIGHT))
        cluster = {"cluster": {"processors": processors}}
        one = {"processor": processors[0] if processors else None}
        runs[-1].environment = cluster if len(processors) > 1 else one
    notes = judge(spec(), *runs).notes
    assert len(notes) == len(said)
    assert all(note.endswith(end) for note, end in zip(notes, said, strict=True)), notes
    alone = judge(spec(), runs[0], None).notes[1:]
    assert alone == (notes[:1] if len(now) > 1 else [])
