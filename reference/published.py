"""What OpenAI published, and where: the sizes of its models, and what is known of their files."""

import re
from dataclasses import dataclass
from pathlib import Path

from .checkpoint import openai
from .checkpoint.weights import check_sums
from .errors import ModelError
from .gpt2 import HParams

BASE_URL = "https://openaipublic.blob.core.windows.net/gpt-2/models"
BASE_URL_VARIABLE = "PICOBATCH_BASE_URL"
USER = re.compile(r"//[^/?#]*@")  # who asks, and with which password

# In the order of their download: the small ones first, and the index before the data it describes.
FILES = (
    openai.SIZES_FILE,
    "checkpoint",
    "encoder.json",
    "vocab.bpe",
    openai.INDEX,
    "model.ckpt.meta",
    openai.DATA,
)


@dataclass(frozen=True)
class Expected:
    """What is known of a file beforehand.

    Attributes
    ----------
    n_bytes : int or None
        Its length.
    sha256 : str or None
        Its hash.
    """

    n_bytes: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Published:
    """A model with a name.

    Attributes
    ----------
    hparams : HParams
        Its sizes.
    files : dict of str to Expected
        What is known of its files.
    """

    hparams: HParams
    files: dict[str, Expected]


# The same for every size.
SHARED = {
    "checkpoint": Expected(77, "dd1b025d2e155283f5e300ce95bf6d5b6bc0f7fe010db73daa6975eb896ab9cb"),
    "encoder.json": Expected(
        1_042_301, "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783"
    ),
    "vocab.bpe": Expected(
        456_318, "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"
    ),
}


def _published(n_embd: int, n_head: int, n_layer: int, **known: Expected) -> Published:
    hparams = HParams(n_vocab=50257, n_ctx=1024, n_embd=n_embd, n_head=n_head, n_layer=n_layer)
    files = {name: Expected() for name in FILES} | SHARED
    for kind, expected in known.items():
        files[next(name for name in FILES if kind in name)] = expected
    return Published(hparams, files)


# Hashes are known for 124M alone; elsewhere the checksums of the tensors guard the weights.
PUBLISHED = {
    "124M": _published(
        768,
        12,
        12,
        hparams=Expected(90, "d9d56e4121c427164e0c55c6f03c08e1daf9002b9b672825112d19097b680318"),
        index=Expected(5_215, "71916f763f9746f9b2a06b12d91996cf1084ae008d0424543d39391c5f2dc687"),
        meta=Expected(471_155, "4668c448fa11531fd6700460487f73e82d3272960cea942252f8744bf225c77b"),
        data=Expected(
            497_759_232, "2060c885360cc0cf41d7a6dbc4d24b5127aae20260c8b5ae521b5a6578407118"
        ),
    ),
    "355M": _published(
        1024,
        16,
        24,
        hparams=Expected(91),
        index=Expected(10_399),
        meta=Expected(926_519),
        data=Expected(1_419_292_672),
    ),
    "774M": _published(1280, 20, 36, data=Expected(3_096_120_320)),
    "1558M": _published(1600, 25, 48, data=Expected(6_230_444_800)),
}


def check_content(published: Published, came: Path, path: Path) -> None:
    """Look into a file of a model that has come, before it takes its name.

    Raises
    ------
    ModelError
        Where it is damaged.
    """
    hparams, directory = published.hparams, path.parent
    match path.name:
        case openai.SIZES_FILE:
            if openai.read_hparams(came) != hparams:
                raise ModelError(f"expected {hparams}")
        case openai.INDEX:
            openai.place_tensors(hparams, came, directory / openai.DATA)
        case openai.DATA:
            check_sums(openai.place_tensors(hparams, directory / openai.INDEX, came))


def without_user(url: str) -> str:
    """An address as it may be shown and written down."""
    return USER.sub("//", url)
