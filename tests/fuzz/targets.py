"""What is fuzzed, by name."""

import gzip
import json
from pathlib import Path

from exporter import cached
from exporter.package import MANIFEST
from reference import cache
from reference.checkpoint import rounded

from . import job_calls, job_files, job_seeds, mutate, names, parsers, seeds
from .target import TRIED_CACHE, Target

CONFIGS = ("config.json", "generation_config.json")
TOKENIZERS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")

TARGETS: dict[str, Target] = {
    "openai": Target(
        seeds.openai_dir,
        {
            "block": mutate.change_bytes,
            "model.ckpt.index": mutate.change_bytes,
            "checkpoint": mutate.change_bytes,
            "hparams.json": mutate.change_json,
            "vocab.bpe": mutate.change_bytes,
            "encoder.json": mutate.change_json,
            "model.ckpt.data-00000-of-00001": mutate.change_bytes,
        },
        parsers.load,
        parsers.write_bundle,
    ),
    "huggingface": Target(
        seeds.huggingface_dir,
        {
            "model.safetensors": mutate.change_safetensors,
            **dict.fromkeys(CONFIGS, mutate.change_json),
        },
        parsers.load,
    ),
    "shards": Target(
        seeds.shards_dir,
        {
            "model.safetensors.index.json": mutate.change_json,
            "a.safetensors": mutate.change_safetensors,
        },
        parsers.load,
    ),
    "tokenizer": Target(
        seeds.huggingface_dir,
        dict.fromkeys(("tokenizer.json", *TOKENIZERS), mutate.change_json),
        parsers.load,
    ),
    "merges": Target(
        seeds.pair_dir,
        {
            "merges.txt": mutate.change_bytes,
            "vocab.json": mutate.change_json,
            **dict.fromkeys(TOKENIZERS, mutate.change_json),
        },
        parsers.load,
    ),
    "package": Target(
        seeds.package_dir,
        {
            MANIFEST: mutate.change_json,
            "onnx/model.onnx": mutate.change_onnx,
            "onnx/forward_quantized.onnx": mutate.change_onnx,
            "onnx/model.onnx_data": mutate.change_bytes,
        },
        parsers.read_package,
        parsers.write_package,
    ),
    "check": Target(
        seeds.package_dir,
        {
            "onnx/model.onnx": mutate.change_onnx,
            "onnx/next_logits.onnx": mutate.change_onnx,
            "onnx/model_quantized.onnx": mutate.change_onnx,
        },
        parsers.check_package,
        parsers.write_package,
    ),
    "completions": Target(
        seeds.completions_dir,
        {
            "out.jsonl.manifest.json": mutate.change_json,
            "footer": mutate.change_json,
            "out.jsonl": mutate.change_lines,
            "out.parquet": mutate.change_bytes,
        },
        parsers.read_completions,
        parsers.write_completions,
    ),
    "jsonl": Target(
        seeds.completions_dir,
        {"in.jsonl": mutate.change_lines, "packed.jsonl.gz": mutate.change_lines},
        parsers.run_job,
        parsers.write_input,
        {"packed.jsonl.gz": [seeds.PROMPTS]},
    ),
    "gzip": Target(
        seeds.completions_dir,
        {"in.jsonl.gz": mutate.change_bytes},
        parsers.run_job,
        seeds={"in.jsonl.gz": [gzip.compress(seeds.PROMPTS)]},
    ),
    "line": Target(seeds.completions_dir, {"in.jsonl": mutate.change_lines}, parsers.parse),
    "parquet": Target(
        seeds.completions_dir,
        {"in.parquet": mutate.change_bytes},
        parsers.run_job,
    ),
    "cache": Target(
        seeds.huggingface_dir,
        {
            "note": mutate.change_json,
            "int8.safetensors": mutate.change_safetensors,
            "graph": mutate.change_onnx,
        },
        parsers.use_cache,
        parsers.write_cache,
    ),
    "requests": Target(
        job_seeds.requests_dir,
        {"requests.jsonl": mutate.change_lines},
        job_calls.answer_requests,
    ),
    "folder": Target(
        job_seeds.interrupted_dir,
        {"parts": job_calls.change_folder},
        job_calls.go_on,
        job_calls.write_folder,
    ),
    "merge": Target(
        job_seeds.job_shards_dir,
        {
            f"{job_seeds.shard(0)}.manifest.json": mutate.change_json,
            f"{job_seeds.shard(1)}.manifest.json": mutate.change_json,
            "all": mutate.change_json,
            f"{job_seeds.shard(0, '.parquet')}.manifest.json": mutate.change_json,
            job_seeds.shard(0, ".parquet"): mutate.change_bytes,
        },
        job_calls.merge_shards,
        job_calls.write_shard,
    ),
    "resume": Target(
        job_seeds.resumed_dir,
        {
            "o.jsonl.manifest.json": mutate.change_json,
            "footer": mutate.change_json,
            "o.parquet": mutate.change_bytes,
        },
        job_calls.resume,
        job_calls.write_finished,
    ),
    "places": Target(
        names.names_dir,
        {"path": names.change_path, "uri": mutate.change_json},
        names.resolve,
        seeds={
            "path": [path.encode() for path in names.PATHS],
            "uri": [json.dumps(names.URI | {"scheme": scheme}).encode() for scheme in ("s3", "gs")],
        },
    ),
    "options": Target(
        names.names_dir,
        {"options": mutate.change_json},
        names.run_command,
        seeds={
            "options": [
                json.dumps(names.OPTIONS | {"output": f"o{suffix}"}).encode()
                for suffix in (".jsonl", ".parquet", ".jsonl.gz")
            ]
        },
    ),
    "jobs": Target(
        job_files.jobs_dir,
        {job_files.JOB: job_files.change_toml, "values": mutate.change_json},
        job_files.read_job,
        job_files.write_job,
        seeds={"values": [json.dumps(job_files.VALUES).encode()]},
    ),
}


def add_seeds() -> None:
    """Seeds that are made by running something first."""
    TARGETS["openai"].seeds["block"] = [parsers.block()]
    manifest = seeds.completions_dir() / "out.parquet.manifest.json"
    TARGETS["completions"].seeds["footer"] = [manifest.read_bytes()]
    parsers.use_cache(Path())
    files = [path for path in TRIED_CACHE.rglob("*") if path.is_file()]
    for name, kind in (("graph", cached.KIND), ("note", rounded.KIND)):
        TARGETS["cache"].seeds[name] = [
            path.read_bytes()[cache.DIGEST_BYTES :]
            for path in files
            if path.parent.name == kind and path.suffix != ".safetensors"
        ][:4]
    whole = [path.read_bytes() for path in files if path.suffix == ".safetensors"]
    TARGETS["cache"].seeds["int8.safetensors"] = whole[:1]
    job_seeds.answers(), job_seeds.finished()  # no call of a target makes them
    TARGETS["folder"].seeds["parts"] = [job_calls.folder_input()]
    manifest = job_seeds.job_shards_dir() / f"{job_seeds.shard(0)}.manifest.json"
    TARGETS["merge"].seeds["all"] = [manifest.read_bytes()]
    footer = job_seeds.footer_of(job_seeds.resumed_dir() / "o.parquet")
    TARGETS["resume"].seeds["footer"] = [footer]
