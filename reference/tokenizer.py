"""Text to token ids and back: GPT-2's byte-level BPE, and the tutorial's whitespace split."""

import functools
import hashlib
import heapq
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import regex

from .errors import TokenizerError, UnknownTokenError

END_OF_TEXT = "<|endoftext|>"

# How GPT-2 cuts a text into words before any merge: contractions, then runs of letters,
# digits or signs with at most one space in front, then the white space that is left.
WORD = regex.compile(r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")

CACHED_WORD_BYTES = 64  # longer words are merged each time, so the cache stays small
CACHED_WORDS = 1 << 16


def byte_letters() -> dict[str, int]:
    """The printable letter that stands for each byte in a vocabulary file.

    Printable Latin-1 bytes stand for themselves; the others take the letters from
    U+0100 on, in order.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(0x100 + position): byte for position, byte in enumerate(others)
    }


class Tokenizer:
    """Byte-level BPE.

    Parameters
    ----------
    vocab : mapping of str to int
        Token, written in byte letters, to id; all 256 single bytes must be there.
    merges : sequence of (str, str)
        Pairs to join, the most frequent first, written in byte letters.

    Attributes
    ----------
    eos_id : int or None
        Id of `<|endoftext|>`, where the vocabulary has it.

    Raises
    ------
    TokenizerError
        Where a byte or a merged token is missing from the vocabulary.

    References
    ----------
    Sennrich et al. 2016 (BPE); Radford et al. 2019, section 2.2 (on bytes).
    """

    def __init__(self, vocab: Mapping[str, int], merges: Sequence[tuple[str, str]]) -> None:
        letters = byte_letters()
        self.eos_id = vocab.get(END_OF_TEXT)
        if len(set(vocab.values())) < len(vocab):
            raise TokenizerError(
                "vocabulary: two tokens have the same id; expected one each. "
                "Take the vocabulary file that belongs to the model."
            )
        self._bytes = {
            token_id: END_OF_TEXT.encode() if token == END_OF_TEXT else _spell(token, letters)
            for token, token_id in vocab.items()
        }
        try:
            self._byte_ids = [vocab[letter] for letter in sorted(letters, key=letters.__getitem__)]
        except KeyError as e:
            byte = letters[e.args[0]]
            raise TokenizerError(
                f"vocabulary: no token for byte 0x{byte:02x}; expected all 256 single bytes. "
                "Take the vocabulary file that belongs to the model."
            ) from None
        # (left id, right id) -> (rank, id of both together)
        self._merges: dict[tuple[int, int], tuple[int, int]] = {}
        for rank, (left, right) in enumerate(merges):
            try:
                self._merges[vocab[left], vocab[right]] = rank, vocab[left + right]
            except KeyError as e:
                raise TokenizerError(
                    f"merges: rule {rank + 1} ({left!r} {right!r}) needs {e.args[0]!r}, which the "
                    "vocabulary lacks. Take both files from the same model."
                ) from None
        self._cached_merge = functools.lru_cache(CACHED_WORDS)(self._merge)

    def __len__(self) -> int:
        """How many ids the vocabulary has."""
        return len(self._bytes)

    @property
    def max_id(self) -> int:
        """The highest id; where ids are missing it is more than `len` minus one."""
        return max(self._bytes)

    @property
    def sha256(self) -> str:
        """Hash of vocabulary and merges, whatever files they came from."""
        digest = hashlib.sha256()
        for token_id, spelling in sorted(self._bytes.items()):
            digest.update(b"%d %s\n" % (token_id, spelling.hex().encode()))
        for (left, right), (rank, joined) in self._merges.items():
            digest.update(b"%d %d %d %d\n" % (rank, left, right, joined))
        return digest.hexdigest()

    def encode(self, text: str, *, allow_special: bool = False) -> list[int]:
        """Token ids of a text.

        Parameters
        ----------
        text : str
            Any Unicode string.
        allow_special : bool
            Read `<|endoftext|>` as the special token; by default it is ordinary text.

        Raises
        ------
        TokenizerError
            Where the text holds a lone surrogate, which is not a character.
        """
        if allow_special and self.eos_id is not None:
            head, *tail = text.split(END_OF_TEXT)
            ids = self.encode(head)
            for part in tail:
                ids += [self.eos_id, *self.encode(part)]
            return ids
        try:
            words = [word.encode() for word in WORD.findall(text)]
        except UnicodeEncodeError:
            at = next(i for i, letter in enumerate(text) if 0xD800 <= ord(letter) <= 0xDFFF)
            raise TokenizerError(
                f"lone surrogate U+{ord(text[at]):04X} at character {at}; expected Unicode text. "
                "Fix the text where it was cut or decoded."
            ) from None
        ids = []
        for word in words:
            ids += self._cached_merge(word) if len(word) <= CACHED_WORD_BYTES else self._merge(word)
        return ids

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that one id stands for.

        Raises
        ------
        TokenizerError
            Where no token has that id.
        """
        try:
            return self._bytes[token_id]
        except KeyError:
            raise TokenizerError(
                f"id {token_id} is not in the vocabulary; expected 0 to {len(self) - 1}"
            ) from None

    def decode(self, ids: Iterable[int]) -> str:
        """The text of any list of ids; bytes that are no UTF-8 come out as U+FFFD."""
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", errors="replace")

    def _merge(self, word: bytes) -> list[int]:
        """Join the best-ranked pair, leftmost first, until none is left: O(n log n)."""
        ids = [self._byte_ids[byte] for byte in word]
        end = len(ids)
        after = list(range(1, end + 1))  # position of the right neighbour
        before = list(range(-1, end - 1))
        heap: list[tuple[int, int, int, int, int]] = []

        def offer(left: int, right: int) -> None:
            merge = self._merges.get((ids[left], ids[right]))
            if merge is not None:
                heapq.heappush(heap, (merge[0], left, ids[left], ids[right], merge[1]))

        for position in range(end - 1):
            offer(position, position + 1)
        while heap:
            _, left, left_id, right_id, joined = heapq.heappop(heap)
            right = after[left]
            if right == end or ids[left] != left_id or ids[right] != right_id:
                continue  # one of the two was merged away meanwhile
            ids[left], ids[right] = joined, -1
            after[left] = beyond = after[right]
            if beyond != end:
                before[beyond] = left
                offer(left, beyond)
            if before[left] != -1:
                offer(before[left], left)
        return [token_id for token_id in ids if token_id != -1]


class WhitespaceTokenizer:
    """The tutorial's tokenizer: a word is what stands between single spaces.

    Parameters
    ----------
    vocab : sequence of str
        The words; a word's place is its id.
    """

    def __init__(self, vocab: Sequence[str]) -> None:
        self.vocab = list(vocab)
        self._ids = {word: position for position, word in enumerate(self.vocab)}

    def encode(self, text: str) -> list[int]:
        """Ids of the words of `text`.

        Raises
        ------
        UnknownTokenError
            A KeyError that names the first word that is not in the vocabulary: the empty
            word for an empty text or a double space.
        """
        words = text.split(" ")
        for word in words:
            if word not in self._ids:
                raise UnknownTokenError(word)
        return [self._ids[word] for word in words]

    def decode(self, ids: Iterable[int]) -> str:
        """The words of `ids`, joined by single spaces."""
        return " ".join(self.vocab[token_id] for token_id in ids)


def load_tokenizer(vocab_path: Path, merges_path: Path) -> Tokenizer:
    """Read a vocabulary (`vocab.json`, `encoder.json`) and its merges (`merges.txt`, `vocab.bpe`).

    Raises
    ------
    TokenizerError
        Where a file is missing, is not what its name says, or the two do not belong together.
    """
    try:
        vocab = json.loads(_read(vocab_path))
    except (ValueError, RecursionError) as e:
        raise TokenizerError(
            f"{vocab_path}: not JSON ({e}); expected one object of token to id. "
            "Copy the file again from the model's source."
        ) from None
    if not isinstance(vocab, dict) or not all(type(i) is int and i >= 0 for i in vocab.values()):
        raise TokenizerError(
            f"{vocab_path}: expected one JSON object that gives each token an id, 0 or more. "
            "Copy the file again from the model's source."
        )
    merges = []
    for number, line in enumerate(_read(merges_path).replace("\r", "").split("\n"), start=1):
        if (number == 1 and line.startswith("#version")) or not line:
            continue
        pair = line.split(" ")
        if len(pair) != 2:
            raise TokenizerError(
                f"{merges_path}:{number}: found {len(pair)} parts; expected two tokens and one "
                "space. Copy the file again from the model's source."
            )
        merges.append((pair[0], pair[1]))
    try:
        return Tokenizer(vocab, merges)
    except TokenizerError as e:
        raise TokenizerError(f"{vocab_path.parent}: {e}") from None


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as e:
        raise TokenizerError(
            f"{path}: {e.strerror or e}; expected a tokenizer file. "
            "Copy it from the model's source."
        ) from None
    except UnicodeDecodeError as e:
        raise TokenizerError(
            f"{path}: byte {e.start} is not UTF-8; expected a text file. "
            "Copy the file again from the model's source."
        ) from None


def _spell(token: str, letters: Mapping[str, int]) -> bytes:
    try:
        return bytes(letters[letter] for letter in token)
    except KeyError as e:
        raise TokenizerError(
            f"vocabulary: token {token!r} holds {e.args[0]!r}, which stands for no byte; expected "
            "byte letters as in GPT-2's vocabulary files"
        ) from None
