"""A connection to Ray: to a cluster that somebody runs, or to a Ray of our own on this machine."""

import contextlib
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from ..errors import ClusterError, SettingsError
from ..messages import cut
from ..settings import available_threads
from .signals import Exits, held

ADDRESS_VARIABLE = "RAY_ADDRESS"
TOKEN_VARIABLE, MODE_VARIABLE = "RAY_AUTH_TOKEN", "RAY_AUTH_MODE"
USAGE_VARIABLE = "RAY_USAGE_STATS_ENABLED"
# What we set for Ray, and what Ray sets for itself: the calling program gets it back as it was.
VARIABLES = (TOKEN_VARIABLE, MODE_VARIABLE, USAGE_VARIABLE, "PYTHONBREAKPOINT")
OWN = "local"  # what Ray calls an address that is nobody's yet
STORE_BYTES = 100 << 20  # of a Ray that we start: its objects are plans and counts
CONNECT_S = 5.0
TEMP_LENGTH = 30  # of a folder's name: sockets in it have names of at most 107 bytes


@contextmanager
def open_ray(address: str | None) -> Iterator[bool]:
    """A connection to Ray while the context lasts; whether it is to a Ray of our own.

    Where the calling program is connected already, that connection serves, and stays.

    Parameters
    ----------
    address : str or None
        Of a cluster, as Ray takes it; None means the one that RAY_ADDRESS names, or a fresh Ray on
        this machine.

    Raises
    ------
    SettingsError
        Where Ray is not installed.
    ClusterError
        Where no cluster answers, or one of another version.
    """
    if find_spec("ray") is None:
        raise SettingsError(
            "engine is 'ray'; Ray is not installed here. Expected it on this machine and on every "
            'node: run pip install "picobatch[ray]", or do without --engine ray.'
        )
    address = address or os.environ.get(ADDRESS_VARIABLE) or OWN
    import ray  # noqa: PLC0415 - an extra, and slow to import

    if ray.is_initialized():
        with _in_our_words(ray):
            yield False
        return
    with contextlib.ExitStack() as stack:
        # Ray prints what happens to workers and nodes on stdout, which is for data.
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        stack.enter_context(_environment(address))
        exits = Exits()
        try:
            with exits.connecting():
                _connect(ray, address, stack)
            with _in_our_words(ray):
                yield address == OWN
        except KeyboardInterrupt:
            if exits.wanted is not None:
                raise exits.wanted from None
            raise
        finally:
            exits.give_back()
            with held():
                ray.shutdown()


def _connect(ray: Any, address: str, stack: contextlib.ExitStack) -> None:
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == OWN:
        options |= {
            "num_cpus": available_threads(),
            "include_dashboard": False,
            "object_store_memory": STORE_BYTES,
        }
        if len(tempfile.gettempdir()) <= TEMP_LENGTH:  # otherwise it leaves /tmp/ray
            left = tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True)
            options["_temp_dir"] = stack.enter_context(left)
    try:
        if address != OWN:
            _see_that_it_answers(address)
        ray.init(address=address, **options)
    except Exception as e:  # noqa: BLE001 - some of Ray's are of no class of their own
        where = "Ray on this machine" if address == OWN else f"the cluster {address}"
        told = cut(" ".join(str(e).split()) or repr(e))
        raise ClusterError(
            f"{where}: {told}; expected a cluster that runs Ray {ray.__version__} and this Python, "
            f"and lets us in: where it asks for a token, set {MODE_VARIABLE}=token. Check "
            "--ray-address, or start one with `ray start --head`."
        ) from None


@contextmanager
def _in_our_words(ray: Any) -> Iterator[None]:
    """What Ray raises where it cannot go on at all, as an error of ours."""
    try:
        yield
    except ray.exceptions.RayError as e:
        told = cut(" ".join(str(e).split()) or repr(e))
        raise ClusterError(
            f"Ray: {told}; expected a cluster that answers until the job ends. Look after its "
            "head, and run the same command again: it goes on from what is done."
        ) from e


@contextmanager
def _environment(address: str) -> Iterator[None]:
    """Variables as Ray is to find them, and after it as they were before."""
    before = {name: os.environ.get(name) for name in VARIABLES}
    os.environ.setdefault(USAGE_VARIABLE, "0")
    if address == OWN:  # keeps others of this machine out, without a file that Ray would leave
        os.environ.setdefault(TOKEN_VARIABLE, secrets.token_hex(32))
    _forget_token()
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        _forget_token()


def _forget_token() -> None:
    """Let Ray look at the environment again: it keeps the token of its first connection."""
    with contextlib.suppress(ImportError, AttributeError):  # it does so in some versions only
        _raylet: Any = import_module("ray._raylet")
        _raylet.Config.initialize("")
        _raylet.AuthenticationTokenLoader.instance().reset_cache()


def _see_that_it_answers(address: str) -> None:
    """Find out soon what Ray finds out in minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
