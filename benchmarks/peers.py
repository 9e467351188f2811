"""One engine on one load, in a process of its own: seconds, tokens and peak memory as JSON.

    python -m benchmarks.peers ENGINE MODEL LOAD OUTPUT [--threads N]

Run by `benchmarks.generation`. MODEL is a directory in Hugging Face's layout. Loading is not part
of the time; OUTPUT gets the generated ids, so that they can be compared.
"""

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.workloads import Load, make_load

Generate = Callable[[Load], list[list[int]]]


def picobatch(model: str, threads: int, dtype: str, batch_size: int | None) -> Generate:
    from benchmarks.workloads import write_load
    from runner import RunSettings, run

    def generate(load: Load) -> list[list[int]]:
        import pyarrow.parquet as pq

        with tempfile.TemporaryDirectory() as folder:
            source, output = f"{folder}/in.parquet", f"{folder}/out.parquet"
            write_load(load, Path(source))
            settings = RunSettings(
                source,
                output,
                model=model,
                threads=threads,
                dtype=dtype,
                batch_size=batch_size,
                ignore_eos=True,
                check_rows=0,
            )
            report = run(settings)
            sys.stderr.write(report.summary() + "\n")
            generate.loading_s = report.elapsed_s["load"]  # type: ignore[attr-defined]
            return list(pq.read_table(output)["completion_ids"].to_pylist())

    return generate


def transformers(model: str, threads: int, batch_size: int) -> Generate:
    import torch
    from transformers import GPT2LMHeadModel

    torch.set_num_threads(threads)
    loaded = GPT2LMHeadModel.from_pretrained(model, dtype=torch.float32).eval()

    def batch(prompts: list[list[int]], n_new: int) -> list[list[int]]:
        longest = max(map(len, prompts))
        ids = torch.zeros(len(prompts), longest, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, longest - len(prompt) :] = torch.tensor(prompt)
            mask[row, longest - len(prompt) :] = 1
        with torch.inference_mode():
            found = loaded.generate(
                ids,
                attention_mask=mask,
                max_new_tokens=n_new,
                min_new_tokens=n_new,
                do_sample=False,
                eos_token_id=None,
                pad_token_id=0,
            )
        return [[int(token) for token in row[longest:]] for row in found]

    return in_batches(batch, batch_size)


def ctranslate2(
    model: str, threads: int, compute_type: str, batch_size: int, workers: int
) -> Generate:
    import ctranslate2 as ct2

    folder = Path(model) / "ctranslate2"
    if not folder.exists():
        converter = ct2.converters.TransformersConverter(model)
        converter.convert(str(folder))
    vocabulary = json.loads((folder / "vocabulary.json").read_text())
    generator = ct2.Generator(
        str(folder),
        device="cpu",
        compute_type=compute_type,
        inter_threads=workers,
        intra_threads=threads // workers,
    )

    def generate(load: Load) -> list[list[int]]:
        order = sorted(range(len(load.prompts)), key=lambda n: len(load.prompts[n]))
        pending: list[tuple[list[int], Any]] = []
        for start in range(0, len(order), batch_size):
            some = order[start : start + batch_size]
            n_new = max(load.new_tokens[n] for n in some)
            found = generator.generate_batch(
                [[vocabulary[token] for token in load.prompts[n]] for n in some],
                max_batch_size=batch_size,
                max_length=n_new,
                min_length=n_new,
                end_token=[],
                sampling_topk=1,
                beam_size=1,
                include_prompt_in_result=False,
                asynchronous=True,
            )
            pending.append((some, found))
        results: list[list[int]] = [[]] * len(order)
        for some, found in pending:
            for n, one in zip(some, found, strict=True):
                results[n] = list(one.result().sequences_ids[0])[: load.new_tokens[n]]
        return results

    return generate


def in_batches(batch: Callable[[list[list[int]], int], list[list[int]]], size: int) -> Generate:
    """In batches of prompts of similar length."""

    def generate(load: Load) -> list[list[int]]:
        order = sorted(range(len(load.prompts)), key=lambda n: len(load.prompts[n]))
        results: list[list[int]] = [[]] * len(order)
        for start in range(0, len(order), size):
            some = order[start : start + size]
            found = batch([load.prompts[n] for n in some], max(load.new_tokens[n] for n in some))
            for n, ids in zip(some, found, strict=True):
                results[n] = ids[: load.new_tokens[n]]
        return results

    return generate


def make_engine(name: str, model: str, threads: int) -> Generate:
    """`picobatch[:dtype[:batch]]`, `transformers:BATCH` or `ctranslate2:TYPE:BATCH:WORKERS`."""
    kind, *options = name.split(":")
    if kind == "picobatch":
        dtype = options[0] if options else "float32"
        size = int(options[1]) if len(options) > 1 else None
        return picobatch(model, threads, dtype, size)
    if kind == "transformers":
        return transformers(model, threads, int(options[0]))
    if kind == "ctranslate2":
        return ctranslate2(model, threads, options[0], int(options[1]), int(options[2]))
    raise SystemExit(f"{name}: expected picobatch, transformers or ctranslate2")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine")
    parser.add_argument("model")
    parser.add_argument("load")
    parser.add_argument("output", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    generate = make_engine(args.engine, args.model, args.threads)
    load = make_load(args.load)
    start_s = time.perf_counter()
    found = generate(load)
    elapsed_s = time.perf_counter() - start_s - getattr(generate, "loading_s", 0.0)
    assert [len(ids) for ids in found] == load.new_tokens
    args.output.write_text(json.dumps(found))
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"elapsed_s": elapsed_s, "peak_bytes": peak_bytes, "n_new": load.n_new}))


if __name__ == "__main__":
    main()
