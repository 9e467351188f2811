"""lm-evaluation-harness with our engine, beside itself with transformers in float64."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from reference.models import DEMO_DIR
from runner.errors import InputError, SettingsError

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("default")]
ROOT = Path(__file__).parents[2]
# What float32 costs on these tasks and the demo model. Of metrics and their standard errors at most
# 1.1e-6 was measured, relative; of a request's log-likelihood 7.9e-6, of what it is or of 1.
METRIC_TOLERANCE = 4e-6
SCORE_TOLERANCE = 2e-5
# What 8 bits cost there, of a request's log-likelihood: at most 0.26 was measured, in half of them
# less than 0.002.
INT8_TOLERANCE = 0.5

FACTS = [json.loads(line) for line in (ROOT / "jobs" / "facts.jsonl").read_text().splitlines()]
PAGE = (ROOT / "CONTRIBUTING.md").read_text()  # some thousands of the demo model's tokens
# lm-eval 0.4.13 gives a continuation the scores of a longer one where two requests are the same but
# for where the continuation begins, as in "is a" + " pianist" and "is" + " a pianist".
EXACT = "logits_cache=False"
GREEDY = {"do_sample": False, "temperature": 0.0}


def questions(every):
    """Rows of facts with three wrong answers, all of the same kind."""
    for i, fact in enumerate(FACTS):
        if i % every == 0 or (not fact["seen"] and i % (every // 2) == 0):
            others = [f["answer"] for f in FACTS if f["kind"] == fact["kind"]]
            wrong = [a for a in dict.fromkeys(others) if a != fact["answer"]][:3]
            at = i % (len(wrong) + 1)
            yield {
                "text": fact["prompt"] + fact["answer"],
                "prompt": fact["prompt"],
                "answer": fact["answer"],
                "choices": [a.strip() for a in [*wrong[:at], fact["answer"], *wrong[at:]]],
                "gold": at,
            }


SHORT = list(questions(80))
LONG = [  # longer than n_ctx with what follows, by little and by far, and of the very length
    {"prompt": PAGE[:length].rstrip(), "answer": " It is."} for length in (300, 420, 640, 2000)
]
PAGES = [{"page": text} for text in ("One.", "", PAGE[:900], PAGE[:3000], "é\n\n€ <|endoftext|> a")]
RATE = {"metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}]}
TASKS = {
    "last_words": (
        SHORT,
        {
            "output_type": "loglikelihood",
            "doc_to_text": "{{text.split(' ')[:-1]|join(' ')}}",
            "doc_to_target": "{{' '+text.split(' ')[-1]}}",
            "metric_list": [
                {"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False},
                {"metric": "acc", "aggregation": "mean", "higher_is_better": True},
            ],
        },
    ),
    "too_long": (
        LONG,
        {
            "output_type": "loglikelihood",
            "doc_to_text": "{{prompt}}",
            "doc_to_target": "{{answer}}",
            **RATE,
        },
    ),
    "choices": (
        SHORT,
        {
            "output_type": "multiple_choice",
            "doc_to_text": "{{prompt}}",
            "doc_to_choice": "{{choices}}",
            "doc_to_target": "gold",
            "metric_list": [
                {"metric": name, "aggregation": "mean", "higher_is_better": True}
                for name in ("acc", "acc_norm")
            ],
        },
    ),
    "header": (  # the same three examples before each question
        SHORT,
        {
            "output_type": "multiple_choice",
            "doc_to_text": "{{prompt}}",
            "doc_to_choice": "{{choices}}",
            "doc_to_target": "gold",
            "num_fewshot": 3,
            "fewshot_config": {"sampler": "first_n"},
            **RATE,
        },
    ),
    "pages": (
        PAGES,
        {
            "output_type": "loglikelihood_rolling",
            "doc_to_text": "",
            "doc_to_target": "{{page}}",
            "metric_list": [
                {"metric": name} for name in ("word_perplexity", "byte_perplexity", "bits_per_byte")
            ],
        },
    ),
    "answers": (
        SHORT,
        {
            "output_type": "generate_until",
            "doc_to_text": "{{prompt}}",
            "doc_to_target": "{{answer}}",
            "generation_kwargs": {"until": [".", "\n\n"], "max_gen_toks": 12, **GREEDY},
            "metric_list": [
                {"metric": "exact_match", "ignore_punctuation": True, "ignore_case": True}
            ],
        },
    ),
    "going_on": (  # from what is cut at the left, to the limit or end-of-text
        [*LONG, *SHORT[::8]],
        {
            "output_type": "generate_until",
            "doc_to_text": "{{prompt}}",
            "doc_to_target": "{{answer}}",
            "generation_kwargs": {"until": [], "max_gen_toks": 40, **GREEDY},
            "metric_list": [{"metric": "exact_match"}],
        },
    ),
}


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """A folder with the tasks' files, which the harness reads without a network."""
    os.environ.update({"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"})
    folder = tmp_path_factory.mktemp("tasks")
    for name, (rows, config) in TASKS.items():
        data = folder / f"{name}.jsonl"
        data.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        whole = {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {
                "data_files": {"train": str(data), "test": str(data)},
                "cache_dir": str(folder / "cache"),
            },
            "test_split": "test",
            "fewshot_split": "train",
            **config,
        }
        (folder / f"{name}.yaml").write_text(json.dumps(whole))  # JSON is YAML
    return folder


def evaluated(model, tasks, names=TASKS, **more):
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(tasks), include_defaults=False)
    return simple_evaluate(
        model=model, tasks=list(names), task_manager=manager, bootstrap_iters=1000, **more
    )


@pytest.fixture(scope="module")
def theirs(tasks):
    return evaluated(
        "hf",
        tasks,
        model_args=f"pretrained={DEMO_DIR},dtype=float64,{EXACT}",
        device="cpu",
        batch_size=16,
    )


@pytest.fixture(scope="module")
def ours(tasks):
    from jobs.harness import PicobatchLM

    return evaluated(PicobatchLM("demo"), tasks)


def figures(results, task):
    return {
        name: value
        for name, value in results["results"][task].items()
        if isinstance(value, (int, float))
    }


def answers(results, task):
    """What the model said to each request of a task, in order."""
    samples = sorted(results["samples"][task], key=lambda sample: sample["doc_id"])
    return [said for sample in samples for (said,) in sample["resps"]]


@pytest.mark.parametrize("task", TASKS)
def test_metrics_are_the_harness_own(task, theirs, ours):
    expected, found = figures(theirs, task), figures(ours, task)
    assert found.keys() == expected.keys()
    assert len(found) > 1
    for name in found:
        assert found[name] == pytest.approx(expected[name], rel=METRIC_TOLERANCE), name


@pytest.mark.parametrize("task", TASKS)
def test_every_request_is_answered_alike(task, theirs, ours):
    expected, found = answers(theirs, task), answers(ours, task)
    if isinstance(expected[0], str):
        assert found == expected
        return
    worst = 0.0
    for said, wanted in zip(found, expected, strict=True):
        (a, *greedy), (b, *wanted_greedy) = np.ravel(said), np.ravel(wanted)
        assert greedy == wanted_greedy
        worst = max(worst, abs(a - b) / max(abs(b), 1))
    assert worst <= SCORE_TOLERANCE


def test_the_tasks_tell_models_apart(theirs):
    """Right and wrong answers both occur, so that agreement says something."""
    for task, name in [("last_words", "acc"), ("choices", "acc_norm"), ("header", "acc")]:
        assert 0 < theirs["results"][task][f"{name},none"] < 1
    assert len(set(answers(theirs, "answers"))) > 10


def instance(kind, *args):
    from lm_eval.api.instance import Instance

    return Instance(request_type=kind, doc={}, arguments=args, idx=0)


@pytest.fixture(scope="module")
def model(tasks):
    from jobs.harness import PicobatchLM

    return PicobatchLM("demo", threads=1, batch_size=8, max_batch_size=64, device="cuda:0")


def test_what_is_answered_is_kept_for_a_run_that_goes_on(model, tmp_path):
    """The harness' cache finds each answer under its own key, before the call has ended."""
    from lm_eval.api.model import CachingLM, hash_args

    asked = {
        "loglikelihood": [instance("loglikelihood", "Paris is", " the"), instance("", "", "One")],
        "loglikelihood_rolling": [instance("loglikelihood_rolling", PAGE[:2000])],
        "generate_until": [
            instance("generate_until", "Paris is", {"until": ["."], "max_gen_toks": 8, **GREEDY})
        ],
    }
    caching = CachingLM(model, str(tmp_path / "cache.db"))
    for kind, requests in asked.items():
        found = getattr(model, kind)(requests, disable_tqdm=True)
        kept = [caching.dbdict[hash_args(kind, request.args)] for request in requests]
        assert kept == found
    assert len(caching.dbdict) == 4, "windows of a page are no answers"


def test_int8_is_near(model):
    from jobs.harness import PicobatchLM

    requests = [instance("loglikelihood", row["prompt"], row["answer"]) for row in SHORT]
    found = PicobatchLM("demo", dtype="int8").loglikelihood(requests, disable_tqdm=True)
    expected = model.loglikelihood(requests, disable_tqdm=True)
    worst = max(abs(a - b) for (a, _), (b, _) in zip(found, expected, strict=True))
    assert 0 < worst <= INT8_TOLERANCE


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"do_sample": True, "temperature": 0.7}, "expected the greedy choice"),
        ({"temperature": 0.7}, "expected the greedy choice"),
        ({"num_beams": 4}, "has num_beams; expected do_sample, max_gen_toks"),
        ({"max_gen_toks": 256}, "max_gen_toks is 256; expected less than n_ctx = 256"),
        ({}, "max_gen_toks is 256"),  # the harness' default is too much for this model
    ],
)
def test_what_is_not_greedy_is_refused(model, asked, message):
    with pytest.raises(SettingsError, match=message):
        model.generate_until([instance("generate_until", "One", asked)])


@pytest.mark.parametrize(
    ("context", "continuation", "message"),
    [
        (" \n", "One", "the context is white space only"),
        ("One", "", "the continuation has no token of its own"),
        ("One", PAGE[:2000], "tokens; expected at most n_ctx = 256"),
    ],
)
def test_where_the_harness_fails_we_say_why(model, context, continuation, message):
    with pytest.raises(InputError, match=message):
        model.loglikelihood([instance("loglikelihood", context, continuation)])


def test_what_there_is_not_is_refused(model):
    from jobs.harness import PicobatchLM

    with pytest.raises(SettingsError, match="dtype is 'bfloat16'; expected one of float32, int8"):
        PicobatchLM(dtype="bfloat16")
    with pytest.raises(SettingsError, match="has no chat template"):
        model.apply_chat_template([{"role": "user", "content": "One"}])


def harness(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "jobs.harness", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command(tasks, ours, tmp_path):
    """`lm_eval run` as it is, with our model known to it."""
    done = harness(
        *("run", "--model", "picobatch", "--model_args", "pretrained=demo,threads=1"),
        *("--include_path", str(tasks), "--tasks", "choices,answers", "--log_samples"),
        *("--batch_size", "auto", "--output_path", str(tmp_path)),
    )
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.rglob("results_*.json")
    found = json.loads(file.read_text())
    assert found["config"]["model_sha"] == ours["config"]["model_sha"]
    for task in ("choices", "answers"):
        assert figures(found, task) == pytest.approx(figures(ours, task), rel=METRIC_TOLERANCE)
        assert f"|{task}" in done.stdout.replace(" ", "")


def test_the_command_says_what_is_wrong(tasks):
    done = harness(
        *("run", "--model", "picobatch", "--model_args", "pretrained=demo,dtype=float16"),
        *("--include_path", str(tasks), "--tasks", "choices"),
    )
    assert done.returncode == 1
    assert "Error: dtype is 'float16'; expected one of float32, int8" in done.stderr
    assert "Traceback" not in done.stderr
