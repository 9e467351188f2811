"""`report.html`: a run as one page, for people."""

from .page import write

__all__ = ["write"]
