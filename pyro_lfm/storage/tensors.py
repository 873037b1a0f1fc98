"""Files of named tensors in the format of safetensors, whose every number is checked before it is used."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Mapping
from io import BufferedReader
from math import prod
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_lfm.errors import DataError, DeclarationError
from pyro_lfm.storage.folder import opened
from pyro_lfm.storage.texts import MOST_BYTES, Json, read_json

# The names that the format gives to types of numbers.
DTYPES = {
    "BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "U16": torch.uint16, "I16": torch.int16, "U32": torch.uint32,
    "I32": torch.int32, "U64": torch.uint64, "I64": torch.int64, "F16": torch.float16, "BF16": torch.bfloat16,
    "F32": torch.float32, "F64": torch.float64, "C64": torch.complex64, "F8_E4M3": torch.float8_e4m3fn,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz, "F8_E5M2": torch.float8_e5m2, "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
}  # fmt: skip
# An entry of the header that is no tensor.
_METADATA = "__metadata__"
_MOST_DIMENSIONS = 64


class _Entry(NamedTuple):
    """A tensor as the header describes it: its numbers stand from ``start`` to ``end``, in bytes after the header."""

    start: int
    end: int
    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes tensors to a file.

    Args:
        tensors: by name, of the types in ``DTYPES``, dense, on any device.

    Raises:
        OSError: the file cannot be written. DeclarationError: a name that the format keeps for itself.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    if _METADATA in tensors:
        raise DeclarationError(f"no tensor can have the name {_METADATA}: give it another")
    try:
        save_file(_separate(tensors), path)
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise OSError(0, str(error)) from None
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from None


def read_tensors(path: Path, what: str) -> dict[str, Tensor]:
    """The tensors of a file, on the CPU.

    Args:
        what: what kind of file it is, for errors, such as "checkpoint".

    Raises:
        DataError: there is no such file, or it is not exactly a file of this format.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "weights.safetensors"
    >>> write_tensors(path, {"weight": torch.eye(2)})
    >>> read_tensors(path, "fit")
    {'weight': tensor([[1., 0.],
            [0., 1.]])}
    """
    try:
        with opened(path, what) as file:
            return {
                entry.name: _read(file, entry, f"{what} {path}") for entry in _entries(file, f"{what} {path}")
            }
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{what} {path} cannot be read: there is no such file") from None


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors on the CPU, dense in memory, none a part of another's."""
    separate: dict[str, Tensor] = {}
    addresses: set[int] = set()
    for name, tensor in tensors.items():
        own = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
        storage = own.untyped_storage()
        if storage.data_ptr() in addresses or storage.nbytes() != own.numel() * own.element_size():
            own = own.clone()
        addresses.add(own.untyped_storage().data_ptr())
        separate[name] = own
    return separate


def _entries(file: BufferedReader, what: str) -> list[_Entry]:
    """The tensors of a file in their order, whose numbers fill it exactly. The file is left at the first of them."""
    size = os.fstat(file.fileno()).st_size
    if size < 8:
        raise _refused(what, f"its {size} bytes are fewer than the 8 of the length of a header")
    (length,) = struct.unpack("<Q", file.read(8))
    if length > min(size - 8, MOST_BYTES):
        raise _refused(
            what, f"its header would have {length} bytes, in a file of {size}: it is no safetensors file"
        )
    header = read_json(file.read(length), f"{what}: the header")
    if not isinstance(header, dict):
        raise _refused(what, "its header is no dict")
    _check_metadata(header.pop(_METADATA, {}), what)
    entries = sorted(_entry(name, value, what) for name, value in header.items())
    at = 0
    for entry in entries:
        if entry.start != at:
            raise _refused(
                what, f"{entry.name!r} begins at byte {entry.start}, and what stands before it ends at {at}"
            )
        at = entry.end
    if at != size - 8 - length:
        raise _refused(what, f"its tensors take {at} bytes, and {size - 8 - length} stand there")
    return entries


def _check_metadata(metadata: Json, what: str) -> None:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _refused(what, f"{_METADATA} of its header is no dict of strings")


def _entry(name: str, value: Json, what: str) -> _Entry:
    """The entry of a tensor, whose size fits its type and shape."""
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise _refused(what, f"{name!r} of its header must have dtype, shape and data_offsets, and no more")
    dtype = DTYPES.get(word) if isinstance(word := value["dtype"], str) else None
    if dtype is None:
        raise _refused(what, f"{name!r} has the type {str(word)[:40]!r}, which is not known")
    shape, offsets = _sizes(value["shape"]), _sizes(value["data_offsets"])
    if shape is None or len(shape) > _MOST_DIMENSIONS:
        raise _refused(what, f"the shape of {name!r} is no list of sizes")
    if offsets is None or len(offsets) != 2:
        raise _refused(what, f"data_offsets of {name!r} are not two positions")
    start, end = offsets
    bytes_of = prod(shape) * dtype.itemsize
    # torch computes with 64 bits also the sizes of tensors without entries.
    if end - start != bytes_of or prod(size or 1 for size in shape) >= 2**62:
        raise _refused(what, f"{name!r} takes {end - start} bytes, and its type and shape {bytes_of}")
    return _Entry(start, end, name, dtype, shape)


def _sizes(value: Json) -> tuple[int, ...] | None:
    """A list of sizes; None where it is none."""
    if not isinstance(value, list):
        return None
    sizes = tuple(size for size in value if type(size) is int and 0 <= size < 2**62)
    return sizes if len(sizes) == len(value) else None


def _read(file: BufferedReader, entry: _Entry, what: str) -> Tensor:
    """The tensor of the next entry."""
    raw = torch.empty(entry.end - entry.start, dtype=torch.uint8)
    if file.readinto(raw.numpy().data) != len(raw):
        raise _refused(what, "it ends before its last tensor")
    if entry.dtype == torch.bool and bool((raw > 1).any()):
        raise _refused(what, f"{entry.name!r} holds bytes that are neither true nor false")
    return raw.view(entry.dtype).reshape(entry.shape)


def _refused(what: str, why: str) -> DataError:
    return DataError(f"{what} cannot be read: {why}")
