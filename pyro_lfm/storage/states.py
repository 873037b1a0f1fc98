"""A nested state and the weights of programs as files of a folder, each with its SHA-256, for fits and comparisons."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyro_lfm.errors import DataError
from pyro_lfm.storage.folder import Content, Folder, digest
from pyro_lfm.storage.tensors import DTYPES, read_tensors, write_tensors
from pyro_lfm.storage.texts import MOST_BYTES, Json, read_json, write_json
from pyro_lfm.storage.trees import Tree, tree_of, value_of

# The version of the format.
_FORMAT = 1


class State(NamedTuple):
    """What a folder holds: the state dicts of programs by kind, such as "model" and "guide", and nested plain values."""

    programs: dict[str, dict[str, Any]]
    values: dict[str, Any]


def state_files(name: str, state: State, where: str) -> dict[str, Content]:
    """The files of a state, for ``Folder.commit``: ``name`` with .safetensors and .json.

    Args:
        where: the name of the state, for errors.

    Raises:
        DeclarationError: a value that no file can hold.
    """
    weights: dict[str, Tensor] = {}
    further: dict[str, dict[str, Any]] = {kind: {} for kind in state.programs}
    for kind, entries in state.programs.items():
        for key, value in entries.items():
            if _is_weight(value):
                weights[f"{kind}.{key}"] = value
            else:
                further[kind][key] = value
    values, programs = tree_of(state.values, where), tree_of(further, f"{where}: the state dict")
    tensors = {f"weights.{n}": t for n, t in weights.items()}
    tensors |= {f"values.{n}": t for n, t in values.tensors.items()}
    tensors |= {f"programs.{n}": t for n, t in programs.tensors.items()}
    outline: Json = {"values": values.outline, "programs": programs.outline}

    def write_outline(path: Path) -> None:
        digests: dict[str, Json] = {_tensor_file(name): digest(path.with_name(_tensor_file(name)))}
        head: dict[str, Json] = {"format": _FORMAT, "sha256": {**digests, "state": _digest(outline, where)}}
        path.write_bytes(write_json({**head, "state": outline}, where))

    return {
        _tensor_file(name): lambda path: write_tensors(path, tensors),
        f"{name}.json": write_outline,
    }


def read_outline(folder: Folder, name: str) -> dict[str, Json]:
    """The JSON of a state, checked: format, digest and state.

    Raises:
        DataError: it is none, or not as it was written.
    """
    what = f"{folder.what} {folder.path / name}.json"
    head = read_json(folder.read(f"{name}.json", MOST_BYTES), what)
    if not isinstance(head, dict) or "format" not in head:
        raise DataError(f"{what} cannot be read: it is no file of this library")
    if head["format"] != _FORMAT:
        raise DataError(
            f"{what} cannot be read: it has the format {str(head['format'])[:20]!r}, and this version of the library reads "
            f"{_FORMAT}"
        )
    outline, digests = head.get("state"), head.get("sha256")
    if (
        not isinstance(outline, dict)
        or outline.keys() != {"values", "programs"}
        or not isinstance(digests, dict)
    ):
        raise DataError(f"{what} cannot be read: it must have sha256 and state")
    if digests.get("state") != _digest(outline, what):
        raise DataError(f"{what} cannot be read: it is not as it was written (its SHA-256 differs)")
    return head


def read_state(folder: Folder, name: str) -> State:
    """The state that ``state_files`` wrote.

    Raises:
        DataError: a file is missing, of another form, or not as it was written.
    """
    with folder.unchanged():
        head: Any = read_outline(folder, name)
        file = _tensor_file(name)
        if folder.digest(file) != head["sha256"].get(file):
            raise DataError(
                f"{folder.what} {folder.path} cannot be read: {file} is not the file that {name}.json was written with "
                "(its SHA-256 differs)"
            )
        tensors = read_tensors(folder.path_of(file), folder.what)
    weights = _within("weights", tensors)
    what = f"{folder.what} {folder.path / name}.json"
    values, programs = (
        value_of(Tree(head["state"][part], _within(part, tensors)), what) for part in ("values", "programs")
    )
    if not isinstance(values, dict) or not isinstance(programs, dict):
        raise DataError(f"{what} cannot be read: its values must be a dict")
    for kind, entries in programs.items():
        if not isinstance(entries, dict):
            raise DataError(f"{what} cannot be read: the state dict of {kind} must be a dict")
        entries |= _within(kind, weights)
    return State(programs, values)


def _tensor_file(name: str) -> str:
    return f"{name}.safetensors"


def _within(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix, without it."""
    return {n.removeprefix(f"{prefix}."): t for n, t in tensors.items() if n.startswith(f"{prefix}.")}


def _is_weight(value: object) -> bool:
    """Whether a value is a tensor that the file of weights can hold."""
    return isinstance(value, Tensor) and value.layout == torch.strided and value.dtype in DTYPES.values()


def _digest(outline: Json, what: str) -> str:
    return hashlib.sha256(write_json(outline, what)).hexdigest()
