"""What a connection to Ray leaves in the program that had it, and what is said where there is none.

Ray itself is made up here, but for what it remembers.
"""

import os
import signal
import sys
import threading
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import pytest

from runner.cluster import ray_session
from runner.cluster.ray_session import OWN, TOKEN_VARIABLE, VARIABLES, open_ray
from runner.cluster.signals import held
from runner.errors import ClusterError


class FakeRay(ModuleType):
    """Connects, or raises what it is given."""

    __version__ = "2.60.0"

    def __init__(self):
        super().__init__("ray")
        self.__spec__ = ModuleSpec("ray", None)
        self.error, self.found, self.n_shutdowns = None, {}, 0
        self.exceptions = SimpleNamespace(RayError=BlockingIOError)  # any class of its own

    def is_initialized(self):
        return False

    def init(self, **options):
        self.found = {name: os.environ.get(name) for name in VARIABLES}
        os.environ["RAY_AUTH_MODE"] = "token"
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if self.error is not None:
            raise self.error

    def shutdown(self):
        self.n_shutdowns += 1


@pytest.fixture
def fake(monkeypatch):
    for name in (*VARIABLES, "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    ray = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", ray)
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield ray
    signal.signal(signal.SIGTERM, before)


def test_the_program_gets_back_what_was_its_own(fake):
    before, handler = dict(os.environ), signal.getsignal(signal.SIGTERM)
    with open_ray(None) as is_ours:
        assert is_ours
        assert signal.getsignal(signal.SIGTERM) == handler
    assert fake.found[TOKEN_VARIABLE]
    assert fake.found["RAY_USAGE_STATS_ENABLED"] == "0"
    assert dict(os.environ) == before
    assert fake.n_shutdowns == 1


def test_what_is_set_already_stays(fake, monkeypatch):
    monkeypatch.setenv(TOKEN_VARIABLE, "theirs")
    with open_ray(None):
        pass
    assert fake.found[TOKEN_VARIABLE] == os.environ[TOKEN_VARIABLE] == "theirs"


@pytest.mark.parametrize("error", [Exception("no GCS"), KeyboardInterrupt(), SystemExit(143)])
def test_a_connection_that_fails_leaves_nothing(fake, error):
    before = dict(os.environ)
    fake.error = error
    kind = ClusterError if isinstance(error, Exception) else type(error)
    with pytest.raises(kind), open_ray(None):
        pass
    assert dict(os.environ) == before
    assert fake.n_shutdowns == 1


@pytest.mark.parametrize("address", ["127.0.0.1:99999", "127.0.0.1:1", "no such host:1"])
def test_an_address_at_which_nothing_answers_is_named(fake, address):
    with pytest.raises(ClusterError, match="--ray-address") as told, open_ray(address):
        pass
    assert str(told.value).startswith(f"the cluster {address}: ")


def test_each_ray_of_our_own_has_its_own_token(monkeypatch):
    """Ray keeps the token of a process's first connection: the next one would be refused."""
    _raylet = pytest.importorskip("ray._raylet")
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    loader = _raylet.AuthenticationTokenLoader.instance()
    tokens = []
    for _ in range(2):
        with ray_session._environment(OWN):
            tokens.append(loader.get_raw_token(ignore_auth_mode=True))
    assert len({*tokens}) == 2


def exits(number, _):
    sys.exit(128 + number)


@pytest.mark.parametrize("where", ["connected", "stopping"])
@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)]
)
def test_a_signal_ends_the_program_as_without_ray(fake, where, number, raised):
    """Through a call of Ray a SystemExit would not come as it is; a stop of Ray goes to its end."""
    signal.signal(signal.SIGTERM, exits)
    inside = []

    def work():
        if where == "connected":
            try:
                signal.raise_signal(number)
            except BaseException as e:
                inside.append(type(e))
                raise

    def stop():
        if where == "stopping":
            signal.raise_signal(number)
        fake.n_shutdowns += 1

    fake.shutdown = stop
    with pytest.raises(raised) as told, open_ray(None):
        work()
    assert inside == ([KeyboardInterrupt] if where == "connected" else [])
    assert raised is KeyboardInterrupt or told.value.code == 143
    assert fake.n_shutdowns == 1
    assert signal.getsignal(signal.SIGTERM) is exits


def test_a_signal_while_it_connects_ends_the_program_as_without_ray(fake):
    """Ray's own handler ends it with code 15."""
    signal.signal(signal.SIGTERM, exits)
    fake.error = SystemExit(15)
    with pytest.raises(SystemExit) as told, open_ray(None):
        pass
    assert told.value.code == 143
    assert fake.n_shutdowns == 1


def test_a_stop_that_hangs_can_be_ended():
    def insist():
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt), held():
        insist()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("is_connected", [False, True])
def test_what_ray_raises_in_the_end_is_an_error_of_ours(fake, is_connected):
    fake.is_initialized = lambda: is_connected
    with pytest.raises(ClusterError, match="Ray: the GCS is gone; expected"), open_ray(None):
        raise fake.exceptions.RayError("the GCS\nis gone")


def test_a_handler_that_does_not_exit_is_called_and_no_more(fake):
    came = []
    signal.signal(signal.SIGTERM, lambda number, _: came.append(number))
    with open_ray(None):
        signal.raise_signal(signal.SIGTERM)
    assert came == [signal.SIGTERM]


def test_from_a_thread_no_signal_is_touched(fake):
    fake.init = lambda **_: None
    handler, found = signal.getsignal(signal.SIGTERM), []

    def connect():
        with open_ray(None):
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=connect)
    thread.start()
    thread.join()
    assert found == [handler]
    assert fake.n_shutdowns == 1
