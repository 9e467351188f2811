"""The one hierarchy of errors that a user can cause and mend."""

from .messages import message, shown


class PicobatchError(Exception):
    """Base of every error this project raises on purpose.

    The message reads *where: what was found; what was expected. What to do.*
    Anything else that escapes is a bug and keeps its traceback. Names and values in it come from
    files of others: as text it holds nothing that a terminal would obey, and is not endless.
    """

    def __str__(self) -> str:
        return message(super().__str__())


class ModelError(PicobatchError):
    """A model's files are missing, foreign or damaged."""


class DownloadError(PicobatchError):
    """A published model cannot be fetched, or what was fetched is not it."""


class TokenizerError(PicobatchError):
    """A text, an id or a vocabulary that a tokenizer cannot take."""


class UnknownTokenError(TokenizerError, KeyError):
    """A word that is not in the vocabulary; `args[0]` is that word."""

    def __str__(self) -> str:
        return f"unknown token {shown(self.args[0])}; expected a word of the vocabulary"
