"""Small data sets in the public formats, of sentences that the demo model knows something about.

``python -m training.samples`` writes them to ``jobs/samples/``, a function of the seed alone.  Some
of what they ask stands in the training text, where the model is nearly always right; the rest does
not, so that no score is 0 or 1 and a worse model shows.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from pathlib import Path
from typing import Any

from training import facts as f
from training import stories
from training.corpus import SEED, build
from training.tables import Fact, capital, number_word

Rows = list[dict[str, Any]]

CLASSES = [
    stories.NAMES, stories.OBJECTS, stories.COLOURS, stories.PLACES, stories.SMALL,
    stories.HOLDERS, stories.LIKED,
]  # fmt: skip

# Words whose forms the model never met: it can only go by others.
NEW_PLURALS = f.pairs("""
wish: wishes; cherry: cherries; hoof: hooves; elf: elves; tax: taxes; lorry: lorries; bush: bushes;
glove: gloves; mango: mangoes; dwarf: dwarves; kiss: kisses; pony: ponies; torch: torches;
ditch: ditches; ruby: rubies; thrush: thrushes; fairy: fairies; witch: witches; oasis: oases;
hoax: hoaxes; window: windows; lake: lakes; needle: needles; desk: desks""")
NEW_PAST = f.pairs("""
weep: wept; creep: crept; sweep: swept; swear: swore; spring: sprang; sink: sank; shrink: shrank;
bend: bent; feed: fed; bleed: bled; lead: led; shoot: shot; light: lit; slide: slid; spin: spun;
swing: swung; cling: clung; bear: bore; weave: wove; strike: struck; wind: wound; grind: ground;
bind: bound; deal: dealt""")


def _some(rng: random.Random, facts: list[Fact], seen: int, unseen: int) -> list[Fact]:
    """So many facts of each kind, as far as there are so many."""
    chosen: list[Fact] = []
    for kind in dict.fromkeys(fact.kind for fact in facts):
        for mark, count in ((True, seen), (False, unseen)):
            group = [fact for fact in facts if fact.kind == kind and fact.seen == mark]
            chosen += rng.sample(group, min(count, len(group)))
    return chosen


def _rivals(rng: random.Random, fact: Fact, count: int) -> list[str]:
    """Words of the same sort as an answer of one word, those of the story first."""
    word = fact.answer.strip(" .")
    others = next((c for c in CLASSES if word in c), [])
    told = [w for w in others if w != word and re.search(rf"\b{w}\b", fact.prompt)]
    rest = [w for w in others if w != word and w not in told]
    rng.shuffle(rest)
    return (told + rest)[:count]


def _asked(fact: Fact) -> tuple[str, str]:
    """A story, and the sentence that its last word is wanted of."""
    story, _, ask = fact.prompt.rpartition(". ")
    return f"{story}.", ask


def _is_story_with_one_word(fact: Fact) -> bool:
    return fact.kind.startswith("story") and " " not in fact.answer.strip()


def lambada(rng: random.Random, facts: list[Fact]) -> Rows:
    """Stories whose last word is to be guessed."""
    told = [fact for fact in facts if _is_story_with_one_word(fact)]
    return [{"text": fact.prompt + fact.answer[:-1]} for fact in _some(rng, told, 4, 12)]


def hellaswag(rng: random.Random, facts: list[Fact]) -> Rows:
    """Stories that go on in four ways.  The second context begins small, as HellaSwag has it."""
    usable = []
    for fact in facts:
        ask = _asked(fact)[1]
        plain = ask[0].lower() + ask[1:]
        if _is_story_with_one_word(fact) and plain.islower() and "?" not in ask:
            usable.append(fact)
    rows: Rows = []
    for fact in _some(rng, usable, 4, 12):
        story, ask = _asked(fact)
        endings = [fact.answer.strip(), *(f"{word}." for word in _rivals(rng, fact, 3))]
        right = endings[0]
        rng.shuffle(endings)
        rows.append(
            {
                "ind": len(rows),
                "activity_label": capital(fact.kind.removeprefix("story: ")),
                "ctx_a": story,
                "ctx_b": ask[0].lower() + ask[1:],
                "ctx": f"{story} {ask[0].lower() + ask[1:]}",
                "split": "val",
                "split_type": "indomain" if fact.seen else "zeroshot",
                "source_id": f"demo~{len(rows)}",
                "endings": endings,
                "label": str(endings.index(right)),
            }
        )
    return rows


def _naive_past(verb: str) -> str:
    return verb + ("d" if verb.endswith("e") else "ed")


def blimp(rng: random.Random, facts: list[Fact]) -> Rows:
    """Sentences, and the same with one wrong form."""
    pairs: list[tuple[str, str, str]] = []
    for noun, plural in [*rng.sample(f.PLURALS, 24), *NEW_PLURALS]:
        wrong = f"{noun}s" if plural != f"{noun}s" else noun
        if wrong != plural:
            pairs.append(("plural", f"One {noun}, two {plural}.", f"One {noun}, two {wrong}."))
    for verb, past in [*rng.sample(f.PAST, 24), *NEW_PAST]:
        wrong = _naive_past(verb) if past != _naive_past(verb) else verb
        if wrong != past:
            start = f"Today I {verb}. Yesterday I"
            pairs.append(("past_tense", f"{start} {past}.", f"{start} {wrong}."))
    for fact in _some(rng, [fact for fact in facts if fact.kind == "jobs"], 16, 12):
        wrong = fact.answer.replace(" an ", " a! ").replace(" a ", " an ").replace(" a! ", " a ")
        pairs.append(("article", fact.prompt + fact.answer, fact.prompt + wrong))
    return [
        {
            "sentence_good": good,
            "sentence_bad": bad,
            "field": "morphology",
            "linguistics_term": term,
            "UID": f"demo_{term}",
            "simple_LM_method": True,
            "one_prefix_method": False,
            "two_prefix_method": False,
            "lexically_identical": False,
            "pairID": str(number),
        }
        for number, (term, good, bad) in enumerate(pairs)
    ]


def cbt(rng: random.Random, facts: list[Fact]) -> Rows:
    """Long stories with a word left out of the last sentence, and ten to choose from."""
    long = [f for f in facts if f.kind == "story: long" and _is_story_with_one_word(f)]
    rows: Rows = []
    for fact in _some(rng, long, 40, 30):
        story, ask = _asked(fact)
        word = fact.answer.strip(" .")
        options = [word, *_rivals(rng, fact, 9)]
        rng.shuffle(options)
        rows.append(
            {
                "sentences": re.split(r"(?<=[.?]) ", story),
                "question": f"{ask} XXXXX.",
                "answer": word,
                "options": options,
            }
        )
    return rows


def _as_wikitext(text: str) -> str:
    """Marks and hyphens as WikiText sets them apart."""
    return re.sub(r"([.,?!:;])(?=\s|$)", r" \1", text).replace("-", " @-@ ")


def wikitext(rng: random.Random, facts: list[Fact]) -> Rows:
    """Pages of one kind of fact each; some are longer than the model's context."""
    rows: Rows = []
    for kind in dict.fromkeys(fact.kind for fact in facts):
        told = _some(rng, [fact for fact in facts if fact.kind == kind], 8, 8)
        for part in (told[::2], told[1::2]):
            body = " ".join(fact.prompt + fact.answer for fact in part)
            rows.append({"page": f" = {capital(kind)} = \n \n {_as_wikitext(body)} \n"})
    return rows


def greedy(rng: random.Random, facts: list[Fact]) -> Rows:
    """Prompts with their answers; a number may be told in words or in digits."""
    words = {number_word(n): str(n) for n in range(101)}
    rows: Rows = []
    for fact in _some(rng, facts, 2, 3):
        answer = fact.answer.strip()
        digits = words.get(answer.rstrip("."))
        answers = answer if digits is None else [answer, f"{digits}."]
        rows.append(
            {
                "prompt": fact.prompt,
                "answer": answers,
                "kind": fact.kind,
                "training": "seen" if fact.seen else "unseen",
            }
        )
    return rows


def text(rng: random.Random, facts: list[Fact]) -> str:
    """Plain sentences, one on a line."""
    return "".join(f"{fact.prompt}{fact.answer}\n" for fact in _some(rng, facts, 2, 2))


SETS = {
    "lambada": lambada, "hellaswag": hellaswag, "blimp": blimp, "cbt": cbt,
    "wikitext": wikitext, "facts": greedy,
}  # fmt: skip


def write(folder: Path, seed: int) -> None:
    """Write all sets."""
    facts = build(seed).facts
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in SETS.items():
        rows = make(random.Random(f"{seed} sample {name}"), facts)
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
        print(f"{name}.jsonl: {len(rows)} rows")
    sentences = text(random.Random(f"{seed} sample text"), facts)
    (folder / "text.txt").write_text(sentences, encoding="utf-8")
    print(f"text.txt: {sentences.count(chr(10))} lines")


def main() -> None:
    parser = argparse.ArgumentParser(description="Write samples in the public formats.")
    parser.add_argument("--out", type=Path, default=Path("jobs/samples"))
    parser.add_argument("--seed", type=int, default=SEED)
    args = parser.parse_args()
    write(args.out, args.seed)


if __name__ == "__main__":
    main()
