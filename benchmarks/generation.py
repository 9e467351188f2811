"""Tokens per second of this engine and of its peers, interleaved, as ratios.

    python -m benchmarks.random_checkpoint 124M MODEL --layout huggingface --vocabulary FOLDER
    python -m benchmarks.generation MODEL --peers PYTHON --loads short mixed long --rounds 3

PYTHON is an interpreter with pyarrow, torch, transformers and ctranslate2. Each figure is the
median of the rounds, with the lowest and highest; each measurement is a process of its own, and
loading is not part of it. The last line is all of it as JSON.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.workloads import NAMES

OURS = {"float32": ["picobatch:float32"], "int8": ["picobatch:int8"]}
PEERS = {
    "float32": {
        "short": ["ctranslate2:float32:64:1", "transformers:64"],
        "mixed": ["ctranslate2:float32:64:1", "transformers:32"],
        "long": ["ctranslate2:float32:8:2", "transformers:16"],
        "geometric": ["ctranslate2:float32:64:1", "transformers:32"],
        "fewshot": ["ctranslate2:float32:32:1", "transformers:32"],
        "repeated": ["ctranslate2:float32:64:1", "transformers:32"],
    },
    "int8": {
        "short": ["ctranslate2:int8_float32:32:2"],
        "mixed": ["ctranslate2:int8_float32:8:2"],
        "long": ["ctranslate2:int8_float32:4:2"],
        "geometric": ["ctranslate2:int8_float32:8:2"],
        "fewshot": ["ctranslate2:int8_float32:4:2"],
        "repeated": ["ctranslate2:int8_float32:8:2"],
    },
}


def measure(python: str, engine: str, model: str, load: str, threads: int) -> dict[str, Any]:
    """One process of one engine on one load."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "ids.json"
        command = [python, "-m", "benchmarks.peers", engine, model, load, str(output)]
        found = subprocess.run(
            [*command, "--threads", str(threads)], stdout=subprocess.PIPE, check=True, text=True
        )
        ids = json.loads(output.read_text())
    return {**json.loads(found.stdout.splitlines()[-1]), "ids": ids}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--peers", default=None, help="interpreter with the peers")
    parser.add_argument("--loads", nargs="+", choices=NAMES, default=["short", "mixed", "long"])
    parser.add_argument("--dtypes", nargs="+", choices=list(OURS), default=["float32"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    results = []
    for load in args.loads:
        engines = [
            (sys.executable if engine in OURS[dtype] else args.peers, engine)
            for dtype in args.dtypes
            for engine in OURS[dtype] + (PEERS[dtype][load] if args.peers else [])
        ]
        runs: dict[str, list[dict[str, Any]]] = {engine: [] for _, engine in engines}
        for _ in range(args.rounds):
            for python, engine in engines:
                runs[engine].append(measure(python, engine, args.model, load, args.threads))
        reference = runs["picobatch:float32"][0]["ids"] if "picobatch:float32" in runs else None
        for engine, found in runs.items():
            rates = [run["n_new"] / run["elapsed_s"] for run in found]
            same = sum(a == b for a, b in zip(found[0]["ids"], reference or [], strict=False))
            results.append(
                {
                    "load": load,
                    "engine": engine,
                    "tokens_per_s": round(median(rates), 1),
                    "lowest": round(min(rates), 1),
                    "highest": round(max(rates), 1),
                    "peak_mib": round(max(run["peak_bytes"] for run in found) / 2**20),
                    "same_rows": f"{same}/{len(found[0]['ids'])}",
                }
            )
    print_table(results)
    machine = f"{platform.machine()}, {args.threads} threads"
    print(json.dumps({"machine": machine, "rounds": args.rounds, "results": results}))


def print_table(results: list[dict[str, Any]]) -> None:
    print("| load | engine | tokens/s (lowest - highest) | peak MiB | rows as ours |")
    print("|---|---|---|---|---|")
    for row in results:
        print(
            f"| {row['load']} | {row['engine']} | {row['tokens_per_s']} ({row['lowest']} - "
            f"{row['highest']}) | {row['peak_mib']:,} | {row['same_rows']} |"
        )


if __name__ == "__main__":
    main()
