"""Checks rows against the shapes and supports that the model declares, in one scan; every fit and query begins so."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.constraints import Constraint

from pyro_lfm.data.readers import Table
from pyro_lfm.data.scale import Moments
from pyro_lfm.data.schema import Columns
from pyro_lfm.errors import DataError, ShapeError

# The largest number of rows that are scanned at a time.
ROWS_AT_ONCE = 4096

# The condition that a support puts on an entry, and a remedy for data outside it.
_WORDS: dict[type, tuple[str, str]] = {
    type(constraints.boolean): ("be 0 or 1", "binarize it, as {name} > 0.5 does, or declare another family"),
    constraints.interval: (
        "lie between {lower_bound} and {upper_bound}",
        "rescale it (pixels 0..255: divide by 255), or declare another family",
    ),
    constraints.half_open_interval: ("lie in [{lower_bound}, {upper_bound})", "rescale it"),
    constraints.integer_interval: (
        "be integers {lower_bound}..{upper_bound}",
        "recode it, or declare the size that it needs",
    ),
    type(constraints.nonnegative_integer): (
        "be integers of at least {lower_bound}",
        "give counts, or declare a continuous family",
    ),
    constraints.greater_than: ("be greater than {lower_bound}", "transform it, or declare another family"),
    constraints.greater_than_eq: ("be at least {lower_bound}", "transform it, or declare another family"),
    constraints.less_than: ("be less than {upper_bound}", "transform it, or declare another family"),
    type(constraints.simplex): ("have rows >= 0 that sum to 1", "divide each row by its sum"),
    type(constraints.one_hot): ("have one-hot rows", "encode labels with torch.nn.functional.one_hot"),
}


def validate(
    table: Table,
    expected: Mapping[str, tuple[Sequence[int], Constraint]],
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    *,
    may_be_empty: bool = False,
    complete: bool = False,
) -> None:
    """Checks every row against the event shape and the support of its name.

    It sets ``table.event_shapes``, ``table.has_missing``, ``table.scales`` and ``table.likeness``. A column may have shape
    (N,) or (N, 1) if the event shape is () or (1,). NaN means missing. A missing entry is not checked. If the support is one
    of whole rows, such as a simplex, a row with a missing entry is not checked.

    Args:
        table: the rows.
        expected: {name: (event shape, support)}.
        dtype: the floating type that rows will be taken in.
        device: the device of the supports' bounds.
        may_be_empty: whether all entries may be missing.
        complete: whether no entry may be missing.

    Raises:
        ShapeError: rows of another shape.
        DataError: values that are infinite in ``dtype`` or outside the support, or missing entries where they may not be.

    >>> import pyro_lfm as lfm
    >>> table = lfm.data.read([[0.0, 1.0], [float("nan"), 1.0]], ["x"])
    >>> lfm.data.validate(table, {"x": ((2,), constraints.boolean)})
    >>> table.has_missing
    {'x': True}
    >>> lfm.data.validate(table, {"x": ((3,), constraints.boolean)})
    Traceback (most recent call last):
    pyro_lfm.errors.ShapeError: x must have shape (N, 3); got (2, 2)
    """
    event_shapes = {name: torch.Size(shape) for name, (shape, _) in expected.items()}
    for name, shape in event_shapes.items():
        _check_shape(name, len(table), table.shapes[name], shape)
    table.event_shapes.update(event_shapes)

    scans = {
        name: _Scan(name, constraint, torch.finfo(dtype).max, table.schema[name])
        for name, (_, constraint) in expected.items()
    }
    # Small enough blocks that images of any size are scanned in a few tens of megabytes.
    widest = max(math.prod(shape) for shape in event_shapes.values())
    for index in table.blocks(max(1, min(ROWS_AT_ONCE, 2**19 // widest))):
        rows = table.take(index, None, device)
        for name, scan in scans.items():
            scan.add(rows[name], int(index[0]), None if table.weights is None else table.weights[index])
    for scan in scans.values():
        scan.raise_faults(dtype)
    if complete and (gappy := [name for name, scan in scans.items() if scan.missing]):
        raise DataError(
            f"{gappy[0]} cannot have missing entries here; got NaN: fill them in, or leave {gappy[0]} out"
        )
    table.scales.update({name: scan.moments.scale for name, scan in scans.items()})
    table.likeness.update({name: scan.moments.likeness for name, scan in scans.items()})
    if not may_be_empty and not any(scan.observed for scan in scans.values()):
        raise DataError(f"{', '.join(scans)} must have an observed entry; every value is missing (NaN)")
    table.has_missing.update({name: scan.missing for name, scan in scans.items()})


@dataclass
class _Fault:
    """The number of wrong entries of one kind, and the first of them."""

    columns: Columns
    count: int = 0
    place: str = ""
    value: Any = None

    def add(self, bad: Tensor, rows: Tensor, start: int) -> None:
        """Counts True entries of ``bad``, of the shape of ``rows`` or its leading part (for whole vectors)."""
        count = int(bad.sum())
        if count and not self.count:
            row, *entry = torch.nonzero(bad)[0].tolist()
            self.value = _as_given(rows[(row, *entry)])
            self.place = f"row {start + row}"
            names = self.columns.names
            if len(entry) == 1 and (bad.shape[1] > 1 or names is not None):
                self.place += f", column {self.columns.place(entry[0])}"
            elif not entry and rows.dim() == 1 and names is not None:
                self.place += f", column {self.columns.place(0)}"
            elif len(entry) > 1:
                self.place += f", entry {tuple(entry)}"
        self.count += count

    def __str__(self) -> str:
        more = f" (and {self.count - 1} more)" if self.count > 1 else ""
        return f"{_number(self.value)} at {self.place}{more}"


class _Scan:
    """The faults and moments of one name in the blocks so far."""

    def __init__(self, name: str, constraint: Constraint, largest: float, columns: Columns):
        while isinstance(constraint, constraints.independent):
            constraint = constraint.base_constraint  # entry by entry: missing ones are excluded one by one
        self.name, self.constraint, self.largest = name, constraint, largest
        self.observed = self.missing = False
        self.infinite, self.outside = _Fault(columns), _Fault(columns)
        self.moments, self.covariate = Moments(), columns.covariate

    def add(self, given: Tensor, start: int, weights: Tensor | None = None) -> None:
        """Adds rows in their own type."""
        if self.moments.add(given, weights) and self._is_sound(given):
            self.observed = True
            return
        # float64, so that rounding moves no value across a bound and no row off the simplex.
        rows = given.double()
        nan = rows.isnan()
        self.missing |= bool(nan.any())
        self.observed |= not bool(nan.all())
        self.infinite.add(rows.abs() > self.largest, given, start)
        if constraints.is_dependent(self.constraint):
            return  # the support depends on the values of parents
        if self.constraint.event_dim == 0:
            self.outside.add(~self.constraint.check(rows) & ~nan, given, start)
        else:
            complete = ~nan.flatten(1).any(1)
            if complete.any():
                valid = self.constraint.check(rows[complete])
                bad = valid.new_zeros(len(rows), *valid.shape[1:])
                bad[complete] = ~valid
                self.outside.add(bad, given, start)

    def _is_sound(self, rows: Tensor) -> bool:
        """Whether no entry of rows that are finite is wrong. It takes a third of the time of finding those that are."""
        if self.moments.largest is None or bool((self.moments.largest > self.largest).any()):
            return False
        if constraints.is_dependent(self.constraint) or type(self.constraint) is type(constraints.real):
            return True
        return bool(self.constraint.check(rows.double()).all())

    def raise_faults(self, dtype: torch.dtype) -> None:
        if self.infinite.count:
            raise DataError(
                f"{self.name} must be finite in {str(dtype).removeprefix('torch.')}; got {self.infinite.count} infinite "
                f"or too large values, the first {_number(self.infinite.value)} at {self.infinite.place}: "
                f"{'fill them in' if self.covariate else 'write missing values as nan'}, or rescale it"
            )
        if self.outside.count:
            support = self.constraint
            while hasattr(support, "base_constraint"):  # a mixture's support is that of its components
                support = support.base_constraint
            # A constraint of the library may have its own words.
            condition, remedy = getattr(support, "words", None) or _WORDS.get(
                type(support), ("lie in the support", "declare a family that has such values")
            )
            bounds = {key: _number(value) for key, value in vars(support).items()}
            raise DataError(
                f"{self.name} must {condition.format(**bounds)} (support {type(support).__name__.strip('_')}); "
                f"got {self.outside}: {remedy.format(name=self.name)}"
            )


def _check_shape(name: str, length: int, shape: torch.Size, event_shape: torch.Size) -> None:
    column = {torch.Size(()), torch.Size((1,))}
    if shape == event_shape or {shape, event_shape} <= column:
        return
    size, width = math.prod(event_shape), math.prod(shape)
    wanted = ", ".join(map(str, event_shape))
    remedy = ""
    if not shape and event_shape == (length,):
        remedy = f": for one row alone, give {name}[None]"
    elif len(shape) == 1 and event_shape == (length,):
        remedy = f": it looks transposed, give {name}.T"
    elif width == size:
        remedy = (
            f": its rows have as many entries, reshape them, as {name}.reshape{(length, *event_shape)} does"
        )
    raise ShapeError(
        f"{name} must have shape (N,{' ' * bool(wanted)}{wanted}); got {(length, *shape)}{remedy}"
    )


def _as_given(value: Tensor) -> Any:
    """Numbers of Python; single precision in as few digits as distinguish them."""
    if value.dtype == torch.float32:
        return np.array(value.cpu().numpy().astype(str)).astype(float).tolist()
    return value.tolist()


def _number(value: Tensor | float | list[float]) -> str:
    """A bound or a value for messages, as short as possible without rounding."""
    if isinstance(value, Tensor):
        distinct = value.unique()
        if len(distinct) > 1:
            return "its bound"  # one for each column: too long to print
        value = distinct.item()
    if isinstance(value, list):
        return f"[{', '.join(map(_number, value[:4]))}{', ...' if len(value) > 4 else ''}]"
    return repr(value).removesuffix(".0")
