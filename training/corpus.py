"""The facts and the training text of the demo model, both a function of the seed alone.

``python -m training.corpus`` writes the evaluated facts to ``jobs/facts.jsonl``.  A training
document is ``prompt + answer``; the end-of-text token that follows it is added by `training.train`.
Facts with ``seen=False`` are never in the training text.
"""

from __future__ import annotations

import argparse
import bisect
import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path

from training.stories import HeldOut, Story, Teller, hold_out
from training.tables import Fact, fixed_facts

SEED = 20240
HELD_OUT_SHARE = 0.1
STORIES = {
    "story: long": 2500,
    "echo": 4000,
}  # training stories of a kind; others have STORIES_OTHER
STORIES_OTHER = 2000
REPEATS = 6  # a fixed fact is this many times in a pass over the training text
REPEATS_HARD = 16
HARD = {
    "alphabet", "counting", "days", "differences", "months", "number words", "products",
    "sequences", "spelling", "sums", "sums in words",
}  # fmt: skip
EVALUATED_SEEN = 60  # at most this many facts of a kind are evaluated
EVALUATED_UNSEEN = 30


@dataclass(frozen=True)
class Corpus:
    """``facts`` are evaluated; ``documents`` are trained on, in this order or any other."""

    facts: list[Fact]
    documents: list[tuple[str, str]]


def _tell(seed: int, held_out: HeldOut, unseen: bool) -> dict[str, list[Story]]:
    """Distinct stories of every kind."""
    told: dict[str, list[Story]] = {}
    rng = random.Random(f"{seed} stories {unseen}")
    teller = Teller(rng, held_out, unseen)
    for kind in teller.kinds():
        stories: dict[str, Story] = {}
        name = kind().kind
        wanted = EVALUATED_UNSEEN if unseen else STORIES.get(name, STORIES_OTHER)
        for _ in range(20 * wanted):  # a few templates can say fewer different things
            story = kind()
            stories[story.prompt] = story
            if len(stories) == wanted:
                break
        told[name] = list(stories.values())
    return told


def _sample(facts: list[Fact], seed: int) -> list[Fact]:
    """The evaluated facts: of every kind a seeded few, in the order they came."""
    chosen: list[Fact] = []
    for kind in dict.fromkeys(fact.kind for fact in facts):
        for seen, most in ((True, EVALUATED_SEEN), (False, EVALUATED_UNSEEN)):
            group = [fact for fact in facts if fact.kind == kind and fact.seen == seen]
            rng = random.Random(f"{seed} evaluated {kind} {seen}")
            picked = sorted(rng.sample(range(len(group)), min(most, len(group))))
            chosen += [group[i] for i in picked]
    return chosen


def check(facts: list[Fact]) -> None:
    """Raise unless each prompt has one right continuation among all these facts' texts."""
    answers: dict[str, str] = {}
    for fact in facts:
        if not (fact.answer.startswith(" ") and fact.answer.endswith(".")):
            raise ValueError(f"not an answer: {fact.answer!r}")
        if answers.setdefault(fact.prompt, fact.answer) != fact.answer:
            raise ValueError(f"two answers to {fact.prompt!r}")
    texts = sorted(prompt + answer for prompt, answer in answers.items())
    for prompt, answer in answers.items():
        i = bisect.bisect_left(texts, prompt)
        while i < len(texts) and texts[i].startswith(prompt):
            if texts[i] != prompt + answer:
                raise ValueError(f"{prompt!r} also begins {texts[i]!r}")
            i += 1


def build(seed: int = SEED) -> Corpus:
    """Make the facts and the training documents, and check that they do not contradict."""
    fixed = fixed_facts(seed, HELD_OUT_SHARE)
    held_out = hold_out(seed, HELD_OUT_SHARE)
    stories = [
        Fact(kind, story.prompt, story.answer, not unseen)
        for unseen in (False, True)
        for kind, told in _tell(seed, held_out, unseen).items()
        for story in told
    ]
    check(fixed + stories)
    trained = [
        fact
        for fact in fixed
        for _ in range(REPEATS_HARD if fact.kind in HARD else REPEATS)
        if fact.seen
    ]
    trained += [fact for fact in stories if fact.seen]
    documents = [(fact.prompt, fact.answer) for fact in trained]
    known = set(documents)
    facts = _sample(fixed + stories, seed)
    if any(fact.seen != ((fact.prompt, fact.answer) in known) for fact in facts):
        raise ValueError("a fact is not where its mark says")
    return Corpus(facts, documents)


def write_facts(facts: list[Fact], path: Path) -> None:
    lines = []
    for fact in facts:
        row = asdict(fact)
        lines.append(json.dumps({key: row[key] for key in ("prompt", "answer", "kind", "seen")}))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the evaluated facts as JSON lines.")
    parser.add_argument("--out", type=Path, default=Path("jobs/facts.jsonl"))
    parser.add_argument("--seed", type=int, default=SEED)
    args = parser.parse_args()
    corpus = build(args.seed)
    write_facts(corpus.facts, args.out)
    print(f"{len(corpus.facts)} facts -> {args.out}; {len(corpus.documents)} training documents")


if __name__ == "__main__":
    main()
