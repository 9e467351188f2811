"""Prompts in, completions out: batches through onnxruntime, checked against the reference."""

from .errors import InputError, OutputError, SettingsError
from .report import ExitCode, RunReport
from .run import run
from .settings import RunSettings

__all__ = [
    "ExitCode",
    "InputError",
    "OutputError",
    "RunReport",
    "RunSettings",
    "SettingsError",
    "run",
]
