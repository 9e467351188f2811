"""Rows -> token ids that fit the model."""

from reference import Model, TokenizerError

from .messages import shown
from .records import Prompt, Reject, Request
from .rows import Row
from .settings import RunSettings


def to_prompt(row: Row, model: Model, settings: RunSettings) -> Prompt | Reject:
    """Token ids that fit the model, or the reason why there are none."""
    if isinstance(row, Reject):
        return row
    max_new_tokens = settings.max_new_tokens if row.max_new_tokens is None else row.max_new_tokens
    try:
        ids = _token_ids(row, model)
    except TokenizerError as e:
        return Reject(row.row, row.where, str(e).rstrip("."))
    n_ctx = model.hparams["n_ctx"]
    if len(ids) >= n_ctx:
        if settings.truncate_prompt != "left":
            return Reject(
                row.row,
                row.where,
                f"{len(ids)} tokens; expected at most {n_ctx - 1}, so that one can follow within "
                f"n_ctx = {n_ctx} (--truncate-prompt=left keeps the end)",
            )
        ids = ids[-max(1, n_ctx - max(1, max_new_tokens)) :]
    return Prompt(row.row, row.where, ids, max_new_tokens, row.stop)


def _token_ids(row: Request, model: Model) -> list[int]:
    if isinstance(row.prompt, str):
        ids = model.tokenizer.encode(row.prompt)
    else:
        ids = row.prompt
        n_vocab = model.hparams["n_vocab"]
        if bad := [token for token in ids if not 0 <= token < n_vocab]:
            raise TokenizerError(f"token id {shown(bad[0])}; expected 0 to {n_vocab - 1}")
    if ids:
        return ids
    if model.tokenizer.eos_id is None:
        raise TokenizerError("an empty prompt, and a model without end-of-text to start from")
    return [model.tokenizer.eos_id]
