"""Prompts that cost little and answers to hold the runner to."""

import os
from itertools import islice

import pytest
from pyarrow import fs

from reference import greedy
from tests.stores import ATTEMPTS, FaultyStore


@pytest.fixture(scope="session")
def oracle(demo):
    """Greedy ids of the slow loop, up to end-of-text."""

    def complete(ids, n):
        found = []
        for token in islice(greedy(ids, demo.params, demo.hparams["n_head"]), n):
            if token == demo.tokenizer.eos_id:
                break
            found.append(token)
        return found

    return complete


@pytest.fixture(scope="module")
def moto():
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    yield server.get_host_and_port()
    server.stop()


@pytest.fixture
def store(moto, monkeypatch):
    """A store with an empty bucket, behind a network that does what a test plans."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "PICOBATCH_TIMEOUT"))]:
        monkeypatch.delenv(name)
    with FaultyStore(*moto) as running:
        settings = {
            "AWS_ACCESS_KEY_ID": "known",
            "AWS_SECRET_ACCESS_KEY": "hidden",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://{running.endpoint}",
            "AWS_MAX_ATTEMPTS": str(ATTEMPTS),
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "PICOBATCH_TIMEOUT_S": "1",
        }
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        straight = fs.S3FileSystem(
            endpoint_override="{}:{}".format(*moto),
            scheme="http",
            region="us-east-1",
            allow_bucket_creation=True,
            allow_bucket_deletion=True,
        )
        straight.create_dir("data-bucket")
        running.straight = straight
        yield running
        straight.delete_dir("data-bucket")
