"""One prompt, its completion handed over as it grows."""

import codecs
from collections.abc import Callable

from reference import Model

from .batch_size import BatchSize, cache_bytes
from .engine import Engine
from .errors import InputError
from .generate import RunningSequence
from .int8 import in_int8
from .prompts import to_prompt
from .records import Completion, Reject, Request, Result
from .scheduler import Scheduler
from .settings import RunSettings


def complete(
    model: Model, text: str, settings: RunSettings, write: Callable[[str], None]
) -> Completion:
    """Complete one prompt greedily.

    Parameters
    ----------
    model : Model
        From `load_model`.
    text : str
        The prompt.
    settings : RunSettings
        Of which `max_new_tokens`, `stop`, `ignore_eos`, `truncate_prompt`, `dtype` and
        `threads` count.
    write : callable
        Given each new piece of text, whole characters only.

    Raises
    ------
    InputError
        Where the prompt is bad.
    """
    prompt = to_prompt(Request(0, "prompt", text, None), model, settings)
    if isinstance(prompt, Reject):
        raise InputError(f"{prompt}.")
    eos_id = None if settings.ignore_eos else model.tokenizer.eos_id
    sequence = RunningSequence(
        prompt, model.tokenizer, settings.stop, eos_id, model.hparams["n_ctx"], keep_logits=False
    )
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    # The end of the text may become part of a stop text, which is not shown.
    held_back = max((len(stop.encode()) - 1 for stop in settings.stop), default=0)
    shown = 0

    def show() -> None:
        nonlocal shown
        finished, text = sequence.finish_reason is not None, sequence.text
        end = len(text) - (0 if finished else held_back)
        if end > shown or finished:
            write(decoder.decode(text[shown:end], final=finished))
            shown = max(end, shown)

    engine = Engine(in_int8(model) if settings.dtype == "int8" else model, settings.threads)
    memory = cache_bytes(model.hparams, engine.cache.token_bytes, settings.memory)
    scheduler = Scheduler(engine, BatchSize(1), memory)
    scheduler.add([sequence] if sequence.limit else [])
    while sequence.finish_reason is None:
        scheduler.step()
        show()
    result: Result = sequence.result()
    if isinstance(result, Reject):
        raise InputError(f"{result}.")
    return result
