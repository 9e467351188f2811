"""One cluster for all tests of it; `tests/conftest.py` gives them to one process."""

import concurrent.futures
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.cluster.haunted import Gate, Nodes, in_environment
from tests.cluster.jobs import N_ROWS, data_hash, here, rows_of, write_jsonl


@pytest.fixture(scope="session")
def moto():
    """An object store, as tests/runner has it; the nodes know it."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    yield {
        "AWS_ACCESS_KEY_ID": "known",
        "AWS_SECRET_ACCESS_KEY": "hidden",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": "http://{}:{}".format(*server.get_host_and_port()),
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    server.stop()


@pytest.fixture(scope="session")
def cluster(moto):
    folder = Path(tempfile.mkdtemp(prefix="r"))  # short: names of sockets have 107 bytes
    (folder / "ray").mkdir()
    with in_environment(folder):
        running = Nodes(folder, moto)
    yield running
    with in_environment(folder):
        running.close()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def connected(cluster):
    """The cluster, and this process connected to it: other tests want no Ray in it."""
    with in_environment(cluster.workplace):
        cluster.connect()
    yield cluster
    cluster.disconnect()


@pytest.fixture
def nodes(connected):
    """The cluster as it was at first."""
    with in_environment(connected.workplace):
        yield connected
        connected.rest()


@pytest.fixture
def begin(nodes):
    """Begins a job in a thread."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        yield pool.submit


@pytest.fixture
def gate(begin, tmp_path):
    built = Gate(tmp_path / "gate")
    yield built
    built.open()


@pytest.fixture
def job(tmp_path):
    """An input, an output, and the hash that it has to have."""
    source = write_jsonl(tmp_path / "in.jsonl", rows_of(N_ROWS))
    here(source, tmp_path / "one.jsonl")
    return source, tmp_path / "out.jsonl", data_hash(tmp_path / "one.jsonl")
