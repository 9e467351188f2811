"""Programs in which an exported folder is checked: an adapter for each, in one table."""

from .base import GraphFile, Runtime, RuntimeMissingError, Session
from .generators import GENERATORS
from .sessions import SESSIONS

RUNTIMES: dict[str, Runtime] = {runtime.name: runtime for runtime in (*SESSIONS, *GENERATORS)}

__all__ = ["RUNTIMES", "GraphFile", "Runtime", "RuntimeMissingError", "Session"]
