"""What `runner models` prints."""

from reference import load_model, param_count
from reference.models import DEMO, DEMO_DIR, OPENAI_HPARAMS


def list_models() -> str:
    """The models that have a name, a line each."""
    demo = load_model(DEMO)
    lines = [f"{'name':6} {'parameters':>13} {'n_ctx':>6} {'n_layer':>8} {'n_embd':>7}  where"]
    for name, hparams in {DEMO: demo.hparams, **OPENAI_HPARAMS}.items():
        where = "bundled" if name == DEMO else "pass the directory that holds it as --model DIR"
        lines.append(
            f"{name:6} {param_count(hparams):>13,} {hparams['n_ctx']:>6,} "
            f"{hparams['n_layer']:>8} {hparams['n_embd']:>7,}  {where}"
        )
    return "\n".join(lines)


def describe_model(name: str) -> str:
    """Sizes and hashes of a model, and where it lies; the demo's card."""
    model = load_model(name)
    lines = [
        f"model             {model.name}",
        f"directory         {model.directory}",
        f"parameters        {param_count(model.hparams):,}",
        *(f"{key:17} {value:,}" for key, value in model.hparams.items()),
        f"tokens            {len(model.tokenizer):,} in the vocabulary",
        f"weights_sha256    {model.weights_sha256}",
        f"tokenizer_sha256  {model.tokenizer.sha256}",
    ]
    if name == DEMO:
        lines += ["", (DEMO_DIR / "README.md").read_text(encoding="utf-8").rstrip()]
    return "\n".join(lines)
