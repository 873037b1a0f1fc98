"""``lfm.heterogeneous``: a DataFrame as observed factors of a model, its rows as their data, and back."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from pyro_lfm.data.readers import NamedRows
from pyro_lfm.errors import DataError, DeclarationError
from pyro_lfm.factors import Factor
from pyro_lfm.shapes import number
from pyro_lfm.sources.linear import Linear
from pyro_lfm.sources.parameter_priors import Normal
from pyro_lfm.sources.source import SourceLike
from pyro_lfm.tables.column_groups import factor_of
from pyro_lfm.tables.columns import Column
from pyro_lfm.tables.factor_names import factor_name
from pyro_lfm.tables.kinds import KINDS, of_kind, own_factor, recognise
from pyro_lfm.tables.other_columns import OtherColumns
from pyro_lfm.tables.table_columns import TableColumns, rows_of, table_of

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl


@dataclass(frozen=True, eq=False, repr=False)
class Heterogeneous(Mapping[str, Factor]):
    """The factors, data and columns that ``heterogeneous`` makes of a frame, and the conversion of rows.

    It is a mapping of its factors, so that ``Model(z=StandardNormal(4), **table)`` declares them.

    Attributes:
        factors: {name: factor}.
        data: {name: rows (N, D), or labels (N,)}, the input of ``lfm.fit``, with NaN for missing entries. The frame is kept
            with it, so that ``decode`` can return its cells bit for bit.
        columns: the columns with their kinds and the reasons, in the order of the frame.
        groups: {name of a factor: names of its columns}, in the order of its entries.
        example: {column: another kind that it could have}, for ``kinds=``.

    >>> import pandas as pd, pyro_lfm as lfm
    >>> frame = pd.DataFrame({"cm": [161.5, 172.1, None, 180.3] * 9, "sex": ["f", "m", "f", None] * 9})
    >>> table = lfm.heterogeneous(frame)
    >>> model = lfm.Model(z=lfm.StandardNormal(1), **table)
    >>> table.groups, table.data["cm"].shape, model.observed["sex"].support
    ({'cm': ('cm',), 'sex': ('sex',)}, torch.Size([36, 1]), IndependentConstraint(Boolean(), 1))
    >>> table.decode(table.data).equals(frame)
    True
    """

    factors: Mapping[str, Factor]
    data: NamedRows
    converter: TableColumns
    example: Mapping[Hashable, str]

    @property
    def columns(self) -> tuple[Column, ...]:
        return self.converter.columns

    @property
    def groups(self) -> Mapping[str, tuple[Hashable, ...]]:
        return self.converter.groups

    def __getitem__(self, name: str) -> Factor:
        return self.factors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.factors)

    def __len__(self) -> int:
        return len(self.factors)

    def encode(self, frame: pd.DataFrame | pl.DataFrame | str | os.PathLike[str]) -> NamedRows:
        """The rows of another frame or file with these columns, in the scales and codes of the first. Others are ignored.

        Raises:
            DataError: a column is missing, or has a value without a code or one that its kind cannot have.
        """
        return self.converter.encode(frame)

    def decode(
        self,
        values: Mapping[str, torch.Tensor],
        index: pd.Index | Sequence[Hashable] | None = None,
        like: pd.DataFrame | None = None,
    ) -> pd.DataFrame:
        """Rows by factor as a DataFrame, in the units, labels and dtypes of the first frame.

        Observed cells come back bit for bit. Columns of a factor without values are left out.

        Args:
            values: {name of a factor: rows}, such as ``fit.impute(...).values``, an interval's end, ``model.sample(n)``.
            index: of the new frame, such as ``frame.index``, by default 0 to N − 1.
            like: the frame that observed cells are taken from. By default the frame that ``encode`` was given, if the
                values come from it or from ``fit.impute`` of it. Without it, the first frame.
        """
        frame = getattr(values, "frame", self.data.frame) if like is None else like
        return self.converter.decode(values, index, frame)

    def __repr__(self) -> str:
        factor = {column: name for name, members in self.groups.items() for column in members}
        width = max(len(str(column.name)) for column in self.columns)
        lines = [
            f"{column.name!s:{width}}  {column.kind} ({column.why}), in {factor[column.name]}: "
            f"{type(self.factors[factor[column.name]]).__name__}"
            for column in self.columns
        ]
        ((name, kind),) = self.example.items()
        remedy = (
            f'other kinds: lfm.heterogeneous(frame, kinds={{{name!r}: "{kind}"}}), or a factor in its place'
        )
        return "\n".join([*lines, remedy])


def heterogeneous(
    frame: pd.DataFrame | pl.DataFrame | str | os.PathLike[str],
    *,
    kinds: Mapping[Hashable, str | Factor] | None = None,
    network: SourceLike = None,
    min_scale: float = 0.05,
) -> Heterogeneous:
    """Reads the columns of a table, missing entries anywhere, as the observed factors of a model.

    p(x | z) = Π_d p_d(x_d | z), with the family of p_d chosen by the column's dtype and values:

    - binary, two values: ``Bernoulli``;
    - categorical, labels: ``Categorical``;
    - ordinal, an ordered category or levels of a scale: ``OrderedLogistic``;
    - count: ``MeanNegativeBinomial``. Its limit is a Poisson: the column alone does not show whether counts are
      overdispersed *given z*;
    - positive, numbers above 0 that a log-normal fits better than a Gaussian does: ``LogNormal``, in units of the
      geometric mean;
    - continuous, all other numbers: ``Gaussian``, on the scale of mean 0 and variance 1.

    Whole numbers are what their likelihood says, penalised by the number of parameters (``kind_likelihoods``): counts
    (Poisson or negative binomial), levels if there are up to 11, or continuous, whose densities are integrated over the step
    in which the column is recorded: body masses in steps of 25 are no counts. In a tie they are counts, unless the column
    varies less, given the others, than counts of its size can. ``print`` shows the reason.

    All columns of a kind form one factor, named after the kind. A categorical column, and the only column of a kind, is a
    factor named after the column. The network gives the parameter that moves with z (mean, loc, logits, predictor).
    Scales, overdispersions and cut points are learned, one for each column. Guides read numbers on a common scale and see
    which entries are missing.

    Args:
        frame: N rows, a DataFrame of pandas or polars, or a file of one such as a CSV file. NaN, None, NA and null mean
            missing. If a column's name is no Python name, or is reserved, or is z, the factor has a similar name. ``print``
            shows both.
        kinds: {column: kind}, or a factor of one entry, which reads the column in its own units (labels as codes 0, 1, ...).
        network: the source of each factor, ``Linear(prior=Normal(0.0, 1.0))`` by default. Its weights have a posterior,
            so that the intervals of few rows include their uncertainty. ``MLP(32)`` is nonlinear, and overfits few rows.
        min_scale: the smallest noise of a continuous column, in standard deviations of the column. For a positive column it
            is in those of its logarithm.

    Raises:
        DataError: a column that is constant, empty or infinite, that holds neither numbers nor labels (such as dates), or
            values that its kind cannot have.
        DeclarationError: an unknown column or kind.

    Source: Nazabal, Olmos, Ghahramani and Valera (2020), "Handling incomplete heterogeneous data using VAEs".

    >>> import pandas as pd
    >>> frame = pd.DataFrame({"age": [21, 34, None, 50, 81, 19, 44, 62, 28, 37, 55, 70], "sex": ["f", "m"] * 6})
    >>> table = heterogeneous(frame)
    >>> print(table)
    age  count (integers 19..81; negative binomial by 16.6 nats over levels of a scale), in age: MeanNegativeBinomial
    sex  binary (two values: f, m), in sex: Bernoulli
    other kinds: lfm.heterogeneous(frame, kinds={'age': "continuous"}), or a factor in its place
    >>> table.decode(table.data).equals(frame)
    True
    """
    kinds = dict(kinds or {})
    frame = table_of(frame)
    unknown = [repr(name) for name in kinds if name not in frame.columns]
    if unknown:
        names = ", ".join(map(str, frame.columns))
        raise DeclarationError(f"kinds must name columns; got {', '.join(unknown)}: the columns are {names}")
    network = Linear(prior=Normal(0.0, 1.0)) if network is None else network
    min_scale = number("min_scale", min_scale, least=0.0, above=True)
    columns, others = [], OtherColumns(frame)
    for name in frame.columns:
        kind = kinds.get(name)
        if isinstance(kind, Factor):
            columns.append(own_factor(frame[name], kind))
        else:
            columns.append(recognise(frame[name], others) if kind is None else of_kind(frame[name], kind))
    encoded = {column.name: column.encode(frame[column.name]) for column in columns}
    factors, data, groups = {}, {}, {}
    for name, members in _grouped(columns).items():
        rows = np.stack([encoded[column.name] for column in members], 1)
        declared = kinds.get(members[0].name)
        factor = declared if isinstance(declared, Factor) else None
        factors[name] = factor_of(members, rows, network, min_scale, factor)
        groups[name] = tuple(column.name for column in members)
        data[name] = rows_of(tuple(factors[name].shape), list(rows.T))
    shapes = {name: tuple(factor.shape) for name, factor in factors.items()}
    converter = TableColumns(tuple(columns), groups, shapes)
    return Heterogeneous(factors, converter.with_frame(data, frame), converter, _example(frame, columns))


def _example(frame: pd.DataFrame, columns: Sequence[Column]) -> dict[Hashable, str]:
    """A column and another kind that it could have; if there is none, a column and its own kind."""
    known = [column for column in columns if column.kind in KINDS] or columns
    for column in known:
        for kind in KINDS:
            if kind != column.kind:
                try:
                    of_kind(frame[column.name], kind)
                except DataError:
                    continue
                return {column.name: kind}
    return {known[0].name: known[0].kind if known[0].kind in KINDS else "continuous"}


def _grouped(columns: list[Column]) -> dict[str, list[Column]]:
    """The columns of each factor, by its name."""
    gathered: dict[Hashable, list[Column]] = {}
    for column in columns:
        key: Hashable = column.kind
        if column.kind == "ordinal" and column.levels is not None:
            key = f"ordinal_{len(column.levels)}"
        elif column.kind in ("categorical", "own"):
            key = (column.name,)
        gathered.setdefault(key, []).append(column)
    named: dict[str, list[Column]] = {}
    for key, members in gathered.items():
        named[factor_name(members[0].name if len(members) == 1 else key, named)] = members
    return named
