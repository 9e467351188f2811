"""What kind of processor computes: another kind may round in other places."""

import platform
import re
from pathlib import Path

# Of x86 and ARM: those by which matrix products choose their code.
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm", "sve")


def instructions(kind: str) -> str:
    """What of a kind of processor says how it rounds: those with the same give the same bits."""
    return kind.rpartition("(")[2].removesuffix(")")


def processor() -> str:
    """Its name, and which of `FLAGS` it has."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() or platform.machine()
    name = re.search(r"^model name\s*:\s*(.*)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.*)$", text, re.MULTILINE)
    present = set(flags[1].split()) if flags else set()
    has = " ".join(flag for flag in FLAGS if flag in present)
    return f"{name[1].strip() if name else platform.machine()} ({has})"
