from itertools import islice

import pytest

from reference import generate, greedy


def test_only_the_new_ids_come_back_and_the_prompt_is_left_alone(tiny):
    hparams, params = tiny
    prompt = [1, 2, 3]
    new = generate(prompt, params, hparams["n_head"], 5, progress=False)
    assert prompt == [1, 2, 3]
    assert len(new) == 5
    assert new == list(islice(greedy(prompt, params, hparams["n_head"]), 5))


def test_the_bar_is_called_generating(tiny, capsys):
    hparams, params = tiny
    generate([1], params, hparams["n_head"], 2)
    assert "generating: 100%" in capsys.readouterr().err


def test_prompt_and_new_tokens_stay_below_n_ctx(tiny):
    hparams, params = tiny
    assert len(generate([1] * 12, params, hparams["n_head"], 3, progress=False)) == 3
    with pytest.raises(ValueError, match="expected fewer than n_ctx = 16"):
        generate([1] * 12, params, hparams["n_head"], 4, progress=False)


def test_an_empty_prompt_is_refused(tiny):
    hparams, params = tiny
    with pytest.raises(ValueError, match="no tokens"):
        generate([], params, hparams["n_head"], 1)


def test_greedy_fills_the_context_and_ends(tiny):
    hparams, params = tiny
    assert len(list(greedy([1, 2, 3], params, hparams["n_head"]))) == 13
