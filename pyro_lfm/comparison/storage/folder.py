"""A comparison on disk: one file for every fit that is done, so that an interrupted comparison goes on."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any

from pyro_lfm.documents.identity import differences
from pyro_lfm.documents.storage import read, write
from pyro_lfm.errors import DataError, DeclarationError


class Folder:
    """A folder with one file per candidate and seed.

    A file is written beside its place and moved there, so that an interruption leaves it whole or not at all. It holds
    what it was made of (see ``identity``), and is never taken for the result of something else.
    """

    def __init__(self, path: str | os.PathLike[str]):
        if not isinstance(path, str | os.PathLike):
            raise DeclarationError(f"folder must be a path; got {path!r}")
        self.path = Path(path)
        for part in (self.path, *self.path.parents):
            if part.exists() and not part.is_dir():
                raise DeclarationError(f"folder must name a folder, new or old; {part} is a file")

    def _stem(self, candidate: str, seed: int) -> str:
        # Names that differ in signs alone have digests of their own.
        plain = re.sub(r"[^A-Za-z0-9]+", "-", candidate).strip("-").lower() or "candidate"
        return f"{plain[:40]}-{hashlib.sha256(candidate.encode()).hexdigest()[:6]}-seed-{seed}"

    def checkpoint(self, candidate: str, seed: int, identity: dict[str, str]) -> Path:
        """Where the fit keeps its state on the way, which belongs to these arguments alone."""
        digest = hashlib.sha256(repr(sorted(identity.items())).encode()).hexdigest()[:12]
        return self.path / f"{self._stem(candidate, seed)}-{digest}.unfinished"

    def load(self, candidate: str, seed: int, identity: dict[str, str]) -> dict[str, Any] | None:
        """What is known of a fit, or None where it is not done.

        Raises:
            DeclarationError: it was done with other arguments. DataError: the file cannot be read.
        """
        path = self.path / f"{self._stem(candidate, seed)}.pt"
        if not path.exists():
            return None
        found = read(path, "comparison", remedy := "remove it to fit this candidate again")
        if "identity" not in found:
            raise DataError(f"{path} cannot be read: it is no file of a comparison; {remedy}")
        kept = found["identity"]
        if differ := differences(kept, identity):
            name = differ[0]
            more = f", and {len(differ) - 1} more" * (len(differ) > 1)
            raise DeclarationError(
                f"folder {self.path} holds {candidate!r}, seed {seed}, of another comparison: {name} was "
                f"{kept.get(name, 'not there')}, now it is {identity.get(name, 'not there')}{more}. Name another folder, or "
                "remove this one; where initial weights differ, call torch.manual_seed before the model is declared"
            )
        return found

    def save(self, candidate: str, seed: int, record: dict[str, Any]) -> None:
        """Keeps a fit that is done; its checkpoint has served."""
        write(self.path / f"{self._stem(candidate, seed)}.pt", record, "comparison")
        self.checkpoint(candidate, seed, record["identity"]).unlink(missing_ok=True)
