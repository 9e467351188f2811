"""A model on a node: loaded there, and seen to be the driver's."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from reference import Model, PicobatchError, load_model
from reference.models import DEMO
from reference.published import PUBLISHED

from ..errors import NodeError


@dataclass(frozen=True)
class NodeModel:
    """What a node has to know of the driver's model.

    Attributes
    ----------
    name : str
        That it is known by, or its directory.
    models_dir, base_url : str or None
        As in `load_model`.
    weights_sha256, tokenizer_sha256 : str
        Of the driver's.
    """

    name: str
    models_dir: str | None
    base_url: str | None
    weights_sha256: str
    tokenizer_sha256: str

    def load(self) -> Model:
        """The model, in this process.

        Raises
        ------
        NodeError
            Where this node has none, or another one.
        """
        with loading():
            model = load_model(self.name, models_dir=self.models_dir, base_url=self.base_url)
        found = model.weights_sha256, model.tokenizer.sha256
        if found != (self.weights_sha256, self.tokenizer_sha256):
            raise NodeError(
                f"has another model as {self.name}: {model.directory}; expected the driver's "
                "weights and tokenizer. Copy those there, or pass a path that all nodes share."
            )
        return model


@contextmanager
def loading() -> Iterator[None]:
    """What fails meanwhile is the node's fault."""
    try:
        yield
    except PicobatchError as e:
        raise NodeError(f"cannot load the model: {e}") from None


def from_anywhere(name: str) -> str:
    """What a model is called by a process that runs in another folder."""
    is_known = name in (DEMO, *PUBLISHED)
    return str(Path(name).absolute()) if not is_known and Path(name).is_dir() else name
