"""The folder of a comparison: one file for every finished fit, so that an interrupted comparison can continue."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any, TypeAlias

from pyro_lfm.errors import DataError, DeclarationError
from pyro_lfm.identity import differences
from pyro_lfm.storage.files import read, write

# The stored numbers and tensors of one fit, by name.
Record: TypeAlias = dict[str, Any]


class Folder:
    """A folder with one file per candidate and seed.

    A file is written beside its place and then moved, so that an interruption leaves a whole file or none. It holds the
    identity of its arguments (see ``identity``), so that it is never read for other arguments.
    """

    def __init__(self, path: str | os.PathLike[str]):
        if not isinstance(path, str | os.PathLike):
            raise DeclarationError(f"folder must be a path; got {path!r}")
        self.path = Path(path)
        for part in (self.path, *self.path.parents):
            if part.exists() and not part.is_dir():
                raise DeclarationError(f"folder must name a folder, new or old; {part} is a file")

    def _stem(self, candidate: str, seed: int) -> str:
        # The digest separates names that differ only in punctuation.
        plain = re.sub(r"[^A-Za-z0-9]+", "-", candidate).strip("-").lower() or "candidate"
        return f"{plain[:40]}-{hashlib.sha256(candidate.encode()).hexdigest()[:6]}-seed-{seed}"

    def checkpoint(self, candidate: str, seed: int, identity: dict[str, str]) -> Path:
        """The path of the checkpoint of a fit with these arguments."""
        digest = hashlib.sha256(repr(sorted(identity.items())).encode()).hexdigest()[:12]
        return self.path / f"{self._stem(candidate, seed)}-{digest}.unfinished"

    def load(self, candidate: str, seed: int, identity: dict[str, str]) -> Record | None:
        """The record of a finished fit, or None.

        Raises:
            DeclarationError: a record of other arguments. DataError: the file cannot be read.
        """
        path = self.path / f"{self._stem(candidate, seed)}.pt"
        if not path.exists():
            return None
        record = read(path, "comparison", remedy := "remove it to fit this candidate again")
        if "identity" not in record:
            raise DataError(f"{path} cannot be read: it is no file of a comparison; {remedy}")
        stored = record["identity"]
        if differ := differences(stored, identity):
            name = differ[0]
            more = f", and {len(differ) - 1} more" * (len(differ) > 1)
            raise DeclarationError(
                f"folder {self.path} holds {candidate!r}, seed {seed}, of another comparison: {name} was "
                f"{stored.get(name, 'not there')}, now it is {identity.get(name, 'not there')}{more}. Name another "
                "folder, or remove this one; where initial weights differ, call torch.manual_seed before the model is "
                "declared"
            )
        return record

    def save(self, candidate: str, seed: int, record: Record) -> None:
        """Writes the record of a finished fit, and removes its checkpoint."""
        write(self.path / f"{self._stem(candidate, seed)}.pt", record, "comparison")
        self.checkpoint(candidate, seed, record["identity"]).unlink(missing_ok=True)
