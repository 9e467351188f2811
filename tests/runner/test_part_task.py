"""What a node lacks, and what is our own bug: told apart."""

from types import SimpleNamespace

import pytest

from runner.cluster import part_task
from runner.errors import NodeError
from runner.folder_access import open_folder
from runner.places import place_of

KEY = {"input": [{}]}


@pytest.fixture
def output(tmp_path):
    return place_of(str(tmp_path / "out.jsonl"))


def seen(output, name):
    return part_task._folder(SimpleNamespace(output=output, name=name))


def test_a_node_that_does_not_see_the_folder_says_so(output):
    with open_folder(output, ".jsonl") as owner:
        owner.begin(KEY, 3, overwrite=False)
        with seen(output, owner.name) as folder:
            assert folder.name == owner.name
        with pytest.raises(
            NodeError, match="does not see the output: .* is of another job; expected"
        ):
            seen(output, "0" * 64).__enter__()
    with pytest.raises(NodeError, match="does not see the output: .*parts is not there; expected"):
        seen(output, "0" * 64).__enter__()


def test_a_node_that_cannot_read_the_folder_says_so(output, tmp_path):
    (tmp_path / "out.jsonl.parts").write_text("a file")
    with pytest.raises(
        NodeError, match=r"cannot read .*out\.jsonl\.parts: .*; expected the folder"
    ):
        seen(output, "0" * 64).__enter__()


def test_an_error_of_ours_in_a_part_is_not_blamed_on_the_node(output):
    with open_folder(output, ".jsonl") as owner:
        owner.begin(KEY, 3, overwrite=False)
        with pytest.raises(ValueError, match="a bug"), seen(output, owner.name):
            raise ValueError("a bug")
