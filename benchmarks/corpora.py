"""Real text for tokenizers, from packages that are installed with the extra `corpora`.

English documentation, source code, the interface texts of Django in a
hundred languages, every emoji sequence; and strings made to be hard.
"""

import importlib.util
import random
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

SOURCE_BYTES = 40_000_000
FUZZ_STRINGS = 250_000

# What splits words, joins letters or is no letter: where tokenizers differ, they differ here.
PIECES = (
    *"'s 't 're 've 'm 'll 'd 'S ' '' ’s".split(),
    *" |  |   |\n|\n\n|\r\n|\t|\x0b|\x0c|\x1c|\x1d|\x1e|\x1f|\x85|\xa0|\u1680|\u180e".split("|"),
    *"\u2000|\u200a|\u200b|\u200d|\u2028|\u2029|\u202f|\u205f|\u2060|\u3000|\ufeff".split("|"),
    *"\x00|\x01|\x07|\x08|\x1b|\x7f|\x80|\x9f|\xad|\ufffd|\ufffe|\uffff|\U0010ffff".split("|"),
    *"<|endoftext|> <| |> the The THE 0 1234 ٣ ½ Ⅷ ① ² ꣐ 𝟙 e\u0301 é ß ẞ İ ı ſ ﬁ ǆ".split(" "),
    *"日本 語 한국 ไทย हिन्दी العربية עברית Ελλάδα Россия 𐍈 𓀀 🙂 👩‍👩‍👧 🏳️‍🌈 🇫🇷 ☃️ ⁉".split(" "),
    *"!!! ... --- ___ === /* */ // :: -> ${ }} \\n #! @ €".split(" "),
)


def folder_of(package: str) -> Path:
    """Where an installed package lies."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{package} is not installed: pip install '.[corpora]'")
    return Path(spec.origin).parent


def read_files(paths: Iterable[Path], limit: int) -> str:
    """Texts of files, until `limit` bytes are there."""
    texts, n_bytes = [], 0
    for path in sorted(paths):
        if n_bytes >= limit:
            break
        raw = path.read_bytes()
        texts.append(raw.decode("utf-8", errors="replace"))
        n_bytes += len(raw)
    return "".join(texts)


def prose() -> str:
    """Documentation in English: Python's own, and what packages say of themselves."""
    from pydoc_data import topics

    packages = Path(sysconfig.get_paths()["purelib"]).glob("*.dist-info/METADATA")
    return "\n\n".join(topics.topics.values()) + read_files(packages, SOURCE_BYTES)


def source() -> str:
    """Source code: Python's library, and the packages of this environment."""
    paths = sysconfig.get_paths()
    standard = Path(paths["stdlib"])
    files = [p for p in standard.rglob("*.py") if "site-packages" not in p.parts]
    return read_files([*files, *Path(paths["purelib"]).rglob("*.py")], SOURCE_BYTES)


def languages() -> str:
    """What Django says, in all of its languages."""
    catalogs = folder_of("django").rglob("django.po")
    lines = read_files(catalogs, sys.maxsize).splitlines()
    texts = (line.partition('"')[2].rpartition('"')[0] for line in lines if '"' in line)
    return "\n".join(text.replace('\\"', '"').replace("\\n", "\n") for text in texts)


def emoji() -> str:
    """Every emoji sequence, with its name in fourteen languages."""
    from emoji import EMOJI_DATA, LANGUAGES, config

    for language in LANGUAGES:
        config.load_language(language)
    return "\n".join(
        f"{sequence} {names.get(language, '')}"
        for sequence, names in EMOJI_DATA.items()
        for language in LANGUAGES
    )


def fuzz(n_strings: int = FUZZ_STRINGS, seed: int = 0) -> Iterator[str]:
    """Strings of hard pieces and of any characters."""
    rng = random.Random(seed)
    planes = [(0, 0x80), (0x80, 0x800), (0x800, 0xD800), (0xE000, 0x10000), (0x10000, 0x110000)]
    for _ in range(n_strings):
        pieces = []
        for _ in range(rng.randrange(1, 12)):
            if rng.random() < 0.6:
                pieces.append(rng.choice(PIECES))
            else:
                low, high = rng.choice(planes)
                pieces.append(chr(rng.randrange(low, high)) * rng.choice((1, 1, 1, 2, 5)))
        yield "".join(pieces)


def code_points() -> Iterator[str]:
    """Every character: alone, within a word, after a space, and twice."""
    for code in range(0x110000):
        if not 0xD800 <= code < 0xE000:
            letter = chr(code)
            yield f"{letter}a{letter} {letter}{letter}1{letter}'s"


TEXTS = {"prose": prose, "source": source, "languages": languages, "emoji": emoji}


def strings() -> dict[str, list[str]]:
    """All of it in distinct strings: lines of the texts, and what was made to be hard."""
    found = {name: list(dict.fromkeys(text().splitlines(True))) for name, text in TEXTS.items()}
    found["code points"] = list(code_points())
    found["fuzz"] = list(dict.fromkeys(fuzz()))
    return found
