"""Our figures beside those of lm-evaluation-harness: metric, ours, theirs, relative difference.

python -m benchmarks.agreement                      # the bundled model, the harness as recorded
python -m benchmarks.agreement MODEL --lm-eval BIN/python   # any model directory, run now

BIN/python is one of an environment with `lm-eval[hf]` 0.4.13; MODEL has Hugging Face's layout, such
as `python -m benchmarks.random_checkpoint 124M DIR --layout huggingface --vocabulary GPT2` makes.
Ours are computed by the NumPy reference in float64 and float32 and by onnxruntime in float32, and
compared with the harness' float64; so are its own in float32. What float32 moves figures by is then
seen on both sides.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jobs.language_model import LanguageModel, TextScore
from jobs.task_spec import TaskSpec
from jobs.tasks import KINDS
from reference import Model, load_model
from runner.engine_scorer import EngineScorer
from runner.score import ReferenceScorer, Scorer

GOLDEN = Path(__file__).parents[1] / "tests" / "golden"
DATA = GOLDEN / "lm_eval"
RECORDER = GOLDEN / "record_lm_eval.py"
KIND_OF = {
    "lambada": ("last_word", "lambada"),
    "hellaswag": ("multiple_choice", "hellaswag"),
    "blimp": ("multiple_choice", "blimp"),
    "questions": ("multiple_choice", None),
    "wikitext": ("perplexity", "wikitext"),
}

SINGLE = ("loglikelihood: ", "loglikelihood_rolling: ")  # requests, beside the figures of tasks
Observed = dict[str, Any]  # as the recorder writes it


def harness(python: str | None, model: Path) -> dict[str, Observed]:
    """What the harness finds: by dtype."""
    if python is None:
        return read(GOLDEN / "lm_eval.json")
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "lm_eval.json"
        subprocess.run(
            [python, str(RECORDER), "--model", str(model), "--output", str(output)],
            check=True,
            stdout=sys.stderr,
        )
        return read(output)


def read(recorded: Path) -> dict[str, Observed]:
    found: dict[str, Observed] = json.loads(recorded.read_text())
    return found


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / f"{name}.jsonl").read_text("utf-8").splitlines()]


def ours(model: Model, scorer: Scorer) -> Observed:
    """The same of ours."""
    asked = LanguageModel(model, scorer)
    figures: dict[str, dict[str, float | None]] = {}
    for name, (kind, form) in KIND_OF.items():
        spec = TaskSpec(name, kind, (f"{name}.jsonl",), form, folder=DATA)
        result = KINDS[kind].run(KINDS[kind].checked(spec), asked)
        assert not result.bad_rows
        figures[name] = {m.name: m.value for m in result.metrics}
        figures[name] |= {f"{m.name}_stderr": m.stderr for m in result.metrics}
    pairs = asked.loglikelihood([(row["context"], row["continuation"]) for row in rows("pairs")])
    texts = asked.loglikelihood_rolling([row["text"] for row in rows("texts")])
    return {
        "figures": figures,
        "pairs": [
            [s.loglikelihood, s.is_greedy] if isinstance(s, TextScore) else None for s in pairs
        ],
        "texts": [s.loglikelihood for s in texts if isinstance(s, TextScore)],
    }


def named(observed: Observed) -> Iterator[tuple[str, float]]:
    """Every number under its name."""
    for task, figures in observed["figures"].items():
        for metric, value in figures.items():
            if value is not None:
                yield f"{task}: {metric}", value
    for n, pair in enumerate(observed["pairs"]):
        if pair is not None:  # the harness fails, and we say why there is no score
            yield f"loglikelihood: {n}", pair[0]
    for n, loglikelihood in enumerate(observed["texts"]):
        yield f"loglikelihood_rolling: {n}", loglikelihood


def difference(name: str, value: float, wanted: float) -> float:
    """Relative; of a single log-likelihood, which may be next to nothing, at most absolute."""
    least = 1.0 if name.startswith(SINGLE) else 0.0
    return abs(value - wanted) / max(abs(wanted), least) if value != wanted else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="demo")
    parser.add_argument("--lm-eval", metavar="PYTHON")
    options = parser.parse_args()
    model = load_model(options.model)
    theirs = harness(options.lm_eval, model.directory)
    wanted = dict(named(theirs["float64"]))
    found = {
        "ours float64": dict(named(ours(model, ReferenceScorer(model, np.float64)))),
        "ours float32": dict(named(ours(model, ReferenceScorer(model)))),
        "onnxruntime": dict(named(ours(model, EngineScorer(model, 2)))),
        "lm-eval float32": dict(named(theirs["float32"])),
    }
    print(f"{'':36} {'lm-eval':>16} {'ours':>16}  relative difference to lm-eval's float64")
    print(f"{'':36} {'float64':>16} {'float64':>16}  " + "".join(f"{n:>17}" for n in found))
    for name, value in wanted.items():
        if not name.startswith(SINGLE):
            apart = "".join(f"{difference(name, of[name], value):17.1e}" for of in found.values())
            print(f"{name:36} {value:16.10g} {found['ours float64'][name]:16.10g}  {apart}")
    for what in SINGLE:
        names = [name for name in wanted if name.startswith(what)]
        label = f"{what}largest of {len(names)}"
        apart = "".join(
            f"{max(difference(n, of[n], wanted[n]) for n in names):17.1e}" for of in found.values()
        )
        print(f"{label:36} {'':16} {'':16}  {apart}")
    largest = {
        label: max(difference(name, of[name], wanted[name]) for name in wanted)
        for label, of in found.items()
    }
    print(json.dumps({"model": model.name, "lm_eval": theirs["lm_eval"], "largest": largest}))


if __name__ == "__main__":
    main()
