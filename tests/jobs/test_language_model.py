"""How texts become requests: the harness' rules, on any text."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.language_model import LanguageModel, TextScore, Unscorable, windows
from reference import Tokenizer
from runner.score import Scored

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
SPACE = st.text(" \t\n\u00a0\u3000", max_size=4)
WORDY = st.text("abcdeé12. ,'\n", max_size=40)


class Recording:
    """Keeps what it is asked, and answers that every token is the model's choice."""

    def __init__(self):
        self.calls = []

    def score(self, wanted):
        self.calls.append(list(wanted))
        return [
            Scored(np.full(len(w.tokens), -0.5, np.float32), np.array(w.tokens, np.int64))
            for w in wanted
        ]

    @property
    def asked(self):
        return [(list(w.context), list(w.tokens)) for call in self.calls for w in call]


def model_of(tokenizer, n_ctx=1024):
    scorer = Recording()
    model = SimpleNamespace(tokenizer=tokenizer, hparams={"n_ctx": n_ctx})
    return LanguageModel(model, scorer, SimpleNamespace())


def asked_of(model):
    return model._scorer.asked


@given(context=WORDY, space=SPACE, continuation=TEXT)
def test_white_space_may_stand_on_either_side(demo, context, space, continuation):
    context = f"a{context}".rstrip()
    one, other = model_of(demo.tokenizer), model_of(demo.tokenizer)
    one.loglikelihood([(context + space, continuation)])
    other.loglikelihood([(context, space + continuation)])
    assert asked_of(one) == asked_of(other)


@given(context=WORDY, continuation=TEXT)
def test_a_continuation_is_what_both_together_have_beyond_the_context(demo, context, continuation):
    model = model_of(demo.tokenizer)
    (score,) = model.loglikelihood([(context, continuation)])
    encode = demo.tokenizer.encode
    if not context:
        wanted = ([demo.tokenizer.eos_id], encode(continuation))
    else:
        before = encode(context.rstrip())
        wanted = (before, encode(context + continuation)[len(before) :])
    if all(wanted):
        assert asked_of(model) == [wanted]
        assert score.tokens == len(wanted[1])
        assert score.is_greedy
        assert score.loglikelihood == pytest.approx(-0.5 * len(wanted[1]))
    else:
        assert asked_of(model) == []
        assert isinstance(score, Unscorable)


@given(n_context=st.integers(1, 30), n_tokens=st.integers(1, 12), n_ctx=st.integers(1, 12))
def test_of_what_is_too_long_the_end_is_kept(demo, n_context, n_tokens, n_ctx):
    model = model_of(demo.tokenizer, n_ctx)
    context, tokens = list(range(n_context)), list(range(100, 100 + n_tokens))
    (score,) = model.loglikelihood_tokens([(context, tokens)])
    if n_tokens > n_ctx:
        assert score == Unscorable(
            f"the continuation has {n_tokens} tokens; expected at most n_ctx = {n_ctx}"
        )
        return
    ((kept, asked),) = asked_of(model)
    assert asked == tokens
    assert kept
    assert kept + tokens == (context + tokens)[-(n_ctx + 1) :]


@given(ids=st.lists(st.integers(0, 99), min_size=1, max_size=50), n_ctx=st.integers(1, 9))
def test_windows_score_each_token_once_after_those_before_it(ids, n_ctx):
    found = list(windows(ids, n_ctx))
    assert [token for w in found for token in w.tokens] == ids[1:]
    at = 1
    for w in found:
        assert w.context
        assert list(w.context) == ids[at - len(w.context) : at]
        at += len(w.tokens)
        assert len(w.context) + len(w.tokens) <= n_ctx + 1
    assert all(len(w.tokens) == n_ctx for w in found[:-1])
    if len(ids) > n_ctx:  # the last one has all the context that fits
        assert len(found[-1].context) + len(found[-1].tokens) == n_ctx + 1


def test_requests_of_a_call_go_out_together(demo):
    model = model_of(demo.tokenizer, n_ctx=4)
    model.loglikelihood([("a", " b"), (" ", "no"), ("c", " d")])
    model.loglikelihood_rolling(["one two three four five six", "seven", ""])
    assert len(model._scorer.calls[0]) == 2
    assert len(model._scorer.calls) == 2


def test_results_keep_the_order_of_what_was_asked(demo):
    model = model_of(demo.tokenizer)
    scores = model.loglikelihood([("a", " b"), (" ", "no"), ("a", " b c d e")])
    assert [isinstance(score, TextScore) for score in scores] == [True, False, True]
    assert scores[0].tokens < scores[2].tokens


@pytest.mark.parametrize(
    ("context", "continuation", "reason"),
    [
        (" \n", "word", "the context is white space only"),
        ("a word", "", "no token of its own"),
        ("th", "e", "no token of its own"),  # "the" is one token
        ("", "", "no token of its own"),
        ("", "<|endoftext|>", "no token of its own"),
        ("a", " b" * 300, "tokens; expected at most n_ctx = 256"),
        ("a \ud800", " b", "lone surrogate"),
    ],
)
def test_what_has_no_score_says_why(demo, context, continuation, reason):
    model = model_of(demo.tokenizer, n_ctx=256)
    (score,) = model.loglikelihood([(context, continuation)])
    assert reason in score.reason
    assert asked_of(model) == []


def test_an_empty_context_is_end_of_text_once(demo):
    model = model_of(demo.tokenizer)
    model.loglikelihood([("", "A text"), ("", "<|endoftext|>A text")])
    assert asked_of(model)[0] == asked_of(model)[1]
    assert asked_of(model)[0][0] == [demo.tokenizer.eos_id]


def test_texts_begin_with_the_token_that_the_tokenizer_names(demo):
    tokenizer = Tokenizer(demo.tokenizer.vocab, demo.tokenizer.merges, bos_id=7)
    model = model_of(tokenizer)
    model.loglikelihood([("", "A text")])
    model.loglikelihood_rolling(["A text"])
    assert asked_of(model) == [([7], tokenizer.encode("A text"))] * 2
    assert tokenizer.eos_id == demo.tokenizer.eos_id


def test_an_empty_text_has_a_score_of_nothing(demo):
    (score,) = model_of(demo.tokenizer).loglikelihood_rolling([""])
    assert (score.loglikelihood, score.tokens, score.greedy) == (0.0, 0, [])


def test_log_probabilities_are_added_in_float64(demo):
    class Tenths(Recording):
        def score(self, wanted):
            return [replace(s, logprobs=s.logprobs / 5) for s in super().score(wanted)]

    model = LanguageModel(model_of(demo.tokenizer).model, Tenths(), SimpleNamespace())
    (score,) = model.loglikelihood_tokens([([1], [2] * 1000)])
    assert score.loglikelihood == pytest.approx(-1000 * float(np.float32(0.1)), rel=1e-12)


def test_a_choice_that_is_wrong_anywhere_is_not_greedy(demo):
    class Wrong(Recording):
        def score(self, wanted):
            return [Scored(s.logprobs, np.add(s.greedy, [0, 1])) for s in super().score(wanted)]

    model = LanguageModel(demo, Wrong())
    ((score),) = model.loglikelihood_tokens([([1], [2, 3])])
    assert not score.is_greedy
    assert score.greedy == [2, 4]


def test_a_chosen_token_that_is_none_is_shown(demo):
    model = model_of(demo.tokenizer)
    assert model.decode([len(demo.tokenizer) + 5]) == "\ufffd"
