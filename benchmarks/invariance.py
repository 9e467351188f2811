"""Which rows of a job change with batch size, threads and order: ours, and a peer's.

    python -m benchmarks.random_checkpoint 124M MODEL --layout huggingface --vocabulary FOLDER
    python -m benchmarks.invariance demo MODEL --rows 24
    python -m benchmarks.invariance MODEL --peer PYTHON

Every job is held against one of batch size 1 and one thread: rows whose ids, text or bits of
`logprob` differ. PYTHON is an interpreter with torch and transformers; MODEL is then a directory in
Hugging Face's layout, and its batches are padded on the left. The last line is all of it as JSON.
"""

import argparse
import json
import os
import platform
import random
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from pathlib import Path
from typing import Any

from reference.models import DEMO, DEMO_DIR

SIZES = (1, 2, 7, 32, None)
THREADS = (1, 2, 3, 4, 8, 16)
PEER_SIZES = (1, 2, 7, 32)
PEER_THREADS = (1, 2)
Row = tuple[str, list[int], str]  # text, ids, and the bits of the log-probability


def make_rows(n_rows: int, n_vocab: int, n_ctx: int, n_new: int) -> list[dict[str, Any]]:
    """Prompts of ids: most are short, some fill the context, some share a beginning or all."""
    rng = random.Random(0)
    longest = n_ctx - n_new

    def ids(n: int) -> list[int]:
        return [rng.randrange(n_vocab - 1) for _ in range(n)]

    header = ids(longest // 6)
    rows: list[dict[str, Any]] = []
    for n in range(n_rows):
        prompt = ids(1 + int((longest - 1) * rng.random() ** 4))
        if n % 4 == 1:
            prompt = (header + prompt)[:longest]
        if n % 11 == 10:
            prompt = rows[n // 2]["prompt"]
        rows.append({"prompt": prompt, "max_new_tokens": rng.randint(1, n_new)})
    rows[0]["prompt"] = ids(longest)
    return rows


def bits(logprob: float) -> str:
    return struct.pack("<f", logprob).hex()


class Ours:
    """Jobs of this engine."""

    def __init__(self, model: str, rows: list[dict[str, Any]], dtype: str) -> None:
        self._model, self._rows, self._dtype = model, rows, dtype

    def __call__(self, size: int | None, threads: int, order: list[int]) -> list[Row]:
        from runner import RunSettings, run

        with tempfile.TemporaryDirectory() as folder:
            source, output = Path(folder) / "in.jsonl", Path(folder) / "out.jsonl"
            source.write_text("".join(json.dumps(self._rows[n]) + "\n" for n in order))
            settings = RunSettings(
                str(source),
                str(output),
                model=self._model,
                dtype=self._dtype,
                batch_size=size,
                threads=threads,
                ignore_eos=True,
                check_rows=0,
            )
            run(settings)
            found = [json.loads(line) for line in output.read_text().splitlines()]
        placed = dict(zip(order, found, strict=True))
        return [
            (row["completion"], row["completion_ids"], bits(row["logprob"]))
            for row in (placed[n] for n in range(len(order)))
        ]


class Transformers:
    """Batches of transformers, one after another, padded on the left."""

    def __init__(self, model: str, rows: list[dict[str, Any]]) -> None:
        import torch
        from transformers import GPT2LMHeadModel

        self._torch, self._rows = torch, rows
        self._model = GPT2LMHeadModel.from_pretrained(model, dtype=torch.float32).eval()

    def __call__(self, size: int | None, threads: int, order: list[int]) -> list[Row]:
        self._torch.set_num_threads(threads)
        found: dict[int, Row] = {}
        size = size or len(order)
        for start in range(0, len(order), size):
            some = order[start : start + size]
            found |= dict(zip(some, self._batch([self._rows[n] for n in some]), strict=True))
        return [found[n] for n in range(len(order))]

    def _batch(self, rows: list[dict[str, Any]]) -> list[Row]:
        torch = self._torch
        longest = max(len(row["prompt"]) for row in rows)
        n_new = max(row["max_new_tokens"] for row in rows)
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for n, row in enumerate(rows):
            ids[n, longest - len(row["prompt"]) :] = torch.tensor(row["prompt"])
            mask[n, longest - len(row["prompt"]) :] = 1
        with torch.inference_mode():
            out = self._model.generate(
                ids,
                attention_mask=mask,
                max_new_tokens=n_new,
                min_new_tokens=n_new,
                do_sample=False,
                eos_token_id=None,
                pad_token_id=0,
                return_dict_in_generate=True,
                output_logits=True,
            )
            new = out.sequences[:, longest:]
            logprobs = torch.log_softmax(torch.stack(out.logits, dim=1), dim=-1)
            chosen = torch.gather(logprobs, 2, new[..., None])[..., 0]
        return [
            ("", new[n, :k].tolist(), bits(sum(chosen[n, :k].tolist())))
            for n, k in enumerate(row["max_new_tokens"] for row in rows)
        ]


def table(complete: Any, n_rows: int, sizes: Any, threads: Any) -> dict[str, Any]:
    """Rows that differ from those of one row at a time and one thread, job by job."""
    given = list(range(n_rows))
    shuffled = random.Random(1).sample(given, n_rows)
    expected = complete(1, 1, given)
    jobs = []
    for n, (k, size) in enumerate(product(threads, sizes)):
        order = (given, shuffled)[n % 2]
        start_s = time.perf_counter()
        found = complete(size, k, order)
        pairs = list(zip(found, expected, strict=True))
        jobs.append(
            {
                "batch_size": size or "auto",
                "threads": k,
                "order": ("given", "shuffled")[n % 2],
                "rows": len(pairs),
                "completion": sum(a[0] != b[0] for a, b in pairs),
                "ids": sum(a[1] != b[1] for a, b in pairs),
                "logprob": sum(a[2] != b[2] for a, b in pairs),
                "elapsed_s": round(time.perf_counter() - start_s, 1),
            }
        )
        sys.stderr.write(f"{json.dumps(jobs[-1])}\n")
    return {"jobs": jobs}


def print_table(results: list[dict[str, Any]]) -> None:
    """A line for each number of threads: over all batch sizes, the rows that differ."""
    print(
        "| engine | model | dtype | threads | batch sizes | rows compared | other text | ", end=""
    )
    print("other ids | other bits of logprob |\n|---|---|---|---|---|---|---|---|---|")
    for result in results:
        for threads in sorted({job["threads"] for job in result["jobs"]}):
            jobs = [job for job in result["jobs"] if job["threads"] == threads]
            sizes = ", ".join(str(job["batch_size"]) for job in jobs)
            counts = [
                sum(job[name] for job in jobs) for name in ("rows", "completion", "ids", "logprob")
            ]
            cells = [result["engine"], result["model"], result["dtype"], threads, sizes, *counts]
            print(f"| {' | '.join(map(str, cells))} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--rows", type=int, default=48)
    parser.add_argument("--new-tokens", type=int, default=12)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "int8"])
    parser.add_argument("--threads", nargs="+", type=int, default=None)
    parser.add_argument("--sizes", nargs="+", type=int, default=None, help="0 is auto")
    parser.add_argument("--peer", default=None, help="interpreter with transformers")
    parser.add_argument("--as-peer", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    results = []
    for name_or_folder in args.models:
        model = str(DEMO_DIR) if name_or_folder == DEMO else name_or_folder
        sizes = json.loads((Path(model) / "config.json").read_text())
        rows = make_rows(args.rows, sizes["vocab_size"], sizes["n_positions"], args.new_tokens)
        threads = args.threads or (PEER_THREADS if args.as_peer else THREADS)
        batch_sizes = args.sizes or (PEER_SIZES if args.as_peer else SIZES)
        for dtype in ["float32"] if args.as_peer else args.dtypes:
            engine = Transformers(model, rows) if args.as_peer else Ours(model, rows, dtype)
            found = table(engine, len(rows), [size or None for size in batch_sizes], threads)
            name = "transformers" if args.as_peer else "picobatch"
            results.append({"engine": name, "model": Path(model).name, "dtype": dtype, **found})
        if args.peer:
            results += ask_peer(args.peer, model, args.rows, args.new_tokens)
    if not args.as_peer:
        print_table(results)
    print(json.dumps({"results": results, "machine": machine()}))


def ask_peer(python: str, model: str, n_rows: int, n_new: int) -> list[dict[str, Any]]:
    command = [python, "-m", "benchmarks.invariance", model, "--as-peer", "--rows", str(n_rows)]
    command += ["--new-tokens", str(n_new)]
    found = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    results: list[dict[str, Any]] = json.loads(found.stdout.splitlines()[-1])["results"]
    return results


def machine() -> dict[str, Any]:
    found: dict[str, Any] = {"cpu": platform.machine(), "cores": os.cpu_count()}
    for name in ("numpy", "onnxruntime", "torch", "transformers"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


if __name__ == "__main__":
    main()
