"""GPT-2 in plain NumPy, its tokenizers, and the loading of its weights: the truth."""

from .dispatch import composite
from .errors import (
    DownloadError,
    ModelError,
    PicobatchError,
    TokenizerError,
    UnknownTokenError,
)
from .generate import generate, greedy, most_likely
from .gpt2 import HParams, gpt2, next_logits, param_count, param_shapes
from .models import Model, load_model
from .tokenizer import Tokenizer, WhitespaceTokenizer
from .tokenizer_files import load_tokenizer

__version__ = "0.1.0"

__all__ = [
    "DownloadError",
    "HParams",
    "Model",
    "ModelError",
    "PicobatchError",
    "Tokenizer",
    "TokenizerError",
    "UnknownTokenError",
    "WhitespaceTokenizer",
    "composite",
    "generate",
    "gpt2",
    "greedy",
    "load_model",
    "load_tokenizer",
    "most_likely",
    "next_logits",
    "param_count",
    "param_shapes",
]
