"""Text to token ids and back: GPT-2's byte-level BPE, and the tutorial's whitespace split."""

import hashlib
import heapq
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, pairwise, repeat
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import regex

from .added_tokens import AddedToken, patterns
from .errors import TokenizerError, UnknownTokenError
from .messages import quoted
from .unicode16 import is_unassigned, mask_unassigned

END_OF_TEXT = "<|endoftext|>"
Choices: TypeAlias = slice | npt.NDArray[np.int64]  # indexes the last axis of logits

# How GPT-2 cuts a text into words before any merge: contractions, then runs of letters,
# digits or signs with at most one space in front, then the white space that is left.
WORD = regex.compile(r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")

# The same for a text of ASCII alone, in the library that is twice as fast.
ASCII_WORD = re.compile(
    r"'(?:[sdmt]|ll|ve|re)| ?[A-Za-z]+| ?[0-9]+| ?[^\t-\r A-Za-z0-9]+"
    r"|[\t-\r ]+(?![^\t-\r ])|[\t-\r ]+"
)

LETTERS = regex.compile(r"[\p{L}\p{N}]")

FEW_BYTES = 24  # up to which looking through all pairs is faster than a heap
NEVER = 1 << 62  # the rank of a pair that is not joined
CACHED_WORD_LETTERS = 64  # longer words are merged each time, so that the cache stays small
CACHED_WORD_IDS = 64
CACHED_WORDS = 1 << 17


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
    added : sequence of AddedToken
        Tokens that a fine-tuned model has beside those. `<|endoftext|>` of the vocabulary is a
        special one without being named here.
    eos_id : int, optional
        The token that ends a text; by default `<|endoftext|>`, where the vocabulary has it.
    bos_id : int, optional
        The token that stands before a text; by default the one that ends it.

    Attributes
    ----------
    eos_id, bos_id : int or None
        The token that ends a text, and the one that stands before it.

    Raises
    ------
    TokenizerError
        Where a byte or a merged token is missing from the vocabulary, or an id is taken twice.

    References
    ----------
    Sennrich et al. 2016 (BPE); Radford et al. 2019, section 2.2 (on bytes).
    """

    def __init__(
        self,
        vocab: Mapping[str, int],
        merges: Sequence[tuple[str, str]],
        added: Sequence[AddedToken] = (),
        eos_id: int | None = None,
        bos_id: int | None = None,
    ) -> None:
        letters = byte_letters()
        self.vocab = dict(vocab)
        self.merges = list(merges)
        self.added = {token.content: token for token in added}
        if (end := _end_of_text(vocab)) is not None:
            self.added.setdefault(END_OF_TEXT, end)
        self._bytes = {
            token_id: _spell(token, letters)
            for token, token_id in vocab.items()
            if token not in self.added
        }
        self._bytes |= {t.token_id: _spell_added(t, vocab, letters) for t in self.added.values()}
        moved = [t for t in self.added.values() if vocab.get(t.content, t.token_id) != t.token_id]
        if moved or len(self._bytes) < len(vocab.keys() | self.added.keys()):
            raise TokenizerError(
                "vocabulary: two tokens have the same id, or one has two; expected one each. "
                "Take the vocabulary file that belongs to the model."
            )
        if eos_id is None and END_OF_TEXT in self.added:
            eos_id = self.added[END_OF_TEXT].token_id
        self.eos_id = eos_id
        self.bos_id = eos_id if bos_id is None else bos_id
        try:
            self._byte_ids = [vocab[letter] for letter in sorted(letters, key=letters.__getitem__)]
        except KeyError as e:
            byte = letters[e.args[0]]
            raise TokenizerError(
                f"vocabulary: no token for byte 0x{byte:02x}; expected all 256 single bytes. "
                "Take the vocabulary file that belongs to the model."
            ) from None
        self._ranks: dict[tuple[int, int], int] = {}  # (left id, right id) -> place in the merges
        self._joined: list[int] = []  # id of both together, by rank
        for rank, (left, right) in enumerate(merges):
            try:
                self._ranks[vocab[left], vocab[right]] = rank
                self._joined.append(vocab[left + right])
            except KeyError as e:
                raise TokenizerError(
                    f"merges: rule {rank + 1} ({quoted(left)} {quoted(right)}) needs "
                    f"{quoted(e.args[0])}, which the vocabulary lacks. Take both files "
                    "from the same model."
                ) from None
        self._words = WordCache(self._merge)
        self._plain = any(not token.special for token in self.added.values())
        self._patterns = patterns(self.added.values())

    def __len__(self) -> int:
        """How many ids the vocabulary has."""
        return len(self._bytes)

    @property
    def max_id(self) -> int:
        """The highest id; where ids are missing it is more than `len` minus one."""
        return max(self._bytes)

    @property
    def choices(self) -> Choices:
        """What selects the logits of ids that have a token, where a model has more."""
        if len(self) == self.max_id + 1:
            return slice(len(self))
        return np.array(sorted(self._bytes), dtype=np.int64)

    @property
    def sha256(self) -> str:
        """Hash of vocabulary and merges, whatever files they came from."""
        digest = hashlib.sha256()
        for token_id, spelling in sorted(self._bytes.items()):
            digest.update(b"%d %s\n" % (token_id, spelling.hex().encode()))
        for (left, right), rank in self._ranks.items():
            digest.update(b"%d %d %d %d\n" % (rank, left, right, self._joined[rank]))
        for token in sorted(self.added.values(), key=lambda token: token.token_id):
            if token != _end_of_text(self.vocab):
                flags = token.token_id, token.special, token.normalized
                digest.update(b"added %d %d %d\n" % flags)
        return digest.hexdigest()

    def encode(self, text: str, *, allow_special: bool = False) -> list[int]:
        """Token ids of a text.

        Parameters
        ----------
        text : str
            Any Unicode string.
        allow_special : bool
            Read special tokens such as `<|endoftext|>` as tokens; by default they are ordinary
            text.

        Raises
        ------
        TokenizerError
            Where the text holds a lone surrogate, which is not a character.
        """
        try:
            text.encode()
        except UnicodeEncodeError as e:
            raise TokenizerError(
                f"lone surrogate U+{ord(text[e.start]):04X} at character {e.start}; expected "
                "Unicode text. Fix the text where it was cut or decoded."
            ) from None
        passes = self._patterns if allow_special or self._plain else []
        return self._encode_around(text, passes, allow_special)

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
                f"id {token_id} is not in the vocabulary; expected 0 to {self.max_id}"
            ) from None

    def decode(self, ids: Iterable[int]) -> str:
        """The text of any list of ids; bytes that are no UTF-8 come out as U+FFFD."""
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", errors="replace")

    def _encode_around(self, text: str, passes: Sequence[Any], allow_special: bool) -> list[int]:
        """Ids of the added tokens that the first pass finds, and of what is between them."""
        if not passes:
            return self._encode_words(text)
        ids, at = [], 0
        for match in passes[0].finditer(text):
            token = self.added[match[0]]
            if allow_special or not token.special:
                ids += self._encode_around(text[at : match.start()], passes[1:], allow_special)
                ids.append(token.token_id)
                at = match.end()
        return ids + self._encode_around(text[at:], passes[1:], allow_special)

    def _encode_words(self, text: str) -> list[int]:
        words = (ASCII_WORD if text.isascii() else WORD).findall(text)
        try:
            return list(chain.from_iterable(map(self._words.__getitem__, words)))
        except NewLetterError:
            spans = (match.span() for match in WORD.finditer(mask_unassigned(text)))
            known = ((word, self._words.get(word)) for word in (text[a:b] for a, b in spans))
            return [i for word, ids in known for i in ids or self._merge(word.encode())]

    def _merge(self, word: bytes) -> list[int]:
        """Join the best-ranked pair, leftmost first, until none is left."""
        ids = list(map(self._byte_ids.__getitem__, word))
        return self._merge_few(ids) if len(ids) <= FEW_BYTES else self._merge_many(ids)

    def _merge_few(self, ids: list[int]) -> list[int]:
        """Look for the best pair anew each time: quadratic, and fastest where that is little."""
        rank_of = self._ranks.get
        ranks = list(map(rank_of, pairwise(ids), repeat(NEVER)))
        while ranks:
            rank = min(ranks)
            if rank == NEVER:
                break
            at = ranks.index(rank)
            ids[at] = joined = self._joined[rank]
            del ids[at + 1], ranks[at]
            if at:
                ranks[at - 1] = rank_of((ids[at - 1], joined), NEVER)
            if at < len(ranks):
                ranks[at] = rank_of((joined, ids[at + 1]), NEVER)
        return ids

    def _merge_many(self, ids: list[int]) -> list[int]:
        """Keep the pairs in a heap: O(n log n)."""
        end = len(ids)
        ranks = self._ranks
        after = list(range(1, end + 1))  # position of the right neighbour
        before = list(range(-1, end - 1))
        # A pair waits as rank * end + position, so that the heap compares single numbers.
        heap = [ranks[pair] * end + at for at, pair in enumerate(pairwise(ids)) if pair in ranks]
        heapq.heapify(heap)
        while heap:
            rank, left = divmod(heapq.heappop(heap), end)
            right = after[left]
            if right == end or ranks.get((ids[left], ids[right])) != rank:
                continue  # one of the two was merged away meanwhile
            ids[left], ids[right] = self._joined[rank], -1
            after[left] = beyond = after[right]
            if beyond != end:
                before[beyond] = left
                if (pair := (ids[left], ids[beyond])) in ranks:
                    heapq.heappush(heap, ranks[pair] * end + left)
            previous = before[left]
            if previous != -1 and (pair := (ids[previous], ids[left])) in ranks:
                heapq.heappush(heap, ranks[pair] * end + previous)
        return [token_id for token_id in ids if token_id != -1]


class NewLetterError(Exception):
    """A word holds what is a letter or digit only since Unicode 16.0: the words are others."""


class WordCache(dict[str, tuple[int, ...]]):
    """Ids of the words met so far: looking one up costs no call of Python's.

    Parameters
    ----------
    merge : callable
        Makes the ids of a word's bytes.
    """

    def __init__(self, merge: Callable[[bytes], list[int]]) -> None:
        super().__init__()
        self._merge = merge

    def __missing__(self, word: str) -> tuple[int, ...]:
        if not word.isascii() and any(map(is_unassigned, LETTERS.findall(word))):
            raise NewLetterError  # such a word is never kept, so none is found without asking
        ids = tuple(self._merge(word.encode()))
        if len(word) <= CACHED_WORD_LETTERS and len(ids) <= CACHED_WORD_IDS:
            if len(self) >= CACHED_WORDS:
                self.clear()
            self[word] = ids
        return ids


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


def _spell(token: str, letters: Mapping[str, int]) -> bytes:
    try:
        return bytes(map(letters.__getitem__, token))
    except KeyError as e:
        raise TokenizerError(
            f"vocabulary: token {quoted(token)} holds {e.args[0]!r}, which stands for no byte; "
            "expected byte letters as in GPT-2's vocabulary files"
        ) from None


def _spell_added(token: AddedToken, vocab: Mapping[str, int], letters: Mapping[str, int]) -> bytes:
    """In the vocabulary it stands in byte letters, unless it holds others."""
    if token.content in vocab and letters.keys() >= set(token.content):
        return _spell(token.content, letters)
    return token.content.encode()


def _end_of_text(vocab: Mapping[str, int]) -> AddedToken | None:
    """The special token that a vocabulary has without saying so."""
    if END_OF_TEXT not in vocab:
        return None
    return AddedToken(END_OF_TEXT, vocab[END_OF_TEXT], special=True)
