"""A job's folder that several processes put parts in: one of them owns it."""

import itertools
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from runner import job_folder
from runner.folder_access import open_folder, part_folder
from runner.job_folder import JobFolder, file_hash
from runner.parts import PartRecord, Plan
from runner.places import Place, place_of
from runner.sealed import seal, unseal
from tests.stores import BUCKET, fill

KEY = {"input": [{"sha256": "0", "name": "in.jsonl"}], "settings": {"max_new_tokens": 4}}
ROWS, PART_ROWS = 6, 3
PLAN = Plan(range(ROWS), PART_ROWS)
ORDERS = sorted({"".join(order) for order in itertools.permutations("AABB")})


@pytest.fixture(params=["here", "store"])
def output(request, tmp_path):
    """Where the output of a job will be."""
    if request.param == "here":
        return place_of(str(tmp_path / "out.jsonl"))
    request.getfixturevalue("store")
    return place_of(f"s3://{BUCKET}/out.jsonl")


def begun(output, key=KEY, part_rows=PART_ROWS):
    """The folder of a job, as the process has it that owns it."""
    stack = ExitStack()
    folder = stack.enter_context(open_folder(output, ".jsonl"))
    folder.begin(key, part_rows, overwrite=False)
    return stack, folder


def content(word, part):
    return b"".join(b'{"row": %d, "completion": "%s"}\n' % (n, word) for n in part.rows)


def commit(folder, part, word):
    """Do a part; returns its record."""
    record = PartRecord(rows=len(part.rows), processor=word.decode())
    folder.staged_part(part).write_bytes(content(word, part))
    folder.commit(part, record)
    return record


def take_turns(monkeypatch, order, folders):
    """Let files get their names in an order, each by the folder whose turn it is."""
    put, turn, left = Place.put, threading.Condition(), list(order)
    names = {folder.stage("").name: name for name, folder in folders.items()}

    def in_turn(place, staged):
        mine = next(name for begin, name in names.items() if staged.name.startswith(begin))
        with turn:
            assert turn.wait_for(lambda: left[0] == mine, 60)
            put(place, staged)
            left.pop(0)
            turn.notify_all()

    monkeypatch.setattr(Place, "put", in_turn)
    return left


def files_of(folder, part):
    return [n for n in folder.place.names() if n.startswith(f"part-{part.number:05}-")]


@pytest.mark.parametrize("order", ORDERS)
def test_a_part_that_two_do_at_once_is_one_of_both(output, monkeypatch, order):
    """Each file and each record gets its place whole, whoever comes first or last."""
    part = PLAN.parts[1]
    stack, owner = begun(output)
    with stack:
        commit(owner, PLAN.parts[0], b"first")
        other = stack.enter_context(part_folder(output, ".jsonl", owner.name))
        records = {}

        def work(name, folder, word):
            records[name] = commit(folder, part, word)

        with monkeypatch.context() as patch:
            left = take_turns(patch, order, {"A": owner, "B": other})
            threads = [
                threading.Thread(target=work, args=("A", owner, b"ours")),
                threading.Thread(target=work, args=("B", other, b"theirs")),
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
        assert not left
        words = {"A": b"ours", "B": b"theirs"}
        for name, record in records.items():  # whichever is counted, its rows are joined
            assert owner.part_place(part, record).read_bytes() == content(words[name], part)
            owner.verify(part, record)
        told = unseal((owner.place / "part-00001.json").read_bytes(sealed=True))["record"]
        assert PartRecord.from_dict(told) == records[order[-1]]
        assert len(files_of(owner, part)) == 2
    stack, owner = begun(output)
    with stack:
        found = owner.records(PLAN.parts)
        assert found[1] == records[order[-1]]
        assert owner.part_place(part, found[1]).read_bytes() == content(words[order[-1]], part)
        assert [len(files_of(owner, part)) for part in PLAN.parts] == [1, 1], "not swept"


def test_two_that_write_the_same_write_one_file(output):
    stack, owner = begun(output)
    with stack, part_folder(output, ".jsonl", owner.name) as other:
        part = PLAN.parts[0]
        assert commit(owner, part, b"same") == commit(other, part, b"same")
        assert len(files_of(owner, part)) == 1
        assert list(owner.records(PLAN.parts)) == [0]


def test_a_part_whose_record_never_came_is_swept(output):
    """Also one of a job in larger parts, and what was called as parts once were."""
    stack, owner = begun(output)
    with stack:
        commit(owner, PLAN.parts[0], b"one")
        for n, name in enumerate(("part-00001-0123456789abcdef.jsonl", "part-00001.jsonl")):
            staged = owner.stage(f"{n}.jsonl")
            staged.write_bytes(content(b"half", PLAN.parts[1]))
            (owner.place / name).put(staged)
        staged = owner.stage("other.jsonl")
        staged.write_bytes(b"{}")
        (owner.place / "part-00007.json").put(staged)
        before = owner.place.names()
    stack, owner = begun(output)
    with stack:
        assert owner.place.names() == before or not output.is_local  # nothing yet
        assert list(owner.records(PLAN.parts)) == [0]
        left = [name for name in owner.place.names() if name.startswith("part-")]
        assert left == [*files_of(owner, PLAN.parts[0]), "part-00000.json"]


def test_a_folder_that_is_called_like_a_part_is_left(output, request):
    stack, owner = begun(output)
    with stack:
        commit(owner, PLAN.parts[0], b"one")
    name = "part-00001-0123456789abcdef.jsonl"
    if output.is_local:
        inner = Path(f"{output.path}.parts", name, "theirs")
        inner.parent.mkdir()
        inner.write_bytes(b"theirs")
    else:
        fill(request.getfixturevalue("store"), **{f"out.jsonl.parts/{name}/theirs": b"theirs"})
    stack, owner = begun(output)
    with stack:
        assert list(owner.records(PLAN.parts)) == [0]
        assert (owner.place / name / "theirs").read_bytes() == b"theirs"


def test_parts_are_refused_where_no_job_is(output):
    with pytest.raises(ValueError, match="is not there"), part_folder(output, ".jsonl", "0" * 64):
        pytest.fail("a folder of nobody")
    assert not output.beside(".parts").exists(), "asking made one"


@pytest.mark.parametrize("begun_with", [(KEY | {"rows": [0, 5]}, PART_ROWS), (KEY, PART_ROWS + 1)])
def test_parts_of_another_job_are_refused(output, begun_with):
    """Where the settings are others, and where only the parts are of another size."""
    stack, owner = begun(output)
    with stack:
        name = owner.name
    stack, owner = begun(output, *begun_with)
    with stack:
        assert owner.name != name
        with pytest.raises(ValueError, match="of another job"):
            part_folder(output, ".jsonl", name).__enter__()
        with part_folder(output, ".jsonl", owner.name):
            pass


def test_parts_are_refused_where_the_job_is_damaged(output):
    stack, owner = begun(output)
    with stack:
        for damaged in (b"{}", seal({"key": {}}), b""):
            staged = owner.stage("job.json")
            staged.write_bytes(damaged)
            (owner.place / "job.json").put(staged)
            with pytest.raises(ValueError, match="not what was written|another record|Expecting"):
                part_folder(output, ".jsonl", owner.name).__enter__()


def test_a_job_that_is_about_to_be_finished_is_still_the_same(output):
    stack, owner = begun(output)
    with stack:
        owner.announce(3, "0" * 64)
        with part_folder(output, ".jsonl", owner.name) as other:
            assert other.name == owner.name


@pytest.mark.parametrize("sha256", ["/../../outside", "..", "", "A" * 64, "a" * 63, "a" * 65])
def test_a_record_s_hash_leads_nowhere_else(tmp_path, monkeypatch, capsys, sha256):
    """The file of a part is called after its record, which somebody else may have written."""
    output = place_of(str(tmp_path / "out.jsonl"))
    (tmp_path / "outside.jsonl").write_bytes(b"theirs")
    stack, owner = begun(output)
    with stack:
        commit(owner, PLAN.parts[0], b"one")
        (tmp_path / "out.jsonl.parts" / "part-00000-").mkdir()
        path = tmp_path / "out.jsonl.parts" / "part-00000.json"
        found = unseal(path.read_bytes())
        found["record"]["sha256"] = sha256
        path.write_bytes(seal(found))
        opened = []
        monkeypatch.setattr(
            job_folder, "file_hash", lambda place: opened.append(place) or file_hash(place)
        )
        assert owner.records(PLAN.parts) == {}
    assert "part 0 is damaged; its rows are done again" in capsys.readouterr().err
    assert opened == []
    assert (tmp_path / "outside.jsonl").read_bytes() == b"theirs"


def test_what_two_write_at_once_has_two_names(output):
    folders = [JobFolder(output, Path("staging"), ".jsonl") for _ in range(50)]
    assert len({folder.staged_part(PLAN.parts[0]) for folder in folders}) == 50
