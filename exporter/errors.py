"""What a trace, an export or an exported directory can be refused for."""

from reference import PicobatchError


class TraceError(PicobatchError):
    """A NumPy function holds something that cannot become a graph."""


class ExportError(PicobatchError):
    """A graph cannot be built, written or read back."""
