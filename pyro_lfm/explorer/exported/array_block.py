"""The arrays of an exported page: one compressed block of bytes, and references to what stands in it."""

from __future__ import annotations

import base64
import gzip
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
# {type, shape, at or values}, and for quantised numbers {low, step}; ``lfm.arrays`` reads it.
Reference: TypeAlias = dict[str, object]

# Shorter arrays stand in the reference itself.
_SHORT = 8
# Arrays start at multiples of this many bytes, as the typed arrays of JavaScript must.
_ALIGNED = 8

# Values that tell whether there are few different ones.
_SEEN = 100_000
# The largest code of 16 bits of a number; the one after it stands for a missing one.
_MISSING = 65534

_TYPES = {"f4": "float32", "f8": "float64", "b1": "bool", "u1": "uint8", "u2": "uint16", "u4": "uint32"}


class ArrayBlock:
    """Arrays one after the other.

    >>> block = ArrayBlock()
    >>> block.add(np.zeros((3, 4), np.float32)), block.add(np.array([1, 2]))
    ({'type': 'float32', 'shape': [3, 4], 'at': 0}, {'type': 'int', 'shape': [2], 'values': [1.0, 2.0]})
    >>> block.size
    48
    """

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.size = 0

    def add(self, array: Array) -> Reference:
        """The reference to an array. Whole numbers of a sign become float64, exact below 2^53."""
        kind = f"{array.dtype.kind}{array.dtype.itemsize}"
        if kind == "f2":
            array, kind = array.astype(np.float32), "f4"
        whole = kind not in _TYPES
        data = array.astype(np.float64) if whole else array
        reference: Reference = {"type": "int" if whole else _TYPES[kind], "shape": list(array.shape)}
        if data.size <= _SHORT:
            # JSON has no word for these; JavaScript's Number reads the texts.
            texts = {np.inf: "Infinity", -np.inf: "-Infinity"}
            flat = [float(v) for v in data.reshape(-1)]
            reference["values"] = [texts.get(v, "NaN" if v != v else v) for v in flat]
            return reference
        content = np.ascontiguousarray(data, data.dtype.newbyteorder("<")).tobytes()
        reference["at"] = self.size
        self._parts.append(content + bytes(-len(content) % _ALIGNED))
        self.size += len(self._parts[-1])
        return reference

    def add_text(self, text: str) -> Reference:
        """The reference to a text, in UTF-8."""
        content = np.frombuffer(text.encode(), np.uint8)
        padded = np.concatenate([content, np.full(max(0, _SHORT + 1 - len(content)), ord(" "), np.uint8)])
        return self.add(padded)

    def add_columns(self, columns: Array) -> Reference:
        """Numbers (N, K) as codes of 16 bits between the least and the largest of each column; NaN is kept.

        The error is at most half of a 65,534th of the column's range.
        """
        values = np.asarray(columns, np.float64)
        missing = ~np.isfinite(values)
        low = np.where(missing, np.inf, values).min(0, initial=np.inf)
        high = np.where(missing, -np.inf, values).max(0, initial=-np.inf)
        low, high = np.where(np.isfinite(low), low, 0.0), np.where(np.isfinite(high), high, 0.0)
        step = np.where(high > low, (high - low) / _MISSING, 1.0)
        codes = np.where(missing, _MISSING + 1, ((np.where(missing, low, values) - low) / step).round())
        scale = {"low": low.tolist(), "step": step.tolist(), "missing": _MISSING + 1}
        return {**self.add(codes.astype(np.uint16)), **scale}

    def add_pixels(self, values: Array, low: float, high: float) -> Reference:
        """Numbers between two ends as codes of 8 bits, NaN kept: exact where there are at most 255 different ones.

        >>> ArrayBlock().add_pixels(np.array([0.0, 0.5, 8.0]), 0.0, 16.0)["levels"]
        [0.0, 0.5, 8.0]
        """
        missing = np.isnan(values)
        levels = _levels(values[~missing])
        if levels is not None:
            codes = np.where(missing, 255, np.searchsorted(levels, values)).astype(np.uint8)
            return {**self.add(codes), "levels": levels.tolist(), "missing": 255}
        step = (high - low) / 254
        places = ((np.where(missing, low, values) - low) / step).round().clip(0, 254)
        scale = {"low": [low], "step": [step], "missing": 255}
        return {**self.add(np.where(missing, 255, places).astype(np.uint8)), **scale}

    def compressed(self) -> bytes:
        """The block in the format of gzip, which browsers read; the same bytes at every call."""
        return gzip.compress(b"".join(self._parts), compresslevel=6, mtime=0)

    def packed(self) -> str:
        """The same in base64."""
        return base64.b64encode(self.compressed()).decode()


def _levels(values: Array) -> Array | None:
    """The different values, if there are at most 255."""
    few = np.unique(values[:: max(1, len(values) // _SEEN)])
    if len(few) > 255:
        return None
    levels = np.unique(values)
    return levels if len(levels) <= 255 else None
