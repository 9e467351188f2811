"""What has arrived of a file, whenever it breaks off."""

import pytest

from reference.part import Part, strong


def test_an_etag_is_forgotten_with_its_file(tmp_path):
    part = Part(tmp_path / "file")
    with part.writing(0, '"one"', certain=True) as stream:
        stream.write(b"first")
    assert (part.n_bytes, part.etag) == (5, '"one"')
    with part.writing(0, None, certain=True) as stream:
        stream.write(b"second")
    assert (part.path.read_bytes(), part.etag) == (b"second", None)


@pytest.mark.parametrize("n_bytes", [0, 3, 7])
def test_what_begins_anew_takes_the_place_of_the_shorter_one(tmp_path, n_bytes):
    """Whenever it breaks off, the part and its ETag are of one file, and the longer one is kept."""
    part = Part(tmp_path / "file")
    with part.writing(0, '"one"', certain=True) as stream:
        stream.write(b"first")

    def interrupted():
        with part.writing(0, '"two"', certain=True) as stream:
            stream.write(b"another"[:n_bytes])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    kept = (b"another", '"two"') if n_bytes == 7 else (b"first", '"one"')
    assert (part.path.read_bytes(), part.etag) == kept
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file.part", "file.part.etag"]


def test_a_file_that_cannot_be_opened_is_said_to_be_that(tmp_path):
    part = Part(tmp_path / "file")
    with part.writing(0, None, certain=True) as stream:
        stream.write(b"first")
    (tmp_path / "file.part.again").mkdir()
    with pytest.raises(IsADirectoryError), part.writing(0, None, certain=True):
        pass
    assert part.path.read_bytes() == b"first"


def test_what_is_not_known_to_be_the_file_is_not_kept(tmp_path):
    part = Part(tmp_path / "file")

    def interrupted():
        with part.writing(0, None, certain=False) as stream:
            stream.write(b"<html>")
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        interrupted()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("etag", ['W/"a"', "a", '"a', '"a b"', '"a\n"', "", None])
def test_etags_that_promise_nothing(etag):
    assert strong(etag) is None
    assert strong('"a"') == '"a"'
