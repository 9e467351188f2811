"""Signals as a wish to stop."""

import signal

import pytest

from runner.cluster.signals import held
from runner.errors import InterruptedJobError
from runner.interrupts import Interrupts


@pytest.fixture(params=[signal.SIGINT, signal.SIGTERM])
def number(request):
    before = signal.getsignal(request.param)
    yield request.param
    signal.signal(request.param, before)


def test_a_first_signal_is_a_wish_and_a_second_one_acts(number):
    came = []
    signal.signal(number, lambda *_: came.append("acts"))
    with Interrupts() as interrupts:
        interrupts.check()
        signal.raise_signal(number)
        with pytest.raises(InterruptedJobError, match=number.name):
            interrupts.check()
        assert not came
        signal.raise_signal(number)
        assert came == ["acts"]
    assert interrupts.wanted == number


@pytest.mark.parametrize("where", [Interrupts, held])
def test_what_the_process_ignores_stays_ignored(where, number):
    """Ctrl-C is not for a job that a script began with `&`."""
    signal.signal(number, signal.SIG_IGN)
    with where() as interrupts:
        for _ in range(2):
            signal.raise_signal(number)
        assert signal.getsignal(number) == signal.SIG_IGN
    assert interrupts is None or interrupts.wanted is None
    assert signal.getsignal(number) == signal.SIG_IGN
