"""onnxruntime runs the traced graph. The only room that knows onnxruntime."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state

from exporter import TracedModel, trace_next_logits, traced_onnx
from reference import Model
from reference.gpt2 import Params
from reference.tree import leaves

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]

# What onnxruntime raises: most of it has no base of its own.
RUNTIME_ERRORS: tuple[type[Exception], ...] = (
    ValueError,
    *(
        kind
        for kind in vars(onnxruntime_pybind11_state).values()
        if isinstance(kind, type) and issubclass(kind, Exception)
    ),
)


class Cache(Protocol):
    """What an engine remembers of the sequences of a batch."""

    def keep(self, slots: Sequence[int]) -> None:
        """Go on with these slots only, in this order."""


C = TypeVar("C", bound=Cache)


class Engine(Protocol[C]):
    """Runs a model over a batch of sequences; each answer depends on its own sequence only."""

    def describe(self) -> dict[str, Any]:
        """What it ran, with the hash of each graph."""

    def group(self, n_tokens: int) -> int:
        """Sequences that will grow to `n_tokens` share a batch with others of the same group."""

    def auto_batch_size(self, group: int) -> int:
        """A good number of sequences to run together."""

    def prefill(self, prompts: Sequence[Sequence[int]], n_tokens: int) -> tuple[C, FloatArray]:
        """Take in prompts, each at least one token, none to grow past `n_tokens`.

        Returns
        -------
        cache : Cache
            For `decode`, with a slot for each prompt.
        logits : float32 [n_slots, n_vocab]
            For the token that follows each prompt.
        """

    def decode(self, cache: C, tokens: IntArray) -> FloatArray:
        """Append a token to each slot.

        Parameters
        ----------
        cache : Cache
            From `prefill`.
        tokens : int64 [n_slots]
            The next token of each.

        Returns
        -------
        float32 [n_slots, n_vocab]
            Logits for the token after that.
        """


SHORTEST_WINDOW = 32
AUTO_POSITIONS = 4096  # in one call: more gains nothing, and costs memory
FOLDED_BYTES = 1 << 20  # computed once by a lean session
LARGE_BYTES = 1 << 28  # of weights: one session at a time


def is_large(params: Params) -> bool:
    """Whether a second copy of the weights should be avoided."""
    n_bytes: int = sum(array.nbytes for _, array in leaves(params))
    return n_bytes > LARGE_BYTES


class WindowEngine:
    """Runs `next_logits`, traced at a fixed length, over all positions at every step.

    Sequences run in the shortest window that holds them: n_ctx, halved as often as they
    fit. The window follows from a row's own length, never from its neighbours, so that its
    logits do not depend on the batch.

    Parameters
    ----------
    model : Model
        Its weights are shared with the sessions, not copied.
    threads : int
        Threads of one call.
    """

    target = "onnxruntime"

    def __init__(self, model: Model, threads: int) -> None:
        self._model = model
        self._threads = threads
        self._sessions: dict[int, onnxruntime.InferenceSession] = {}
        self._graph_sha256: dict[str, str] = {}

    def describe(self) -> dict[str, Any]:
        return {"target": self.target, "graph_sha256_by_window": self._graph_sha256}

    def group(self, n_tokens: int) -> int:
        window = self._model.hparams["n_ctx"]
        while window % 2 == 0 and window // 2 >= max(n_tokens, SHORTEST_WINDOW):
            window //= 2
        return window

    def auto_batch_size(self, group: int) -> int:
        return max(1, AUTO_POSITIONS // group)

    def prefill(
        self, prompts: Sequence[Sequence[int]], n_tokens: int
    ) -> tuple["WindowCache", FloatArray]:
        cache = WindowCache(prompts, self.group(n_tokens))
        return cache, self._run(cache)

    def decode(self, cache: "WindowCache", tokens: IntArray) -> FloatArray:
        cache.append(tokens)
        return self._run(cache)

    def _run(self, cache: "WindowCache") -> FloatArray:
        feeds = {"input_ids": cache.ids, "last": cache.lengths - 1}
        (logits,) = self._session(cache.ids.shape[1]).run(None, feeds)
        return np.asarray(logits)

    def _session(self, window: int) -> onnxruntime.InferenceSession:
        if window not in self._sessions:
            if is_large(self._model.params):
                self._sessions.clear()
            traced = traced_onnx(trace_next_logits, self._model, n_ctx=window, target=self.target)
            self._graph_sha256[str(window)] = hashlib.sha256(traced.proto).hexdigest()
            self._sessions[window] = open_session(traced, self._threads)
        return self._sessions[window]


class WindowCache:
    """The token ids so far: all that an engine without a key-value cache remembers."""

    def __init__(self, prompts: Sequence[Sequence[int]], window: int) -> None:
        self.lengths: IntArray = np.array([len(ids) for ids in prompts], dtype=np.int64)
        self.ids: IntArray = np.zeros((len(prompts), window), dtype=np.int64)
        for slot, ids in enumerate(prompts):
            self.ids[slot, : len(ids)] = ids

    def append(self, tokens: IntArray) -> None:
        self.ids[np.arange(len(tokens)), self.lengths] = tokens
        self.lengths = self.lengths + 1

    def keep(self, slots: Sequence[int]) -> None:
        self.ids, self.lengths = self.ids[slots], self.lengths[slots]


def open_session(
    model: TracedModel | Path, threads: int, *, lean: bool = False
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
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if lean:
        options.enable_cpu_mem_arena = False
        options.add_session_config_entry("session.disable_prepacking", "1")
        options.add_session_config_entry(  # else the output projection is stored transposed too
            "optimization.constant_folding_max_output_size_in_bytes", str(FOLDED_BYTES)
        )
    if isinstance(model, TracedModel) and model.folder is not None:
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", str(model.folder)
        )
    elif isinstance(model, TracedModel):
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(a) for a in model.weights.values()]
        options.add_external_initializers(list(model.weights), values)
    return onnxruntime.InferenceSession(
        str(model) if isinstance(model, Path) else model.proto,
        options,
        providers=["CPUExecutionProvider"],
    )


def runtime_version() -> str:
    return str(onnxruntime.__version__)
