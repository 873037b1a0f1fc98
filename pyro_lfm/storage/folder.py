"""``Folder``, files that change together or not at all, for checkpoints, saved fits and comparisons."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import TypeAlias

from pyro_lfm.errors import DataError, DeclarationError

# The content of a file, or a function that writes it to the path that it is given.
Content: TypeAlias = bytes | Callable[[Path], None]

# New files that are still being written: they count for nothing, and the next writer removes them.
_NEXT = ".next"
# New files that are whole: they come before those in place, until they have been moved there.
_READY = ".ready"


class Folder:
    """A folder of files that change together. A kill at any moment leaves all of them old or all of them new.

    ``commit`` writes new files beside the old ones and flushes them to the disk. One rename then makes them valid. Readers
    prefer files that have been made valid and not yet been moved to their places, and the next writer moves them first.

    Args:
        path: the folder, which need not be there yet.
        what: what kind of folder it is, for errors, such as "checkpoint".

    >>> import tempfile
    >>> folder = Folder(Path(tempfile.mkdtemp()) / "run", "checkpoint")
    >>> folder.commit({"weights": b"123", "digest": lambda path: path.write_text(digest(path.with_name("weights"))[:8])})
    >>> folder.read("weights"), folder.read("digest"), folder.has("history")
    (b'123', b'a665a459', False)
    """

    def __init__(self, path: str | os.PathLike[str], what: str):
        self.path, self.what = Path(path), what
        if "\0" in str(self.path):
            raise DeclarationError(f"{what} must be the path of a folder; got {str(self.path)!r}")

    def has(self, name: str) -> bool:
        """Whether there is a file of this name."""
        return os.path.exists(self.path_of(name))

    def path_of(self, name: str) -> Path:
        """The place of a file at this moment. A writer may move the file away from it, inside ``unchanged`` none does."""
        ready = self.path / _READY / _checked(name)
        return ready if os.path.exists(ready) else self.path / name

    def read(self, name: str, most: int | None = None) -> bytes:
        """The content of a file.

        Args:
            most: the largest number of bytes that it may have.

        Raises:
            DataError: there is no such file, or it cannot be read, or it is larger.
        """
        _checked(name)
        for place in (self.path / _READY / name, self.path / name):
            with suppress(FileNotFoundError, NotADirectoryError), opened(place, self.what) as file:
                size = os.fstat(file.fileno()).st_size
                if most is not None and size > most:
                    raise DataError(
                        f"{self.what} {self.path / name} cannot be read: it has {size} bytes, more than {most}"
                    )
                return file.read()
        raise DataError(f"{self.what} {self.path} has no file {name}")

    def digest(self, name: str) -> str | None:
        """The SHA-256 of a file, in hexadecimal digits; None where there is no such file.

        Raises:
            DataError: it cannot be read.
        """
        with suppress(FileNotFoundError, NotADirectoryError), opened(self.path_of(name), self.what) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
        return None

    def commit(self, files: Mapping[str, Content]) -> None:
        """Replaces files, all of them or none. Files of other names stay.

        Args:
            files: by plain name. They are written in this order. A function that writes one may read those before, which
                lie beside the path that it is given.

        Raises:
            DataError: a file cannot be written, and all of them are as before.
        """
        for name in files:
            _checked(name)
        new: list[Path] = []
        try:
            self._make(new)
            with self._locked(exclusive=True):
                self._finish()
                for name in files:
                    if (self.path / name).is_dir():
                        raise IsADirectoryError(0, f"{name} is a folder there")
                self._write(files)
                self._finish()
        except BaseException as error:
            for made in reversed(new):
                with suppress(OSError):  # it is not empty: the failure came after the files
                    made.rmdir()
            if isinstance(error, OSError):
                raise self._failed(error) from None
            raise

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """A context in which no ``commit`` changes the files, for reading several that belong together.

        A ``commit`` to the same folder inside it would wait for its end for ever.
        """
        if not self.path.is_dir():
            yield
            return
        with self._locked(exclusive=False):
            yield

    def _make(self, new: list[Path]) -> None:
        """Makes the folder, and adds to ``new`` the folders that were made, outermost first."""
        for part in reversed((self.path, *self.path.parents)):
            if part.is_dir():
                continue
            try:
                part.mkdir()
                new.append(part)
            except FileExistsError:
                if not part.is_dir():  # else another writer was faster
                    raise DataError(f"{self.what} {self.path} must be a folder; {part} is a file") from None
            _flush(part.parent)

    def _write(self, files: Mapping[str, Content]) -> None:
        """Writes the files, flushes them, and makes them valid by one rename."""
        beside = self.path / _NEXT
        if beside.exists():
            shutil.rmtree(beside)
        try:
            beside.mkdir()
            for name, content in files.items():
                _write(beside / name, content)
            _flush(beside)
            os.rename(beside, self.path / _READY)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise
        _flush(self.path)

    def _finish(self) -> None:
        """Moves valid files to their places."""
        ready = self.path / _READY
        if not ready.is_dir():
            return
        try:
            for name in os.listdir(ready):
                os.replace(ready / name, self.path / name)
            _flush(self.path)
            ready.rmdir()
        except OSError as error:
            raise DataError(
                f"{self.what} {self.path} is written, but the files in {ready} cannot be moved to their places: "
                f"{error.strerror}; they count as they are, and the next write moves them"
            ) from None

    @contextmanager
    def _locked(self, exclusive: bool) -> Iterator[None]:
        """Keeps other processes and threads that lock the folder out of it, where the system and the disk know locks."""
        try:
            import fcntl
        except ImportError:  # Windows
            yield
            return
        handle = os.open(self.path, os.O_RDONLY)
        try:
            with suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
            yield
        finally:
            os.close(handle)  # which unlocks it

    def _failed(self, error: OSError) -> DataError:
        why = error.strerror or "the disk may be full, or the folder closed to writing"
        return DataError(f"{self.what} cannot be written to {self.path}: {why}; what was there before stays")


@contextmanager
def opened(path: Path, what: str) -> Iterator[BufferedReader]:
    """A file that is open for reading.

    Raises:
        DataError: it is no plain file, or it cannot be read. FileNotFoundError, NotADirectoryError: it is not there.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for a writer
            raise DataError(f"{what} {path} cannot be read: it is no plain file")
        file = open(path, "rb")
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise _unreadable(path, what, error) from None
    with file:
        try:
            yield file
        except OSError as error:
            raise _unreadable(path, what, error) from None


def digest(path: Path) -> str:
    """The SHA-256 of a file that lies beside another that is being written, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unreadable(path: Path, what: str, error: OSError) -> DataError:
    return DataError(f"{what} {path} cannot be read: {error.strerror or type(error).__name__}")


def _checked(name: str) -> str:
    if not name or name.startswith(".") or any(mark in name for mark in "/\\\0:"):
        raise DeclarationError(f"a file of a folder must have a plain name; got {name!r}")
    return name


def _write(path: Path, content: Content) -> None:
    if callable(content):
        content(path)
    else:
        path.write_bytes(content)
    _flush(path)


def _flush(path: Path) -> None:
    """Has the content of a file, or the names in a folder, on the disk when it returns."""
    if os.name == "nt" and path.is_dir():  # Windows flushes no folders
        return
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
