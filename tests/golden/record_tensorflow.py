"""Writes the checkpoints of `tests/golden/tensorflow/` with TensorFlow itself.

Run by hand: `.venv-tensorflow/bin/python tests/golden/record_tensorflow.py` after `make oracle`.
`gpt2` is a model in OpenAI's layout; `types` has a tensor of each number type, and shapes at the
edges; `sharded`, `partitioned` and `text` are what we refuse. `arrays.npz` of the first two is what
TensorFlow reads back.
"""

import contextlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

GOLDEN = Path(__file__).parent / "tensorflow"
HPARAMS = {"n_vocab": 290, "n_ctx": 24, "n_embd": 24, "n_head": 3, "n_layer": 2}
MERGES = [("t", "h"), ("th", "e"), ("i", "n"), ("a", "n"), ("an", "d"), ("Ġ", "the")]


def gpt2_arrays(hparams, seed=0):
    """The tensors of a model, under OpenAI's names and in OpenAI's shapes."""
    rng = np.random.default_rng(seed)
    n = hparams["n_embd"]
    shapes = {"model/wte": (hparams["n_vocab"], n), "model/wpe": (hparams["n_ctx"], n)}
    for norm in [
        "ln_f",
        *(f"h{i}/{k}" for i in range(hparams["n_layer"]) for k in ("ln_1", "ln_2")),
    ]:
        shapes |= {f"model/{norm}/g": (n,), f"model/{norm}/b": (n,)}
    for layer in range(hparams["n_layer"]):
        for name, n_in, n_out in [
            ("attn/c_attn", n, 3 * n),
            ("attn/c_proj", n, n),
            ("mlp/c_fc", n, 4 * n),
            ("mlp/c_proj", 4 * n, n),
        ]:
            shapes[f"model/h{layer}/{name}/w"] = (1, n_in, n_out)
            shapes[f"model/h{layer}/{name}/b"] = (n_out,)
    return {
        name: (rng.standard_normal(shape) * 0.3 + name.endswith("/g")).astype(np.float32)
        for name, shape in shapes.items()
    }


def type_arrays():
    """A tensor of each type, and shapes at the edges."""
    rng = np.random.default_rng(1)
    arrays = {
        f"of/{np.dtype(kind).name}": (rng.standard_normal((3, 5)) * 40).astype(kind)
        for kind in ("f4", "f8", "f2", "i8", "i4", "i2", "i1", "u1", "?")
    }
    arrays["of/bfloat16"] = tf.constant(rng.standard_normal((3, 5)), tf.bfloat16).numpy()
    arrays["scalar"] = np.float32(2.5)
    arrays["empty"] = np.zeros((0, 7), np.float32)
    arrays["deep"] = rng.standard_normal((1, 2, 1, 3, 1)).astype(np.float32)
    arrays |= {f"many/{i:03}": np.full(2, i, np.float32) for i in range(300)}
    return arrays


def save(prefix, arrays):
    """What tf.compat.v1.train.Saver does, in one call."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    names = list(arrays)
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=[tf.constant(arrays[name]) for name in names],
    )


def read_back(prefix):
    """Every tensor as TensorFlow reads it."""
    reader = tf.train.load_checkpoint(str(prefix))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def save_with_saver(prefix, arrays):
    """As OpenAI did: variables, a session, a Saver."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        for name, array in arrays.items():
            tf.compat.v1.get_variable(name, initializer=array, use_resource=False)
        session.run(tf.compat.v1.global_variables_initializer())
        with contextlib.chdir(prefix.parent):  # the file `checkpoint` then names no other folder
            tf.compat.v1.train.Saver().save(session, prefix.name, write_meta_graph=False)


def save_partitioned(prefix):
    prefix.parent.mkdir(parents=True, exist_ok=True)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.compat.v1.get_variable(
            "model/wte",
            shape=(8, 4),
            partitioner=tf.compat.v1.fixed_size_partitioner(2),
            use_resource=False,
        )
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver().save(session, str(prefix), write_meta_graph=False)


def save_sharded(prefix):
    """Two files of data, as a Saver(sharded=True) writes on two devices."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    parts = [f"{prefix}_part{i}" for i in range(2)]
    for i, part in enumerate(parts):
        tf.raw_ops.SaveV2(
            prefix=part,
            tensor_names=[f"model/part{i}"],
            shape_and_slices=[""],
            tensors=[tf.ones(3)],
        )
    tf.raw_ops.MergeV2Checkpoints(
        checkpoint_prefixes=parts, destination_prefix=str(prefix), delete_old_dirs=True
    )


def numpy_array(array):
    """NumPy has no bfloat16: its bits."""
    return array if array.dtype.name != "bfloat16" else array.view(np.uint16)


def write_vocabulary(folder):
    """256 bytes, the merges above and end-of-text, in OpenAI's files."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = [chr(byte) for byte in printable] + [chr(0x100 + i) for i in range(len(others))]
    tokens = [*letters, *(a + b for a, b in MERGES), "<|endoftext|>"]
    vocab = {token: i for i, token in enumerate(tokens)}
    (folder / "encoder.json").write_text(json.dumps(vocab), encoding="utf-8")
    lines = "".join(f"{a} {b}\n" for a, b in MERGES)
    (folder / "vocab.bpe").write_text(f"#version: 0.2\n{lines}", encoding="utf-8")


def record(golden):
    shutil.rmtree(golden, ignore_errors=True)
    model = golden / "gpt2"
    save_with_saver(model / "model.ckpt", gpt2_arrays(HPARAMS))
    (model / "hparams.json").write_text(json.dumps(HPARAMS, indent=2))
    write_vocabulary(model)
    np.savez_compressed(model / "arrays.npz", **read_back(model / "model.ckpt"))
    save(golden / "types" / "model.ckpt", type_arrays())
    found = read_back(golden / "types" / "model.ckpt")
    np.savez_compressed(
        golden / "types" / "arrays.npz", **{n: numpy_array(a) for n, a in found.items()}
    )
    save_sharded(golden / "sharded" / "model.ckpt")
    save_partitioned(golden / "partitioned" / "model.ckpt")
    save(golden / "text" / "model.ckpt", {"note": np.array(["a", "b"], object)})
    for left in golden.rglob("checkpoint"):
        if left.parent != model:
            left.unlink()


if __name__ == "__main__":
    record(Path(sys.argv[1]) if len(sys.argv) > 1 else GOLDEN)
