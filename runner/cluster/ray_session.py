"""A connection to Ray: to a cluster that somebody runs, or to a Ray of our own on this machine."""

import contextlib
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from ..errors import ClusterError, SettingsError
from ..messages import cut
from ..settings import available_threads

ADDRESS_VARIABLE = "RAY_ADDRESS"
TOKEN_VARIABLE, MODE_VARIABLE = "RAY_AUTH_TOKEN", "RAY_AUTH_MODE"
OWN = "local"  # what Ray calls an address that is nobody's yet
STORE_BYTES = 100 << 20  # of a Ray that we start: its objects are plans and counts
CONNECT_S = 5.0


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
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray  # noqa: PLC0415 - an extra, and slow to import

    if ray.is_initialized():
        yield False
        return
    with contextlib.ExitStack() as stack:
        # Ray prints what happens to workers and nodes on stdout, which is for data.
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        if address == OWN:
            stack.enter_context(_token_of_our_own())
        before = signal.getsignal(signal.SIGTERM)
        _connect(ray, address)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # Ray has its own way to end
        try:
            yield address == OWN
        finally:
            ray.shutdown()


def _connect(ray: Any, address: str) -> None:
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == OWN:
        options |= {
            "num_cpus": available_threads(),
            "include_dashboard": False,
            "object_store_memory": STORE_BYTES,
        }
    try:
        if address != OWN:
            _see_that_it_answers(address)
        ray.init(address=address, **options)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as e:
        ray.shutdown()
        where = "Ray on this machine" if address == OWN else f"the cluster {address}"
        told = cut(" ".join(str(e).split()) or repr(e))
        raise ClusterError(
            f"{where}: {told}; expected a cluster that runs Ray {ray.__version__} and this Python, "
            f"and lets us in: where it asks for a token, set {MODE_VARIABLE}=token. Check "
            "--ray-address, or start one with `ray start --head`."
        ) from None


@contextmanager
def _token_of_our_own() -> Iterator[None]:
    """Keep others of this machine from a Ray of ours, without a file that Ray would leave."""
    if TOKEN_VARIABLE in os.environ:
        yield
        return
    os.environ[TOKEN_VARIABLE] = secrets.token_hex(32)
    try:
        yield
    finally:
        del os.environ[TOKEN_VARIABLE]


def _see_that_it_answers(address: str) -> None:
    """Find out soon what Ray finds out in minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
