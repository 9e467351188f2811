"""Rows for composites: which of our own functions a target has one operator for.

Fusion by name, before tracing: a target with a row for `layer_norm` gets
LayerNormalization; one without gets the body of `layer_norm`, operator by operator.
"""

import math
from typing import Any

import numpy as np

from reference.float16 import float16_matmul as float16_matmul_reference
from reference.gpt2 import LAYER_NORM_EPS, HParams
from reference.gpt2 import attention as attention_reference
from reference.gpt2 import first_highest as first_highest_reference
from reference.gpt2 import gelu as gelu_reference
from reference.gpt2 import layer_norm as layer_norm_reference
from reference.gpt2 import linear as linear_reference
from reference.gpt2 import log_softmax as log_softmax_reference
from reference.gpt2 import softmax as softmax_reference
from reference.gpt2 import unembed as unembed_reference
from reference.int8 import LIMIT, SMALLEST, ZERO
from reference.int8 import int8_matmul as int8_matmul_reference
from reference.kv_cache import cached_attention as cached_attention_reference
from reference.kv_cache import cached_attention_int8 as cached_attention_int8_reference

from .dims import Dim, is_batch, same_length
from .errors import TraceError
from .graph import MICROSOFT_DOMAIN
from .primitives.sums import reduce_
from .recorder import Recorder, Table, is_tracer

GQA_HEAD_MULTIPLE = 8  # of numbers in a head, for onnxruntime's GroupQueryAttention
MOST_BLOCKS = 256  # that a vocabulary is looked through in

TARGETS = {
    "primitives": "every composite by its body; standard operators only",
    "portable": "standard operators, composites where the opset has one",
    "onnxruntime": "also onnxruntime's contrib operators",
}


def composites_of(target: str, opset: int) -> Table:
    """The composites that a target has an operator for at an opset.

    Raises
    ------
    TraceError
        Where there is no such target.
    """
    if target not in TARGETS:
        raise TraceError(f"target {target!r}: expected one of {', '.join(TARGETS)}.")
    if target == "primitives":
        return {}
    table: dict[Any, Any] = {
        softmax_reference: softmax,
        log_softmax_reference: log_softmax,
        float16_matmul_reference: matmul_in_float16,
        int8_matmul_reference: matmul_integer,
    }
    if opset >= 17:
        table[layer_norm_reference] = layer_norm
    if target == "onnxruntime":
        table[gelu_reference] = fast_gelu
        table[linear_reference] = gemm
        table[unembed_reference] = gemm_transposed
        table[first_highest_reference] = arg_max_by_blocks
        if opset < 28:  # at which onnxruntime 1.32 cannot run QuantizeLinear
            table[int8_matmul_reference] = matmul_integer_to_float
        table[cached_attention_reference] = group_query_attention
        table[cached_attention_int8_reference] = group_query_attention_int8
        # Attention by its body: onnxruntime 1.32 has the operator for opsets 23 and 24, where it is
        # as fast; from 25 on it takes it apart, and a token with a past takes 1.5 times as long.
        return table
    if opset >= 20:
        table[gelu_reference] = gelu
    if opset >= 23:
        table[attention_reference] = attention
    return table


def softmax(recorder: Recorder, x: Any) -> str | None:
    return recorder.node("Softmax", recorder.operand(x), axis=-1) if _row_wise(x) else None


def log_softmax(recorder: Recorder, x: Any) -> str | None:
    return recorder.node("LogSoftmax", recorder.operand(x), axis=-1) if _row_wise(x) else None


def layer_norm(recorder: Recorder, x: Any, g: Any, b: Any) -> str | None:
    if not (_row_wise(x) and _is_vector_for(g, x) and _is_vector_for(b, x)):
        return None
    operands = recorder.operand(x), recorder.operand(g), recorder.operand(b)
    return recorder.node("LayerNormalization", *operands, axis=-1, epsilon=LAYER_NORM_EPS)


def _is_vector_for(w: Any, x: Any) -> bool:
    fits = is_tracer(w) and w.ndim == 1 and same_length(w.shape[0], x.shape[-1])
    return fits and bool(w.dtype == x.dtype)


def _row_wise(x: Any) -> bool:
    """Whether the last axis is one of floats within a row; if not, the body says what is wrong."""
    return is_tracer(x) and x.ndim > 0 and not is_batch(x.shape[-1]) and x.dtype.kind == "f"


def gelu(recorder: Recorder, x: Any) -> str:
    return recorder.node("Gelu", recorder.operand(x), approximate="tanh")


def fast_gelu(recorder: Recorder, x: Any) -> str:
    return recorder.node("FastGelu", recorder.operand(x), domain=MICROSOFT_DOMAIN)


def attention(recorder: Recorder, q: Any, k: Any, v: Any, mask: Any) -> str | None:
    """Attention with a mask of numbers that are added, as long as q and k.

    Runtimes differ on masks of booleans and on `is_causal`, opsets on a mask that is shorter than
    the keys. The scale is kept in float32, which is not enough for float64.
    """
    if not all(_row_wise(x) and x.ndim == 4 and x.dtype == q.dtype for x in (q, k, v)):
        return None
    if q.dtype == np.float64:
        return None
    same = [*zip(q.shape[:2], k.shape[:2], strict=True), (q.shape[3], k.shape[3])]
    same += zip(k.shape[:3], v.shape[:3], strict=True)
    if not all(same_length(one, other) for one, other in same) or is_batch(k.shape[2]):
        return None
    if not _is_mask_for(mask, q, k):
        return None
    operands = (recorder.operand(x) for x in (q, k, v, mask))
    return recorder.node("Attention", *operands, scale=1 / math.sqrt(q.shape[3]))


def _is_mask_for(mask: Any, q: Any, k: Any) -> bool:
    """Whether it is as long as q and k, and has no other axes, or rows and heads: one or all."""
    if not (is_tracer(mask) or isinstance(mask, np.ndarray)):
        return False
    if mask.ndim not in (2, 4) or mask.dtype != q.dtype:
        return False
    *leading, n_q, n_k = mask.shape
    whole = zip(leading, q.shape[:2], strict=False)
    fits = [same_length(n_q, q.shape[2]), same_length(n_k, k.shape[2])]
    return all(fits) and all(same_length(n, 1) or same_length(n, every) for n, every in whole)


def gemm(recorder: Recorder, x: Any, w: Any, b: Any) -> str | None:
    if not (_row_wise(x) and x.ndim == 2 and _is_matrix_for(w, x, 0) and is_tracer(b)):
        return None
    return recorder.node("Gemm", recorder.operand(x), recorder.operand(w), recorder.operand(b))


def gemm_transposed(recorder: Recorder, x: Any, w: Any) -> str | None:
    """The output projection with the embeddings as they are, which onnxruntime packs once."""
    if not (_row_wise(x) and x.ndim == 2 and _is_matrix_for(w, x, 1)):
        return None
    return recorder.node("Gemm", recorder.operand(x), recorder.operand(w), transB=1)


def _is_matrix_for(w: Any, x: Any, summed: int) -> bool:
    fits = is_tracer(w) and w.ndim == 2 and same_length(w.shape[summed], x.shape[-1])
    return fits and bool(w.dtype == x.dtype)


def arg_max_by_blocks(recorder: Recorder, x: Any) -> str | None:
    """The block of the highest number, then its place there: ArgMax alone looks at each in turn."""
    if not (_row_wise(x) and x.ndim == 2):
        return None
    n_blocks = next((n for n in range(MOST_BLOCKS, 1, -1) if x.shape[-1] % n == 0), None)
    if n_blocks is None:
        return None
    n_in_block = x.shape[-1] // n_blocks
    blocks = recorder.node("Reshape", recorder.operand(x), recorder.ints(0, n_blocks, n_in_block))
    highest = reduce_(recorder, "ReduceMax", blocks, [2], keepdims=False, axes_input_from=18)
    block = recorder.node("ArgMax", highest, axis=1, keepdims=1)
    inside = recorder.node("GatherND", blocks, block, batch_dims=1)
    place = recorder.node("ArgMax", inside, axis=1, keepdims=1)
    start = recorder.node("Mul", block, recorder.ints(n_in_block))
    return recorder.node("Squeeze", recorder.node("Add", start, place), recorder.ints(1))


def matmul_in_float16(recorder: Recorder, x: Any, half: Any) -> str | None:
    if not (_row_wise(x) and is_tracer(half) and half.dtype == np.float16):
        return None
    operands = recorder.operand(x, half.dtype), recorder.operand(half)
    return recorder.node("Cast", recorder.node("MatMul", *operands), to=x.dtype)


def matmul_integer(recorder: Recorder, x: Any, q: Any, scale: Any) -> str | None:
    """Rounding to 8 bits row by row, and a product of whole numbers."""
    if not (_row_wise(x) and is_tracer(q) and is_tracer(scale)):
        return None
    name = recorder.operand(x)
    row_scale = _row_scale(recorder, name, x.ndim - 1, keepdims=True)
    whole = recorder.node("Round", recorder.node("Div", name, row_scale))
    around = recorder.node("Add", whole, recorder.constant(np.float32(ZERO)))
    zero = recorder.constant(np.uint8(ZERO))
    product = recorder.node(
        "MatMulInteger",
        recorder.node("Cast", around, to=np.dtype(np.uint8)),
        recorder.operand(q),
        zero,
        *([zero] if q.dtype == np.uint8 else []),
    )
    scaled = recorder.node("Mul", recorder.node("Cast", product, to=x.dtype), row_scale)
    return recorder.node("Mul", scaled, recorder.operand(scale))


def _row_scale(recorder: Recorder, x: str, axis: int, *, keepdims: bool) -> str:
    """What one of a row's whole numbers stands for."""
    largest = recorder.node("Abs", x)
    largest = reduce_(recorder, "ReduceMax", largest, [axis], keepdims=keepdims, axes_input_from=18)
    largest = recorder.node("Max", largest, recorder.constant(np.float32(SMALLEST)))
    return recorder.node("Div", largest, recorder.constant(np.float32(LIMIT)))


def matmul_integer_to_float(recorder: Recorder, x: Any, q: Any, scale: Any) -> str | None:
    """The same in fewer steps, where rows are one after the other."""
    if not (_row_wise(x) and x.ndim == 2 and is_tracer(q) and is_tracer(scale)):
        return matmul_integer(recorder, x, q, scale)
    n_rows = recorder.length(x.shape[0]) if isinstance(x.shape[0], Dim) else None
    if n_rows is None:
        return matmul_integer(recorder, x, q, scale)
    name = recorder.operand(x)
    row_scale = _row_scale(recorder, name, 1, keepdims=False)
    # Unsigned, around 128: what processors multiply fastest.
    zero = recorder.constant(np.uint8(ZERO))
    zeros = recorder.node("Expand", zero, n_rows)
    rounded = recorder.node("QuantizeLinear", name, row_scale, zeros, axis=0)
    product = recorder.node(
        "MatMulIntegerToFloat",
        rounded,
        recorder.operand(q),
        recorder.constant(np.float32(1)),
        recorder.operand(scale),
        zero,
        *([zero] if q.dtype == np.uint8 else []),
        domain=MICROSOFT_DOMAIN,
    )
    column = recorder.node("Unsqueeze", row_scale, recorder.ints(1))
    return recorder.node("Mul", product, column)


def group_query_attention(
    recorder: Recorder,
    qkv: Any,
    k_cache: Any,
    v_cache: Any,
    past: Any,
    n_head: int,
    hidden: Any = None,
) -> list[str] | None:
    """Attention that writes into the cache it reads, where both are bound to the same memory.

    onnxruntime takes rows as ragged where they have one new token each, where n_seq = n_cap (all
    begin), or where there is one row.
    """
    if not (_row_wise(qkv) and is_tracer(k_cache) and k_cache.shape[-1] % GQA_HEAD_MULTIPLE == 0):
        return None
    operands = _attention_operands(recorder, qkv, k_cache, v_cache, past)
    return recorder.nodes(
        "GroupQueryAttention",
        *operands,
        *_bias(recorder, hidden),
        outputs=3,
        domain=MICROSOFT_DOMAIN,
        num_heads=n_head,
        kv_num_heads=n_head,
    )


def group_query_attention_int8(
    recorder: Recorder,
    qkv: Any,
    k_cache: Any,
    v_cache: Any,
    past: Any,
    n_head: int,
    k_scale: Any,
    v_scale: Any,
    hidden: Any = None,
) -> list[str] | None:
    """The same with a cache in 8 bits: faster for one new token a row, slower for many."""
    if not (_row_wise(qkv) and is_tracer(k_cache) and k_cache.shape[-1] % GQA_HEAD_MULTIPLE == 0):
        return None
    operands = _attention_operands(recorder, qkv, k_cache, v_cache, past)
    return recorder.nodes(
        "GroupQueryAttention",
        *operands,
        *(_bias(recorder, hidden) or [""] * 4),
        "",  # sinks
        recorder.operand(k_scale),
        recorder.operand(v_scale),
        outputs=3,
        domain=MICROSOFT_DOMAIN,
        num_heads=n_head,
        kv_num_heads=n_head,
        k_quant_type="PER_CHANNEL",
        v_quant_type="PER_CHANNEL",
        kv_cache_bit_width=8,
    )


def _attention_operands(
    recorder: Recorder, qkv: Any, k_cache: Any, v_cache: Any, past: Any
) -> list[str]:
    n_seq, n_cap = (_length(recorder, x, axis) for x, axis in ((qkv, 1), (k_cache, 2)))
    n_before_last = recorder.node("Sub", n_seq, recorder.ints(1))
    ends = recorder.node("Add", recorder.operand(past), n_before_last)
    return [
        recorder.operand(qkv),
        *("", ""),  # keys and values are in the first
        recorder.operand(k_cache),
        recorder.operand(v_cache),
        recorder.node("Cast", ends, to=np.dtype(np.int32)),
        recorder.node("Cast", n_cap, to=np.dtype(np.int32)),
    ]


def _bias(recorder: Recorder, hidden: Any) -> list[str]:
    """What is added to the scores, after rotary embeddings and their positions, which are none."""
    return [] if hidden is None else ["", "", "", recorder.operand(hidden)]


def _length(recorder: Recorder, x: Any, axis: int) -> str:
    """The length of an axis, int64 [1]."""
    length = x.shape[axis]
    if isinstance(length, int):
        return recorder.ints(length)
    shape = recorder.length(length)
    return shape or recorder.shape_part(recorder.operand(x), axis)


def writes_in_place(hparams: HParams, target: str) -> bool:
    """Whether a traced step may write into the memory of the cache that it is given."""
    head = hparams["n_embd"] // hparams["n_head"]
    return target == "onnxruntime" and head % GQA_HEAD_MULTIPLE == 0
