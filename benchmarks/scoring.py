"""Seconds of this engine's scoring and of lm-eval's with transformers, interleaved, as ratios.

    python -m benchmarks.random_checkpoint 124M MODEL --layout huggingface --vocabulary FOLDER
    python -m benchmarks.scoring MODEL --peers PYTHON --rounds 3

PYTHON is an interpreter with lm_eval, torch and transformers. Both are given the same texts: random
words in the shapes of the public data sets. Each round is a process of its own for each engine;
loading is not part of it. The last line is all of it as JSON.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

Pairs = list[tuple[str, str]]
Score = Callable[[str, Pairs], list[float]]
OURS = ["picobatch:float32", "picobatch:int8"]
PEERS = ["lm_eval:1", "lm_eval:4", "lm_eval:16"]
ROLLING = "wikitext"


def make_loads(model: str, scale: float) -> dict[str, Pairs]:
    """Contexts and continuations; for whole texts without a context.

    The lengths are those of the public sets, about: LAMBADA's passages, HellaSwag's four endings,
    BLiMP's two sentences, CBT's twenty sentences with ten words, five questions before each of four
    one-word answers, pages of WikiText.
    """
    from reference import load_model

    rng = np.random.default_rng(0)
    tokenizer = load_model(model).tokenizer
    spelled = (tokenizer.token_bytes(token) for token in range(256, 20_000))
    words = [word.decode() for word in spelled if re.fullmatch(rb" [a-z]{2,}", word)]

    def text(least: int, most: int) -> str:
        return "".join(rng.choice(words, rng.integers(least, most + 1)))

    def times(n: int) -> range:
        return range(max(1, round(n * scale)))

    header = text(500, 500)[1:]
    loads: dict[str, Pairs] = {
        "lambada": [(text(55, 100)[1:], text(1, 2)) for _ in times(120)],
        "hellaswag": [
            (context, text(12, 40))
            for context in [text(25, 100)[1:] for _ in times(40)]
            for _ in range(4)
        ],
        "blimp": [("", text(6, 11)) for _ in times(240)],
        "cbt": [
            (context, text(1, 1) + rest)
            for context, rest in [(text(350, 500)[1:], text(3, 12)) for _ in times(8)]
            for _ in range(10)
        ],
        "fewshot": [
            (context, text(1, 1))
            for context in [header + text(25, 60) for _ in times(20)]
            for _ in range(4)
        ],
        ROLLING: [("", text(2500, 2500)) for _ in times(2)],
    }
    return loads


def picobatch(model: str, threads: int, dtype: str) -> Score:
    from jobs.language_model import LanguageModel, Unscorable
    from reference import load_model
    from runner.engine_scorer import EngineScorer
    from runner.int8 import in_int8

    loaded = load_model(model)
    scorer = EngineScorer(in_int8(loaded) if dtype == "int8" else loaded, threads)
    asked = LanguageModel(loaded, scorer)

    def score(load: str, pairs: Pairs) -> list[float]:
        texts = [text for _, text in pairs]
        found = (
            asked.loglikelihood_rolling(texts) if load == ROLLING else asked.loglikelihood(pairs)
        )
        assert not any(isinstance(one, Unscorable) for one in found)
        return [one.loglikelihood for one in found]  # type: ignore[union-attr]

    return score


def lm_eval(model: str, threads: int, batch_size: str) -> Score:
    os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")
    import torch
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    torch.set_num_threads(threads)
    lm = HFLM(pretrained=model, device="cpu", dtype="float32", batch_size=int(batch_size))

    def score(load: str, pairs: Pairs) -> list[float]:
        rolling = load == ROLLING
        kind = "loglikelihood_rolling" if rolling else "loglikelihood"
        asked = [
            Instance(kind, {}, tuple(pair[1:] if rolling else pair), n)
            for n, pair in enumerate(pairs)
        ]
        if rolling:
            return list(lm.loglikelihood_rolling(asked, disable_tqdm=True))
        return [found for found, _ in lm.loglikelihood(asked, disable_tqdm=True)]

    return score


ENGINES = {"picobatch": picobatch, "lm_eval": lm_eval}


def measure(engine: str, model: str, threads: int, loads: dict[str, Pairs]) -> dict[str, Any]:
    """Seconds and log-likelihoods of each load, in this process."""
    name, _, option = engine.partition(":")
    score = ENGINES[name](model, threads, option)
    score("", [("one two", " three")])
    seconds, found = {}, {}
    for load, pairs in loads.items():
        start_s = time.perf_counter()
        found[load] = score(load, pairs)
        seconds[load] = time.perf_counter() - start_s
    return {"engine": engine, "seconds": seconds, "found": found}


def in_a_process(python: str, engine: str, args: argparse.Namespace, loads: str) -> dict[str, Any]:
    command = [python, "-m", "benchmarks.scoring", args.model, "--engine", engine]
    options = ["--threads", str(args.threads)]
    done = subprocess.run(
        [*command, *options], input=loads, stdout=subprocess.PIPE, check=True, text=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--peers", help="interpreter with lm_eval")
    parser.add_argument("--engine", help="measure this one here, its loads on stdin")
    parser.add_argument("--engines", nargs="+", default=[*OURS, *PEERS])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--scale", type=float, default=1.0, help="times as many requests")
    args = parser.parse_args()
    if args.engine:
        loads = json.load(sys.stdin)
        print(json.dumps(measure(args.engine, args.model, args.threads, loads)))
        return
    loads = json.dumps(make_loads(args.model, args.scale))
    runs: dict[str, list[dict[str, Any]]] = {engine: [] for engine in args.engines}
    for _ in range(args.rounds):
        for engine in args.engines:
            python = sys.executable if engine in OURS else args.peers
            runs[engine].append(in_a_process(python, engine, args, loads))
    print_table(runs)
    rows = {engine: [run["seconds"] for run in found] for engine, found in runs.items()}
    print(json.dumps({"machine": platform.processor(), "threads": args.threads, "seconds": rows}))


def print_table(runs: dict[str, list[dict[str, Any]]]) -> None:
    """Medians, and how many times as long as the first engine's."""
    first = next(iter(runs.values()))
    loads = [*first[0]["seconds"], "all"]
    print(f"{'engine':<20}" + "".join(f"{load:>19}" for load in loads) + f"{'difference':>12}")
    base: dict[str, float] = {}
    for engine, found in runs.items():
        cells = []
        for load in loads:
            seconds = [
                sum(run["seconds"].values()) if load == "all" else run["seconds"][load]
                for run in found
            ]
            middle = median(seconds)
            base.setdefault(load, middle)
            cells.append(f"{middle:>10.2f} s {middle / base[load]:>5.2f} x")
        pairs = [
            zip(found[0]["found"][load], first[0]["found"][load], strict=True)
            for load in loads[:-1]
        ]
        furthest = max(abs(a - b) for pair in pairs for a, b in pair)
        print(f"{engine:<20}" + "".join(cells) + f"{furthest:>12.2g}")


if __name__ == "__main__":
    main()
