"""Names and directories of models, and `load_model`."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import platformdirs

from .checkpoint import huggingface, openai
from .checkpoint.rounded import round_weights
from .checkpoint.weights import Checkpoint, read_weights
from .errors import ModelError
from .gpt2 import Array, HParams, Params
from .published import FILES, PUBLISHED
from .tokenizer import Tokenizer
from .tokenizer_files import missing_tokenizer_files, read_tokenizer

DEMO = "demo"
DEMO_DIR = Path(__file__).parent / "demo"
MODELS_DIR_VARIABLE = "PICOBATCH_MODELS_DIR"


@dataclass(frozen=True)
class Model:
    """A model that is loaded whole and checked.

    Attributes
    ----------
    name : str
        What it was asked for by.
    directory : Path
        Where its files lie.
    hparams : HParams
        Its sizes.
    tokenizer : Tokenizer
        Its vocabulary.
    checkpoint : Checkpoint
        Its weights, and the files they lie in. These must stay as they are while it is used.
    kv_scales : float32 [n_layer, 2, 1, n_head, 1, d], optional
        Where its keys and values are kept in 8 bits.
    """

    name: str
    directory: Path
    hparams: HParams
    tokenizer: Tokenizer
    checkpoint: Checkpoint
    kv_scales: Array | None = None

    @property
    def params(self) -> Params:
        """The tree of picoGPT, float32, whatever the files were.

        `wte`, `wpe`, `blocks`, `ln_f`, and `lm_head` where the output projection is not `wte`.
        Read-only where it is mapped from the files.
        """
        return self.checkpoint.params

    @property
    def weights_sha256(self) -> str:
        """Hash of sizes, names, shapes and values, whatever file they came from."""
        return self.checkpoint.sha256

    def in_int8(self, *, unsigned: bool = False) -> "Model":
        """The same model with matrices, keys and values in 8 bits, as `int8.py` rounds them."""
        checkpoint, scales = round_weights(self.checkpoint, self.hparams, unsigned=unsigned)
        return replace(self, checkpoint=checkpoint, kv_scales=scales)

    def check_files(self) -> None:
        """Make sure that the weights' files are those that were loaded.

        Raises
        ------
        ModelError
            Where one was changed or removed meanwhile.
        """
        if not self.checkpoint.unchanged:
            raise ModelError(
                f"{self.directory}: the weights' files were changed after the model had been "
                "loaded; expected them as they were. Run again."
            )


def load_model(
    name_or_dir: str | Path,
    *,
    models_dir: str | Path | None = None,
    base_url: str | None = None,
) -> Model:
    """Load the bundled demo model, one that OpenAI published, or any local model directory.

    Parameters
    ----------
    name_or_dir : str or Path
        `demo`; `124M`, `355M`, `774M` or `1558M`, which are downloaded on first use; or a
        directory with OpenAI's files (`hparams.json`, `model.ckpt.*`, `encoder.json`,
        `vocab.bpe`) or Hugging Face's (`config.json`, `model.safetensors`, `tokenizer.json` or
        `vocab.json` and `merges.txt`).
    models_dir : str or Path, optional
        Folder of the downloaded models; by default `PICOBATCH_MODELS_DIR`, or a folder of the
        user's.
    base_url : str, optional
        Where to download from, in place of OpenAI's bucket.

    Raises
    ------
    ModelError
        Where there is no such model, files are missing, or weights are damaged, have a wrong
        shape or are not finite. The message names what was found and what to do.
    DownloadError
        Where a published model is not here and cannot be had.
    TokenizerError
        Where the tokenizer's files are damaged or belong to another model.
    """
    try:
        directory = find_model(name_or_dir, models_dir)
        if directory is None:
            directory = fetch_model(str(name_or_dir), models_dir, base_url)
        # Absolute: the files are looked at again later, from whatever working directory.
        return _load(str(name_or_dir), directory.absolute())
    except OSError as e:  # such as a folder that is not ours to read
        raise ModelError(
            f"{name_or_dir}: {e.strerror or e}; expected files that can be read. Check their "
            "permissions."
        ) from None


def _load(name: str, directory: Path) -> Model:
    _check_complete(directory)
    layout = _layout_module(directory).describe(directory)
    hparams = layout.hparams
    if name in PUBLISHED and hparams != PUBLISHED[name].hparams:
        raise ModelError(
            f"{directory}: is another model than {name}: {dict(hparams.items())}. Pass it as a "
            f"path, such as ./{name}, or put it elsewhere."
        )
    tokenizer = read_tokenizer(directory, layout.eos_id, hparams["n_vocab"])
    if tokenizer.max_id >= hparams["n_vocab"]:
        raise ModelError(
            f"{directory}: the tokenizer has an id {tokenizer.max_id}; the model has "
            f"{hparams['n_vocab']} embeddings, for ids below that. Take the tokenizer's files and "
            "the weights from the same model."
        )
    checkpoint = read_weights(hparams, layout.stored, tied=layout.tied)
    return Model(name, directory, hparams, tokenizer, checkpoint)


def default_models_dir() -> Path:
    """`PICOBATCH_MODELS_DIR`, or the platform's place for a user's data.

    Raises
    ------
    ModelError
        Where the user has no home.
    """
    if chosen := os.environ.get(MODELS_DIR_VARIABLE):
        return Path(chosen)
    try:
        return platformdirs.user_data_path("picobatch", appauthor=False) / "models"
    except RuntimeError as e:
        raise ModelError(
            f"no folder for published models ({e}). Name one with {MODELS_DIR_VARIABLE} or "
            "--models-dir."
        ) from None


def find_model(name_or_dir: str | Path, models_dir: str | Path | None = None) -> Path | None:
    """The directory of a model, or None for a published one that is not here yet.

    Raises
    ------
    ModelError
        Where it is neither a name nor a directory.
    """
    name = str(name_or_dir)
    if "\0" in f"{name}{models_dir}":
        raise ModelError(f"{name!a}: holds a zero byte; expected a name or a directory.")
    if name == DEMO:
        return DEMO_DIR
    if name in PUBLISHED:
        downloaded = _place(name, models_dir)
        if not _missing(downloaded):  # a file that is still being fetched has another name
            return downloaded
        return Path(name) if Path(name).is_dir() else None
    directory = Path(name_or_dir)
    if not _exists(directory):
        raise ModelError(
            f"{name}: no such model; expected {DEMO}, {', '.join(PUBLISHED)} or a model "
            "directory. `runner models` lists the names."
        )
    if not directory.is_dir():
        raise ModelError(
            f"{directory}: is a file; expected a model directory. Pass the folder that holds "
            "the model's files."
        )
    return directory


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # such as a name that is too long
        return False


def fetch_model(
    name: str, models_dir: str | Path | None = None, base_url: str | None = None
) -> Path:
    """Download what is missing of a published model; returns its directory.

    Raises
    ------
    DownloadError
        Naming the address, what came back and what to do.
    """
    from .model_files import download  # noqa: PLC0415 - most starts need no network

    directory = _place(name, models_dir)
    download(name, directory, base_url)
    return directory


def _place(name: str, models_dir: str | Path | None) -> Path:
    return Path(models_dir or default_models_dir()) / name


def _layout_module(directory: Path) -> ModuleType:
    """The layout that a directory's files come closer to."""

    def lacks(layout: ModuleType) -> int:
        try:
            return len(layout.missing(directory))
        except ModelError:  # a file is there and damaged
            return 1

    lacking = {layout: lacks(layout) for layout in (openai, huggingface)}
    if not any(lacking.values()):
        raise ModelError(
            f"{directory}: holds two models, {openai.SIZES_FILE} with its weights and "
            f"{huggingface.SIZES_FILE} with its own; expected one. Remove either's."
        )
    return min(lacking, key=lacking.__getitem__)


def _missing(directory: Path) -> list[str]:
    """What that layout lacks."""
    return [*_layout_module(directory).missing(directory), *missing_tokenizer_files(directory)]


def _check_complete(directory: Path) -> None:
    if missing := _missing(directory):
        raise ModelError(
            f"{directory}: no model: {', '.join(missing)} missing; expected OpenAI's files "
            f"({', '.join(FILES)}) or Hugging Face's (config.json, model.safetensors, "
            f"tokenizer.json or vocab.json and merges.txt). {_remedy(directory)}"
        )


def _remedy(directory: Path) -> str:
    """What to do about weights that are there, in a form that is not read."""
    pickles = [file for file in huggingface.PICKLES if (directory / file).is_file()]
    if pickles:
        return (
            f"{pickles[0]} is a pickle, which can run code, and is not read. Convert it where "
            f"transformers is installed: {huggingface.conversion(directory)}"
        )
    return "Check the path, or copy the missing files from the model's source."
