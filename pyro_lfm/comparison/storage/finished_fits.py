"""``FinishedFits``, the folder of a comparison: a sub-folder for every finished fit, so that the comparison can go on."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from pyro_lfm.errors import DataError, DeclarationError
from pyro_lfm.identity import differences
from pyro_lfm.inference.svi.history_columns import columns_of, records_of
from pyro_lfm.storage.folder import Content, Folder
from pyro_lfm.storage.states import State, read_state, state_files

# The stored numbers and tensors of one fit, by name.
Record: TypeAlias = dict[str, Any]

# The name of the files of a record.
_RECORD = "record"
_REMEDY = "remove it to fit this candidate again"
_FAILED: dict[str, Any] = {
    "identity": dict,
    "rows": dict,
    "values": dict,
    "notes": list,
    "history": list,
    "failed": (str, type(None)),
}
# The types of the values of a record, of a fit that did not fail.
_TYPES = {**_FAILED, "ends": list, "converged": (bool, type(None))}


class FinishedFits:
    """A folder with a sub-folder per candidate and seed, whose files change together.

    A record holds the identity of its arguments (see ``identity``), so that it is never read for other arguments.
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

    def _folder(self, candidate: str, seed: int) -> Folder:
        return Folder(self.path / self._stem(candidate, seed), "comparison")

    def checkpoint(self, candidate: str, seed: int, identity: dict[str, str]) -> Path:
        """The path of the checkpoint of a fit with these arguments."""
        digest = hashlib.sha256(repr(sorted(identity.items())).encode()).hexdigest()[:12]
        return self.path / f"{self._stem(candidate, seed)}-{digest}.unfinished"

    def load(self, candidate: str, seed: int, identity: dict[str, str]) -> Record | None:
        """The record of a finished fit, or None.

        Raises:
            DeclarationError: a record of other arguments. DataError: a file cannot be read.
        """
        folder = self._folder(candidate, seed)
        if not folder.has(f"{_RECORD}.json"):
            return None
        record = self._read(folder)
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
        self._forget_checkpoint(candidate, seed, identity)
        return record

    def _read(self, folder: Folder) -> Record:
        try:
            programs, record = read_state(folder, _RECORD)
            types = _FAILED if record.get("failed") is not None else _TYPES
            if wrong := [n for n, kind in types.items() if not isinstance(record.get(n), kind)]:
                raise DataError(
                    f"{folder.path} cannot be read: it is no record of a comparison ({', '.join(wrong)})"
                )
            return {**record, "history": records_of(record["history"]), "state": programs}
        except DataError as error:
            raise DataError(f"{error}; {_REMEDY}") from None
        except (KeyError, TypeError, ValueError, AttributeError):
            raise DataError(f"{folder.path} cannot be read: its history is damaged; {_REMEDY}") from None

    def save(
        self, candidate: str, seed: int, record: Record, further: Mapping[str, Content] | None = None
    ) -> None:
        """Writes the record of a finished fit, and removes its checkpoint.

        Args:
            further: more files, by name, that change with it.
        """
        values = {name: value for name, value in record.items() if name != "state"}
        values["history"] = columns_of(record["history"])
        files = state_files(_RECORD, State(record["state"], values), "comparison")
        self._folder(candidate, seed).commit({**files, **(further or {})})
        self._forget_checkpoint(candidate, seed, record["identity"])

    def _forget_checkpoint(self, candidate: str, seed: int, identity: dict[str, str]) -> None:
        shutil.rmtree(self.checkpoint(candidate, seed, identity), ignore_errors=True)
