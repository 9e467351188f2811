"""What `runner models` prints."""

from pathlib import Path

from reference import HParams, ModelError, load_model, param_count
from reference.models import DEMO, DEMO_DIR, fetch_model, find_model
from reference.published import PUBLISHED

from .errors import SettingsError
from .messages import printable


def list_models(models_dir: str | None = None) -> str:
    """The models that have a name, a line each."""
    demo = load_model(DEMO)
    lines = [f"{'name':6} {'parameters':>13} {'n_ctx':>6} {'n_layer':>8} {'n_embd':>7}  where"]
    named = {DEMO: demo.hparams} | {name: model.hparams for name, model in PUBLISHED.items()}
    for name, hparams in named.items():
        lines.append(
            f"{name:6} {param_count(hparams):>13,} {hparams['n_ctx']:>6,} "
            f"{hparams['n_layer']:>8} {hparams['n_embd']:>7,}  {_where(name, models_dir)}"
        )
    return printable("\n".join(lines))


def describe_model(name: str, models_dir: str | None = None) -> str:
    """Sizes and hashes of a model, and where it lies; the demo's card."""
    directory = find_model(name, models_dir)
    if directory is None:
        hparams = PUBLISHED[name].hparams
        lines = [
            f"model             {name}",
            f"directory         {_where(name, models_dir)}",
            *_size_lines(hparams, tied=True),
        ]
        return printable("\n".join(lines))
    model = load_model(name, models_dir=models_dir)
    tied = "lm_head" not in model.params
    lines = [
        f"model             {model.name}",
        f"directory         {model.directory}",
        *_size_lines(model.hparams, tied=tied),
        f"output            {'tied to wte' if tied else 'a matrix of its own, lm_head'}",
        f"tokens            {len(model.tokenizer):,} in the vocabulary",
        f"weights_sha256    {model.weights_sha256}",
        f"tokenizer_sha256  {model.tokenizer.sha256}",
    ]
    if name == DEMO:
        lines += ["", (DEMO_DIR / "README.md").read_text(encoding="utf-8").rstrip()]
    return printable("\n".join(lines))


def fetch_named(name: str | None, models_dir: str | None, base_url: str | None) -> Path:
    """Download what is missing of a published model.

    Raises
    ------
    SettingsError
        Where the name is not one.
    DownloadError
        Where it cannot be had.
    """
    if name not in PUBLISHED:
        raise SettingsError(
            f"--download of {name or 'no model'}: expected one of {', '.join(PUBLISHED)}. "
            "Pass a name, or leave --download out."
        )
    return fetch_model(name, models_dir, base_url)


def _where(name: str, models_dir: str | None) -> str:
    if name == DEMO:
        return "bundled"
    try:
        found = find_model(name, models_dir)
    except (ModelError, OSError):
        return f"not readable: runner models {name} says why"
    return str(found or f"not here: runner models {name} --download")


def _size_lines(hparams: HParams, *, tied: bool) -> list[str]:
    return [
        f"parameters        {param_count(hparams, tied=tied):,}",
        *(f"{key:17} {value:,}" for key, value in hparams.items()),
    ]
