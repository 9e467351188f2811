"""What the machine could do at best, and where prefill and decode stand.

    python -m benchmarks.roofline MODEL --threads 2 --dtypes float32 int8

Measures the rate of reading memory, and the model's own matrix products alone, as onnxruntime
carries them out, for several numbers of rows. From these follows a ceiling for each load: its
products, and the keys and values that its steps read, one after the other and nothing else. Then
the engine runs the load. MODEL is a directory of a model's files.
"""

import argparse
import json
import tempfile
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnxruntime

from benchmarks.workloads import Load, make_load, write_load
from exporter import Input, to_onnx, trace
from reference import HParams, Model, load_model
from reference.gpt2 import linear, unembed
from runner import RunSettings, run
from runner.int8 import in_int8
from runner.kv_cache import SlotCache

ROWS = (1, 8, 16, 32, 64, 128, 256)
REPEATS = 7


def bytes_per_s(threads: int) -> float:
    """Reading memory: each thread sums an array of its own, far larger than the caches."""
    arrays = [np.ones(1 << 26, np.float32) for _ in range(threads)]
    seconds = []
    for _ in range(REPEATS):
        start_s = time.perf_counter()
        workers = [threading.Thread(target=np.sum, args=(array,)) for array in arrays]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        seconds.append(time.perf_counter() - start_s)
    return sum(array.nbytes for array in arrays) / median(seconds)


def products_only(x: Any, wide: Any, blocks: Any, head: Any) -> list[Any]:
    """Every matrix product of the model, on rows of 1 and of 4 times n_embd numbers."""
    found = []
    for block in blocks:
        found.append(linear(x, **block["attn"]["c_attn"]))
        found.append(linear(x, **block["attn"]["c_proj"]))
        found.append(linear(x, **block["mlp"]["c_fc"]))
        found.append(linear(wide, **block["mlp"]["c_proj"]))
    return [*found, unembed(x, head)] if head is not None else found


def product_seconds(model: Model, threads: int, *, with_head: bool) -> dict[int, float]:
    """Seconds of all products by number of rows, with their outputs in memory that is ready."""
    n_embd, params = model.hparams["n_embd"], model.params
    head = params.get("lm_head", params["wte"]) if with_head else None
    graph = trace(
        products_only,
        Input(["batch", n_embd], np.float32),
        Input(["batch", 4 * n_embd], np.float32),
        params["blocks"],
        head,
        target="onnxruntime",
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "products.onnx"
        path.write_bytes(to_onnx(graph).SerializeToString())
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    rng = np.random.default_rng(0)
    found = {}
    for rows in ROWS:
        feeds = {
            value.name: rng.standard_normal((rows, value.shape[1]), np.float32)
            for value in session.get_inputs()
        }
        binding = session.io_binding()
        for name, array in feeds.items():
            binding.bind_cpu_input(name, array)
        for value in session.get_outputs():
            array = np.zeros((rows, value.shape[1]), np.float32)
            feeds[value.name] = array  # keeps it
            binding.bind_output(value.name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        seconds = []
        for _ in range(REPEATS):
            start_s = time.perf_counter()
            session.run_with_iobinding(binding)
            seconds.append(time.perf_counter() - start_s)
        found[rows] = median(seconds)
    return found


def operations(hparams: HParams, *, with_head: bool) -> int:
    """Multiplications and additions of one row."""
    blocks = 12 * hparams["n_embd"] ** 2 * hparams["n_layer"]
    return 2 * (blocks + with_head * hparams["n_vocab"] * hparams["n_embd"])


def ceiling_s(
    load: Load, prefill_row_s: float, step_s: dict[int, float], token_read_s: float
) -> float:
    """Seconds of a load at best: 64 rows together, or all there are.

    `prefill_row_s` and `step_s` are the products' seconds for a prompt token and for a step by its
    rows; `token_read_s` those for reading the keys and values of a token.
    """
    n_prompt = sum(len(prompt) - 1 for prompt in load.prompts)
    together = min(64, len(load.prompts))
    rows = max(n for n in step_s if n <= together)
    lengths = sum(
        n_new * (len(prompt) + (n_new - 1) / 2)
        for prompt, n_new in zip(load.prompts, load.new_tokens, strict=True)
    )
    decode_s = load.n_new * step_s[rows] / rows
    return n_prompt * prefill_row_s + decode_s + lengths * token_read_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtypes", nargs="+", choices=["float32", "int8"], default=["float32"])
    parser.add_argument("--loads", nargs="+", default=["short", "mixed", "long"])
    args = parser.parse_args()
    model = load_model(args.model)
    per_s = bytes_per_s(args.threads)
    print(f"memory: {per_s / 1e9:.1f} GB/s read by {args.threads} threads\n")
    results: dict[str, Any] = {"read_bytes_per_s": per_s, "threads": args.threads}
    for dtype in args.dtypes:
        computed = in_int8(model) if dtype == "int8" else model
        blocks = product_seconds(computed, args.threads, with_head=False)
        steps = product_seconds(computed, args.threads, with_head=True)
        print(
            f"{dtype}: products alone, ms (Gop/s)\n| rows | blocks | with the head |\n|---|---|---|"
        )
        for rows in ROWS:
            cells = [
                f"{seconds[rows] * 1e3:.1f} "
                f"({rows * operations(model.hparams, with_head=head) / seconds[rows] / 1e9:.0f})"
                for seconds, head in ((blocks, False), (steps, True))
            ]
            print(f"| {rows} | {' | '.join(cells)} |")
        kept_in = np.float32 if computed.kv_scales is None else np.int8
        token_read_s = SlotCache(model.hparams, kept_in).token_bytes / per_s
        prefill_row_s = min(seconds / rows for rows, seconds in blocks.items())
        print(f"\n{dtype}\n| load | ceiling tokens/s | engine | share |\n|---|---|---|---|")
        for name in args.loads:
            load = make_load(name)
            at_best = load.n_new / ceiling_s(load, prefill_row_s, steps, token_read_s)
            rate = median(engine_rate(args.model, load, dtype, args.threads) for _ in range(3))
            print(f"| {name} | {at_best:.0f} | {rate:.0f} | {rate / at_best:.0%} |")
            results[f"{dtype} {name}"] = {"ceiling": at_best, "engine": rate}
        print()
    print(json.dumps(results))


def engine_rate(model: str, load: Load, dtype: str, threads: int) -> float:
    """Tokens per second of this engine, reading and writing included, loading not."""
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder) / "in.parquet", Path(folder) / "out.parquet"
        write_load(load, source)
        settings = RunSettings(
            str(source),
            str(output),
            model=model,
            dtype=dtype,
            threads=threads,
            ignore_eos=True,
            check_rows=0,
        )
        seconds = run(settings).elapsed_s
    return load.n_new / (seconds["total"] - seconds["load"])


if __name__ == "__main__":
    main()
