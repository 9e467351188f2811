"""Ways of rounding activations, keys and values to 8 bits: what each costs in accuracy and time.

    python -m benchmarks.int8_schemes

Accuracy in NumPy, on the bundled demo model and the sentences of its facts: difference of the
logits in standard deviations (rms), same choice, KL divergence and perplexity against float32.
Static scales of activations are calibrated on other sentences than those they are judged by. Time
as onnxruntime takes for one matrix product of 124M shapes. Weights are rounded channel by channel
in all of them.
"""

import argparse
import json
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from reference import Model, gpt2, load_model
from reference.gpt2 import log_softmax
from reference.int8 import (
    LIMIT,
    MARGIN,
    Int8Matrix,
    each_matrix,
    kv_scales,
    quantize,
    quantize_matrix,
)
from reference.kv_cache import cached_logits, empty_cache

FACTS = Path(__file__).parent.parent / "jobs" / "facts.jsonl"
CALIBRATED, JUDGED = slice(0, 200), slice(200, 800)  # sentences
SMOOTHING = 0.5  # SmoothQuant's alpha


def rounded(x: Any, scale: Any) -> Any:
    return np.clip(np.rint(x / scale), -LIMIT, LIMIT)


class Recorded(Int8Matrix):
    """A float32 matrix that notes the largest number that each of its inputs takes."""

    def __rmatmul__(self, x: Any) -> Any:
        found = np.abs(x).reshape(-1, x.shape[-1]).max(axis=0)
        self["largest"] = np.maximum(self.get("largest", 0), found)
        return x @ self["w"]


class Static(Int8Matrix):
    """One scale for all activations, found beforehand."""

    def __rmatmul__(self, x: Any) -> Any:
        x = x / self.get("smooth", np.float32(1))
        products = rounded(x, self["x_scale"]) @ self["q"].astype(np.float32)
        return products * self["x_scale"] * self["scale"]


class PerTensor(Int8Matrix):
    """One scale for all activations of a call: a row depends on its neighbours."""

    def __rmatmul__(self, x: Any) -> Any:
        x_scale = np.abs(x).max() / np.float32(LIMIT)
        return rounded(x, x_scale) @ self["q"].astype(np.float32) * x_scale * self["scale"]


def schemes(model: Model, calibration: list[list[int]]) -> dict[str, Any]:
    """A parameter tree for each way of rounding."""
    places: dict[str, Recorded] = {}

    def record(place: str, w: Any) -> Recorded:
        places[place] = Recorded(w=w)
        return places[place]

    recorded = each_matrix(model.params, record)
    for ids in calibration:
        gpt2(np.array(ids), **recorded, n_head=model.hparams["n_head"])

    def static(place: str, w: Any) -> Static:
        x_scale = places[place]["largest"].max() / np.float32(LIMIT)
        return Static(quantize_matrix(w), x_scale=x_scale)

    def smooth(place: str, w: Any) -> Static:
        largest = np.maximum(places[place]["largest"], 1e-5)
        by = largest**SMOOTHING / np.maximum(np.abs(w).max(axis=1), 1e-5) ** (1 - SMOOTHING)
        x_scale = (largest / by).max() / np.float32(LIMIT)
        return Static(quantize_matrix(w * by[:, None]), x_scale=x_scale, smooth=by)

    return {
        "per row": quantize(model.params),
        "static": each_matrix(model.params, static),
        "static, smoothed": each_matrix(model.params, smooth),
        "per call (couples rows)": each_matrix(
            model.params, lambda _, w: PerTensor(quantize_matrix(w))
        ),
    }


def sentences(model: Model) -> list[list[int]]:
    """The demo's facts as token ids, each with end-of-text before and after it."""
    end = model.tokenizer.eos_id
    assert end is not None
    rows = [json.loads(line) for line in FACTS.read_text(encoding="utf-8").splitlines()]
    texts = (row["prompt"] + row["answer"] for row in rows)
    return [[end, *model.tokenizer.encode(text), end] for text in texts]


def kv_schemes(model: Model) -> dict[str, Any]:
    """Scales of a KV cache in 8 bits, for each number of them that onnxruntime or we could take."""
    scales = kv_scales(model.params, model.hparams)
    tokens = scales / np.float32(MARGIN)  # as large as the largest of the random tokens

    def widest(axes: tuple[int, ...]) -> Any:
        return np.broadcast_to(np.max(scales, axis=axes, keepdims=True), scales.shape)

    return {
        "keys and values in float32": None,
        "a scale for each channel": scales,
        "for each channel, margin 1": tokens,
        "for each channel, margin 3": tokens * np.float32(3),
        "for each head": widest((5,)),
        "for each block": widest((3, 5)),
    }


def judge(
    model: Model, params: Any, texts: list[list[int]], scales: Any = None
) -> dict[str, float]:
    """A tree against float32, over every position of some texts."""
    squares, spreads, same, kl, loss, exact_loss, n = 0.0, 0.0, 0, 0.0, 0.0, 0.0, 0
    n_head = model.hparams["n_head"]
    for ids in texts:
        inputs, following = np.array(ids[:-1]), np.array(ids[1:])
        exact = gpt2(inputs, **model.params, n_head=n_head).astype(np.float64)
        cache = empty_cache(model.hparams, 1, len(inputs), scales)
        every, start = np.arange(len(inputs))[None], np.zeros(1, np.int64)
        found, _ = cached_logits(inputs[None], start, every, cache, **params, n_head=n_head)
        found = found.astype(np.float64)
        log_p, log_q = log_softmax(exact), log_softmax(found)
        squares += float(np.mean((found - exact) ** 2)) * len(inputs)
        spreads += float(np.var(exact)) * len(inputs)
        same += int(np.sum(found.argmax(-1) == exact.argmax(-1)))
        kl += float(np.sum(np.exp(log_p) * (log_p - log_q)))
        loss -= float(np.sum(np.take_along_axis(log_q, following[:, None], 1)))
        exact_loss -= float(np.sum(np.take_along_axis(log_p, following[:, None], 1)))
        n += len(inputs)
    return {
        "rms_in_std": float(np.sqrt(squares / spreads)),
        "top1": same / n,
        "kl": kl / n,
        "perplexity": float(np.exp(loss / n)),
        "perplexity_float32": float(np.exp(exact_loss / n)),
    }


def product_us(scheme: str, rows: int, n_in: int, n_out: int) -> float:
    """Microseconds of one product with its rounding, in onnxruntime with two threads."""
    rng = np.random.default_rng(0)
    node = helper.make_node
    constants: dict[str, Any] = {
        "q": rng.integers(-127, 128, (n_in, n_out)).astype(np.int8),
        "w": rng.standard_normal((n_in, n_out), np.float32),
        "scale": rng.random(n_out, np.float32),
        "x_scale": np.array(0.03, np.float32),
        "one": np.array(1, np.float32),
        "limit": np.array(127, np.float32),
        "zero": np.array(128, np.uint8),
        "zeros": np.full(rows, 128, np.uint8),
        "last": np.array([-1]),
    }
    microsoft = {"domain": "com.microsoft"}
    nodes = {
        "float32": [node("MatMul", ["x", "w"], ["y"])],
        "static": [
            node("QuantizeLinear", ["x", "x_scale", "zero"], ["u"]),
            node(
                "MatMulIntegerToFloat", ["u", "q", "x_scale", "scale", "zero"], ["y"], **microsoft
            ),
        ],
        "per call (couples rows)": [
            node("DynamicQuantizeLinear", ["x"], ["u", "s", "z"]),
            node("MatMulIntegerToFloat", ["u", "q", "s", "scale", "z"], ["y"], **microsoft),
        ],
        "per row": [
            node("Abs", ["x"], ["a"]),
            node("ReduceMax", ["a", "last"], ["m"], keepdims=0),
            node("Div", ["m", "limit"], ["s"]),
            node("QuantizeLinear", ["x", "s", "zeros"], ["u"], axis=0),
            node("MatMulIntegerToFloat", ["u", "q", "one", "scale", "zero"], ["p"], **microsoft),
            node("Unsqueeze", ["s", "last"], ["column"]),
            node("Mul", ["p", "column"], ["y"]),
        ],
    }[scheme.removesuffix(", smoothed")]
    used = {name for n in nodes for name in n.input}
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, n_in])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [rows, n_out])],
        [numpy_helper.from_array(a, name) for name, a in constants.items() if name in used],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    binding = session.io_binding()
    binding.bind_cpu_input("x", rng.standard_normal((rows, n_in), np.float32))
    binding.bind_output("y", "cpu")
    seconds = []
    for _ in range(50):
        start_s = time.perf_counter()
        session.run_with_iobinding(binding)
        seconds.append(time.perf_counter() - start_s)
    return median(seconds) * 1e6


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    model = load_model("demo")
    texts = sentences(model)
    results: dict[str, Any] = {}
    in_int8 = quantize(model.params)
    activations = {
        name: (params, None) for name, params in schemes(model, texts[CALIBRATED]).items()
    }
    kept = {name: (in_int8, scales) for name, scales in kv_schemes(model).items()}
    for title, compared in (("activations", activations), ("keys and values", kept)):
        print(f"\n| {title} | rms | same choice | KL | perplexity |\n|---|---|---|---|---|")
        for name, (params, scales) in compared.items():
            found = results[name] = judge(model, params, texts[JUDGED], scales)
            print(
                f"| {name} | {found['rms_in_std']:.2%} | {found['top1']:.2%} | "
                f"{found['kl']:.2g} | {found['perplexity']:.4f} |"
            )
    print(f"\nperplexity of float32: {results['per row']['perplexity_float32']:.4f}\n")
    shapes = [(rows, *sizes) for rows in (1, 64) for sizes in ((768, 3072), (3072, 768))]
    print("| microseconds | " + " | ".join(f"{r}x{i} x {i}x{o}" for r, i, o in shapes) + " |")
    print("|---|" + "---|" * len(shapes))
    for name in ("float32", "per row", "static", "per call (couples rows)"):
        times = [product_us(name, *shape) for shape in shapes]
        results.setdefault(name, {})["microseconds"] = times
        print(f"| {name} | " + " | ".join(f"{t:.0f}" for t in times) + " |")
    print(json.dumps(results))


if __name__ == "__main__":
    main()
