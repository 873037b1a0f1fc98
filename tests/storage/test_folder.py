"""Files that change together: a kill, an error or a full disk at any moment leaves all old or all new, and whole."""

import os
import threading

import pytest

import pyro_lfm as lfm
from pyro_lfm.storage.folder import Folder, digest

OLD = {"weights": b"old weights", "state": b"old state"}
NEW = {"weights": b"new weights", "state": lambda path: path.write_bytes(b"new state"), "more": b"new"}
# The calls that reach the disk.
CALLS = ("open", "mkdir", "rename", "replace", "rmdir", "unlink", "fsync", "listdir", "scandir")


class Killed(BaseException):
    """A kill: nothing after it is done."""


def state(folder):
    return {name: folder.read(name) for name in ("weights", "state", "more") if folder.has(name)}


def killed_at(count, monkeypatch):
    """Makes the call of this number raise, and every one after it, as no dead process calls anything."""
    left = [count]

    def dying(call):
        def instead(*args, **options):
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return call(*args, **options)

        return instead

    for name in CALLS:
        monkeypatch.setattr(os, name, dying(getattr(os, name)))
    monkeypatch.setattr("io.open", dying(open))


@pytest.mark.parametrize("old", [{}, OLD])
def test_a_kill_at_any_call_leaves_all_old_or_all_new(tmp_path, old):
    new = {name: b"new state" if callable(content) else content for name, content in NEW.items()}
    whole = {**old, **new}
    seen = set()
    for count in range(200):
        folder = Folder(tmp_path / str(count), "checkpoint")
        if old:
            folder.commit(old)
        with pytest.MonkeyPatch.context() as patch:
            killed_at(count, patch)
            try:
                folder.commit(NEW)
                finished = True
            except Killed:
                finished = False
        left = state(folder)
        assert left in (old, whole)
        seen.add(left == whole)
        # The next writer goes on from there.
        folder.commit({"last": b"1"})
        assert state(folder) == left and folder.read("last") == b"1"
        assert sorted(os.listdir(folder.path)) == sorted([*left, "last"])
        if finished:
            break
    assert finished and count > 20 and seen == {True, False}


@pytest.mark.parametrize("depth", [1, 3])
def test_a_first_commit_that_fails_leaves_no_folder(tmp_path, depth):
    def fail(path):
        raise OSError(28, "No space left on device")

    folder = Folder(tmp_path.joinpath(*"abc"[:depth]), "checkpoint")
    with pytest.raises(lfm.DataError, match="No space left on device; what was there before stays"):
        folder.commit({"weights": b"1", "state": fail})
    assert not list(tmp_path.iterdir())


def test_an_error_of_a_writer_comes_through_and_changes_nothing(tmp_path):
    def fail(path):
        raise lfm.DeclarationError("not plain")

    folder = Folder(tmp_path / "run", "checkpoint")
    folder.commit(OLD)
    with pytest.raises(lfm.DeclarationError, match="not plain"):
        folder.commit({"weights": b"1", "state": fail})
    assert state(folder) == OLD and sorted(os.listdir(folder.path)) == sorted(OLD)


def test_a_full_disk_loses_nothing(small_disk):
    folder = Folder(small_disk / "run", "checkpoint")
    folder.commit(OLD)
    before, full = state(folder), False
    for size in range(2**14, 2**18, 2**14):
        try:
            folder.commit({"weights": b"1" * size, "state": b"2" * size})
        except lfm.DataError as error:
            assert "No space left on device; what was there before stays" in str(error)
            full = True
            break
        before = state(folder)
    assert full and state(folder) == before and sorted(os.listdir(folder.path)) == sorted(OLD)
    folder.commit(OLD)
    assert state(folder) == OLD


def test_what_is_no_folder_is_refused_in_words(tmp_path):
    (tmp_path / "file").write_bytes(b"mine")
    for path in (tmp_path / "file", tmp_path / "file" / "run" / "deep"):
        with pytest.raises(lfm.DataError, match=r"checkpoint .* must be a folder; .*file is a file"):
            Folder(path, "checkpoint").commit(OLD)
        assert not Folder(path, "checkpoint").has("weights")
    assert (tmp_path / "file").read_bytes() == b"mine"
    (tmp_path / "run" / "state").mkdir(parents=True)
    with pytest.raises(lfm.DataError, match="state is a folder there"):
        Folder(tmp_path / "run", "checkpoint").commit(OLD)
    assert os.listdir(tmp_path / "run") == ["state"]
    with pytest.raises(lfm.DataError, match="cannot be written to .*: File name too long"):
        Folder(tmp_path / ("n" * 300), "checkpoint").commit(OLD)
    with pytest.raises(lfm.DeclarationError, match="must be the path of a folder"):
        Folder("a\0b", "checkpoint")


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "/etc/passwd", "..\\a", "C:a", "a\0b"])
def test_only_plain_names_are_taken(tmp_path, name):
    folder = Folder(tmp_path / "run", "fit")
    for use in (lambda: folder.commit({name: b""}), lambda: folder.read(name), lambda: folder.path_of(name)):
        with pytest.raises(lfm.DeclarationError, match="plain name"):
            use()
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_read_is_refused_in_words(tmp_path):
    folder = Folder(tmp_path, "fit")
    with pytest.raises(lfm.DataError, match="fit .* has no file weights"):
        folder.read("weights")
    os.mkfifo(tmp_path / "weights")
    (tmp_path / "state").mkdir()
    for name in ("weights", "state"):
        with pytest.raises(lfm.DataError, match="no plain file"):
            folder.read(name)
    folder.commit({"more": b"12345"})
    with pytest.raises(lfm.DataError, match="has 5 bytes, more than 4"):
        folder.read("more", most=4)
    assert folder.read("more", most=5) == b"12345"
    assert digest(folder.path_of("more")).startswith("5994471abb01112a")


def test_readers_beside_a_writer_see_whole_states(tmp_path):
    folder = Folder(tmp_path / "run", "fit")
    folder.commit({"one": b"0", "two": b"0"})
    done = threading.Event()

    def write():
        for k in range(1, 60):
            folder.commit({"one": b"%d" % k, "two": b"%d" % k})
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    last = 0
    while not done.is_set():
        int(folder.read("one"))
        with folder.unchanged():
            one, two = int(folder.read("one")), int(folder.read("two"))
        assert one == two >= last
        last = one
    writer.join()
    assert folder.read("one") == b"59"


def test_writers_take_turns(tmp_path):
    folder = Folder(tmp_path / "run", "fit")
    done = []

    def write(mark):
        for _ in range(20):
            folder.commit({"one": mark, "two": mark})
        done.append(mark)

    writers = [threading.Thread(target=write, args=(b"%d" % k,)) for k in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(done) == 3 and folder.read("one") == folder.read("two")
