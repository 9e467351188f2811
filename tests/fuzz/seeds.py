"""Small real files of every format that is read, made on the fly."""

import atexit
import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
from safetensors.numpy import save_file

from benchmarks.bundle import write_bundle
from exporter import export
from reference import HParams, Model, load_model, param_shapes
from reference.added_tokens import AddedToken
from reference.checkpoint import huggingface, openai
from reference.tokenizer import END_OF_TEXT, Tokenizer, byte_letters
from reference.tokenizer_write import write_tokenizer
from reference.tree import leaves
from runner import RunSettings, run
from runner.parity import parity_record

HPARAMS = HParams(n_vocab=264, n_ctx=16, n_embd=4, n_head=2, n_layer=1)
MERGES = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("i", "n")]
PROMPTS = (
    b'{"prompt": "the", "id": 1}\n{"prompt": [4, 5], "max_new_tokens": 1}\n{"prompt": ""}\n'
    b'{"prompt": "in", "messages": [{"role": "user", "content": "the"}]}\nnot JSON\n'
)
ROOT = Path(mkdtemp(prefix="fuzz-picobatch-"))
atexit.register(shutil.rmtree, ROOT, ignore_errors=True)


def tokenizer() -> Tokenizer:
    """All bytes, a few merges, end-of-text and a token that was added."""
    vocab = dict(byte_letters())
    for left, right in MERGES:
        vocab[left + right] = len(vocab)
    vocab[END_OF_TEXT] = len(vocab)
    return Tokenizer(vocab, MERGES, [AddedToken("<user>", len(vocab), special=True)])


@cache
def huggingface_dir() -> Path:
    """A model directory of Hugging Face's layout, in one file."""
    folder = ROOT / "huggingface"
    folder.mkdir()
    (folder / "config.json").write_text(
        '{"model_type": "gpt2", "vocab_size": 264, "n_positions": 16, "n_embd": 4, "n_head": 2, '
        '"n_layer": 1, "n_inner": null, "activation_function": "gelu_new", "eos_token_id": 260}'
    )
    (folder / "generation_config.json").write_text('{"eos_token_id": [260]}')
    (folder / "special_tokens_map.json").write_text('{"pad_token": {"content": "<user>"}}')
    (folder / "added_tokens.json").write_text('{"<user>": 261}')
    write_tokenizer(tokenizer(), folder, HPARAMS["n_ctx"])
    save_file(
        {huggingface.tensor_name(leaf): array for leaf, array in _weights()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    return folder


@cache
def pair_dir() -> Path:
    """The same without `tokenizer.json`: `vocab.json` and `merges.txt` count."""
    folder = shutil.copytree(huggingface_dir(), ROOT / "pair")
    (folder / "tokenizer.json").unlink()
    return folder


@cache
def shards_dir() -> Path:
    """The same in two files and an index."""
    folder = shutil.copytree(huggingface_dir(), ROOT / "shards")
    (folder / "model.safetensors").unlink()
    tensors = {huggingface.tensor_name(leaf): array for leaf, array in _weights()}
    names = sorted(tensors)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    weight_map = []
    for file, some in parts.items():
        save_file({name: tensors[name] for name in some}, folder / file)
        weight_map += [f'"{name}": "{file}"' for name in some]
    (folder / "model.safetensors.index.json").write_text(
        f'{{"metadata": {{"total_size": 1}}, "weight_map": {{{", ".join(weight_map)}}}}}'
    )
    return folder


@cache
def openai_dir() -> Path:
    """A model directory of OpenAI's layout."""
    folder = ROOT / "openai"
    folder.mkdir()
    (folder / "hparams.json").write_text(
        '{"n_vocab": 264, "n_ctx": 16, "n_embd": 4, "n_head": 2, "n_layer": 1}'
    )
    (folder / "checkpoint").write_text(
        'model_checkpoint_path: "model.ckpt"\nall_model_checkpoint_paths: "model.ckpt"\n'
    )
    for ours, theirs in (("vocab.json", "encoder.json"), ("merges.txt", "vocab.bpe")):
        shutil.copy(huggingface_dir() / ours, folder / theirs)
    arrays = {openai.tensor_name(leaf): array for leaf, array in _weights()}
    write_bundle(
        folder / openai.PREFIX, [(name, lambda a=array: a) for name, array in arrays.items()]
    )
    return folder


@cache
def model() -> Model:
    return load_model(huggingface_dir())


@cache
def package_dir() -> Path:
    """An exported folder, with graphs in two formats and the record of each."""
    return export(
        model(), ROOT / "package", dtypes=("float32", "int8"), verify=parity_record
    ).directory


@cache
def completions_dir() -> Path:
    """What a job writes, in both formats: `out.jsonl`, `out.parquet`, manifests, `in.parquet`."""
    folder = ROOT / "completions"
    folder.mkdir()
    (folder / "in.jsonl").write_bytes(PROMPTS)
    for name, output in (("in.jsonl", "out.jsonl"), ("in.jsonl", "in.parquet")):
        run(settings(folder / name, folder / output))
    run(settings(folder / "in.parquet", folder / "out.parquet", column_prefix="again_"))
    return folder


def settings(source: Path, output: Path, **options) -> RunSettings:
    """A job that costs little."""
    given = {"max_new_tokens": 1, "threads": 1, "batch_size": 4, "check_rows": 1, "overwrite": True}
    return RunSettings(str(source), str(output), str(huggingface_dir()), **{**given, **options})


def _weights():
    rng = np.random.default_rng(0)
    for leaf, shape in leaves(param_shapes(HPARAMS)):
        yield leaf, rng.standard_normal(shape).astype(np.float32)
