"""onnxruntime runs the traced graphs. The only room that knows onnxruntime."""

import hashlib
import json
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state

from exporter import TracedModel, trace_prefill, trace_step, traced_onnx, writes_in_place
from reference import Model
from reference.gpt2 import Params
from reference.tree import leaves

from .kv_cache import CacheArray, FloatArray, SlotCache

IntArray = npt.NDArray[np.int64]

# What onnxruntime raises: most of it has no base of its own.
RUNTIME_ERRORS: tuple[type[Exception], ...] = (
    ValueError,
    *(
        kind
        for kind in vars(onnxruntime_pybind11_state).values()
        if isinstance(kind, type) and issubclass(kind, Exception)
    ),
)

TARGET = "onnxruntime"
FOLDED_BYTES = 1 << 20  # computed once by a lean session
LARGE_BYTES = 1 << 28  # of weights: one session at a time
HYBRID_TASKS = 4  # that onnxruntime counts for a thread, where cores are of two kinds


@dataclass(frozen=True)
class Decoded:
    """What follows the tokens of a step.

    Attributes
    ----------
    tokens : int64 [n]
        The greedy choice of each slot.
    logprobs : float32 [n]
        Their natural log-probabilities.
    logits : float32 [n, n_vocab] or None
        What they were chosen from, where that was asked for. Valid until the next step.
    """

    tokens: IntArray
    logprobs: FloatArray
    logits: FloatArray | None


@dataclass
class Work:
    """Tokens that went through the model, and the seconds it took."""

    tokens: int = 0
    seconds: float = 0.0

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.seconds if self.seconds else 0.0


class Engine:
    """Runs the traced step over the slots of a KV cache.

    A token's path depends on its own sequence only: prompts but for their last token go through
    `prefill`, that one and every generated token through `decode`, one at a time. With operators
    that compute row by row, the numbers of a sequence are the same bits in any company.

    Parameters
    ----------
    model : Model
        Its weights are mapped from their files, where these hold float32. One `in_int8` is run with
        integer products, and keys and values in 8 bits.
    threads : int
        Threads of one call.
    profiled : bool
        Time each operator, for `operator_seconds`.

    Attributes
    ----------
    cache : SlotCache
        At first without slots.
    prefilled, decoded : Work
        What was done so far.
    threads : int
        As given.
    """

    def __init__(self, model: Model, threads: int, *, profiled: bool = False) -> None:
        self.hparams = model.hparams
        self.threads = threads
        kept_in = np.float32 if model.kv_scales is None else np.int8
        self.cache = SlotCache(model.hparams, kept_in)
        self._apart = SlotCache(model.hparams, kept_in)
        self.prefilled, self.decoded = Work(), Work()
        self._in_place = writes_in_place(model.hparams, TARGET)
        kept: dict[str, Any] = {"kv_scales": model.kv_scales, "target": TARGET}
        graphs = {"step": traced_onnx(trace_step, model, choices=model.tokenizer.choices, **kept)}
        if model.kv_scales is not None and self._in_place:
            graphs["prefill"] = traced_onnx(trace_prefill, model, **kept)
        self._sha256 = {name: hashlib.sha256(g.proto).hexdigest() for name, g in graphs.items()}
        self._sessions = {
            name: open_session(graph, threads, profiled=profiled) for name, graph in graphs.items()
        }
        self._step: _Step | None = None
        self._step_is_for = (0, False, False)  # slots, whether an idle one too, and logits

    def describe(self) -> dict[str, Any]:
        """What it runs, with the hash of each graph."""
        return {"target": TARGET, "graphs_sha256": self._sha256}

    def operator_seconds(self) -> dict[str, float]:
        """Seconds by operator type so far; ends the profile."""
        seconds: defaultdict[str, float] = defaultdict(float)
        for session in self._sessions.values():
            path = Path(session.end_profiling())
            for event in json.loads(path.read_bytes()):
                if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
                    seconds[event["args"]["op_name"]] += event["dur"] / 1e6
            path.unlink()
        return dict(seconds)

    @property
    def ragged_prefill(self) -> bool:
        """Whether prompts of different lengths can be taken in together."""
        return self._in_place

    def begin_count(self) -> None:
        """Count what is done from here on, and nothing of before."""
        self.prefilled, self.decoded = Work(), Work()

    def resize(self, n_slots: int, n_cap: int, lengths: IntArray) -> None:
        """Go on with other numbers of slots and places, as `SlotCache.resize`."""
        self._step = None
        self.cache.resize(n_slots, n_cap, lengths)

    def prefill(self, slot: int, ids: Sequence[int], past: int = 0) -> None:
        """Put tokens to a slot's places from `past` on."""
        start_s = time.perf_counter()
        step = self._prefill_step([a[slot : slot + 1] for a in self.cache.arrays], even(len(ids)))
        step.inputs[0, : len(ids)] = ids
        step.past[:] = past
        step.run()
        self._count(self.prefilled, len(ids), start_s)

    def prefill_together(self, slots: Sequence[int], prompts: Sequence[Sequence[int]]) -> None:
        """Put several sequences' first tokens to their slots."""
        start_s = time.perf_counter()
        n_cap = even(max(map(len, prompts)))
        apart = self._apart.shaped(len(prompts), n_cap)
        step = self._prefill_step(apart, n_cap)
        for row, ids in enumerate(prompts):
            step.inputs[row, : len(ids)] = ids
        step.run()
        for ours, theirs in zip(self.cache.arrays, apart, strict=True):
            for row, (slot, ids) in enumerate(zip(slots, prompts, strict=True)):
                ours[slot, :, : len(ids)] = theirs[row, :, : len(ids)]
        self._count(self.prefilled, sum(map(len, prompts)), start_s)

    def decode(self, tokens: IntArray, past: IntArray, *, with_logits: bool = False) -> Decoded:
        """Append a token to each of the first n slots, and choose the next.

        Parameters
        ----------
        tokens : int64 [n]
            A token of each slot.
        past : int64 [n]
            Tokens that stand before it, fewer than n_cap.
        with_logits : bool
            Hand out the logits too.
        """
        start_s = time.perf_counter()
        n = len(tokens)
        idle = self._splits_attention(past)
        if self._step is None or self._step_is_for != (n, idle, with_logits):
            slots = self.cache.with_idle if idle else self.cache.arrays
            cache = [array[: n + idle] for array in slots]
            n_vocab = self.hparams["n_vocab"] if with_logits else None
            self._step = _Step(
                self._sessions["step"], cache, 1, 1, n_vocab, in_place=self._in_place
            )
            self._step_is_for = (n, idle, with_logits)
        step = self._step
        step.inputs[-n:, 0] = tokens
        step.past[-n:] = past
        step.run()
        self._count(self.decoded, n, start_s)
        logits = None if step.logits is None else step.logits[-n:]
        return Decoded(step.tokens[-n:], step.logprobs[-n:], logits)

    def _splits_attention(self, past: IntArray) -> bool:
        """Whether onnxruntime might share out one row's attention among threads.

        It does so with rows of one length that have fewer heads than there are threads, and then
        adds up in another order. A row of another length beside them, idle and as short as can be,
        keeps it from that.
        """
        tasks = HYBRID_TASKS * self.threads if self.threads > 1 else 1
        few = len(past) * self.hparams["n_head"] < tasks
        return self._in_place and few and bool(np.all(past == past[0]))

    def _prefill_step(self, cache: list[CacheArray], n_seq: int) -> "_Step":
        session = self._sessions.get("prefill", self._sessions["step"])
        return _Step(session, cache, n_seq, 0, None, in_place=self._in_place)

    @staticmethod
    def _count(work: Work, tokens: int, start_s: float) -> None:
        work.tokens += tokens
        work.seconds += time.perf_counter() - start_s


def even(n_tokens: int) -> int:
    """The number of tokens to take in at a time, one of padding included where it is odd.

    onnxruntime's attention takes an even number at once (twice a head's size), and a single one
    that is left over by another product, which rounds otherwise: a token's numbers would depend
    on whether others follow it.
    """
    return n_tokens + n_tokens % 2


class _Step:
    """A graph's inputs and outputs, bound to memory: it can run again and again."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        cache: list[CacheArray],
        n_seq: int,
        n_read: int,
        n_vocab: int | None,
        *,
        in_place: bool,
    ) -> None:
        batch = len(cache[0])
        self.inputs: IntArray = np.zeros((batch, n_seq), np.int64)
        self.past: IntArray = np.zeros(batch, np.int64)
        self.tokens: IntArray = np.zeros(batch * n_read, np.int64)
        self.logprobs: FloatArray = np.zeros(batch * n_read, np.float32)
        self.logits: FloatArray | None = None
        self._read: IntArray = np.zeros((batch, n_read), np.int64)
        self._session = session
        self._cache = cache
        self._grown = cache if in_place else [np.empty_like(array) for array in cache]
        names = cache_names(len(cache))
        inputs: dict[str, npt.NDArray[Any]] = {
            "inputs": self.inputs,
            "past": self.past,
            "read": self._read,
            **{f"cache.{name}": a for name, a in zip(names, cache, strict=True)},
        }
        outputs: dict[str, npt.NDArray[Any]] = {
            "tokens": self.tokens,
            "logprobs": self.logprobs,
            **{f"grown.{name}": a for name, a in zip(names, self._grown, strict=True)},
        }
        if n_vocab is not None:
            outputs["logits"] = self.logits = np.zeros((batch * n_read, n_vocab), np.float32)
        self._binding = bound(session, inputs, outputs)

    def run(self) -> None:
        self._session.run_with_iobinding(self._binding)
        if self._grown is not self._cache:
            for array, grown in zip(self._cache, self._grown, strict=True):
                array[...] = grown


def cache_names(n_arrays: int) -> list[str]:
    """What a graph calls the arrays of a cache, after `cache.` or `grown.`."""
    return [f"{n}.{name}" for n in range(n_arrays // 2) for name in ("k", "v")]


def bound(
    session: onnxruntime.InferenceSession,
    inputs: dict[str, npt.NDArray[Any]],
    outputs: dict[str, npt.NDArray[Any]],
) -> Any:  # an onnxruntime.IOBinding
    """A graph's inputs and outputs in memory of ours; those that it does not have are left out."""
    binding = session.io_binding()
    for arrays, bind, wanted in (
        (inputs, binding.bind_input, session.get_inputs()),
        (outputs, binding.bind_output, session.get_outputs()),
    ):
        for name in {value.name for value in wanted} & arrays.keys():
            array = arrays[name]
            bind(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
    return binding


def is_large(params: Params) -> bool:
    """Whether a second copy of the weights should be avoided."""
    n_bytes: int = sum(array.nbytes for _, array in leaves(params))
    return n_bytes > LARGE_BYTES


def open_session(
    model: TracedModel | Path, threads: int, *, lean: bool = False, profiled: bool = False
) -> onnxruntime.InferenceSession:
    """A session on the CPU.

    Parameters
    ----------
    model : TracedModel or Path
        A traced model, or a model file.
    threads : int
        Threads of one operator.
    lean : bool
        Open at once, and take no memory for weights that lie in files: matrix products then use
        them as they are, not copied into a form that is faster to compute with.
    profiled : bool
        Write down each operator's time, in a temporary file.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # it raises what it would log, with names as they are
    options.enable_mem_pattern = False
    # On ARM processors with SME it would multiply a single row by another product, which rounds
    # otherwise. Read in its source, and not tried: elsewhere this changes nothing.
    options.add_session_config_entry("mlas.disable_kleidiai", "1")
    if profiled:
        options.enable_profiling = True
        name = f"picobatch-{os.getpid()}-{time.monotonic_ns()}"
        options.profile_file_prefix = str(Path(tempfile.gettempdir()) / name)
    if lean:
        options.enable_cpu_mem_arena = False
        options.add_session_config_entry("session.disable_prepacking", "1")
        options.add_session_config_entry(  # else the output projection is stored transposed too
            "optimization.constant_folding_max_output_size_in_bytes", str(FOLDED_BYTES)
        )
    values: dict[str, Any] = {}
    if isinstance(model, TracedModel):
        values = {
            name: onnxruntime.OrtValue.ortvalue_from_numpy(array)
            for name, array in model.weights.items()
        }
        if model.folder is None:
            options.add_external_initializers(list(values), list(values.values()))
        else:
            folder = "session.model_external_initializers_file_folder_path"
            options.add_session_config_entry(folder, str(model.folder))
            for name, value in values.items():
                options.add_initializer(name, value)
    session = onnxruntime.InferenceSession(
        str(model) if isinstance(model, Path) else model.proto,
        options,
        providers=["CPUExecutionProvider"],
    )
    session.shared_weights = values  # are not copied: they must live as long
    return session


def runtime_version() -> str:
    return str(onnxruntime.__version__)
