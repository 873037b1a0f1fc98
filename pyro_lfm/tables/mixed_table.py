"""A table of mixed columns as observed factors, its rows as their data, and back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pyro_lfm.data.readers import NamedRows
from pyro_lfm.errors import DataError, DeclarationError
from pyro_lfm.factors import Factor
from pyro_lfm.programs.program import RESERVED
from pyro_lfm.shapes import number
from pyro_lfm.sources.linear import Linear
from pyro_lfm.sources.parameter_priors import Normal
from pyro_lfm.tables.columns import Column
from pyro_lfm.tables.groups import factor_of
from pyro_lfm.tables.kinds import KINDS, of_kind, own, recognise


@dataclass(frozen=True, eq=False, repr=False)
class Heterogeneous(Mapping[str, Factor]):
    """What ``heterogeneous`` made of a table: factors for a model, their data, and the way back.

    It is itself a mapping of the factors, to be declared as in ``Model(z=StandardNormal(4), **table)``.

    Attributes:
        factors: {name: factor}.
        data: {name: rows (N, D), of labels (N,)}, as the factors need them, NaN where an entry is missing; with the frame,
            whose cells ``decode`` gives back as they were.
        columns: of the table, with their kinds and why, in its order.
        groups: {name: names of the columns that a factor is of}, in the order of its entries.
        example: {column: another kind that it could have}, for ``kinds=``.
    """

    factors: Mapping[str, Factor]
    data: NamedRows
    columns: tuple[Column, ...]
    groups: Mapping[str, tuple[Any, ...]]
    example: Mapping[Any, str]

    def __getitem__(self, name: str) -> Factor:
        return self.factors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.factors)

    def __len__(self) -> int:
        return len(self.factors)

    def encode(self, frame: Any) -> dict[str, torch.Tensor]:
        """The rows of another frame with these columns, by the scales and codes of the first; other columns are left out.

        Raises:
            DataError: a column is lacking, or has a value that has no code or that its kind cannot have.
        """
        _check_frame(frame)
        lacking = [str(column.name) for column in self.columns if column.name not in frame.columns]
        if lacking:
            raise DataError(
                f"frame must have the columns of the table; {', '.join(lacking)} are lacking: add what is not known as nan"
            )
        encoded = {column.name: column.encode(frame[column.name]) for column in self.columns}
        rows = {name: _rows(self.factors[name], [encoded[n] for n in of]) for name, of in self.groups.items()}
        return NamedRows(rows, _kept(frame, self.columns), self.groups)

    def decode(self, values: Mapping[str, torch.Tensor], index: Any = None, like: Any = None) -> Any:
        """A DataFrame in the units, labels and dtypes of the table, of rows by factor as in ``data``.

        It takes ``fit.impute(...).values``, either end of an interval, ``model.sample(n)``; the columns of a factor that
        is not among them are left out. Cells that were observed come back bit for bit.

        Args:
            index: of the frame, as in ``frame.index``; by default 0 to N − 1.
            like: the frame that the rows are of, whose observed cells come back as they are; by default the one that
                ``encode`` was given, where the rows are what it gave or what ``fit.impute`` made of them, else the table's.
        """
        import pandas as pd

        frame = getattr(values, "frame", self.data.frame) if like is None else like
        found = {}
        for name, of in self.groups.items():
            if name in values:
                rows = torch.as_tensor(values[name]).detach().cpu().numpy()
                if rows.size != len(rows) * len(of):
                    raise DataError(
                        f"{name} must have shape (N, {len(of)}); got {rows.shape}: decode one draw at a time"
                    )
                found.update(dict(zip(of, rows.reshape(len(rows), -1).T, strict=True)))
        decoded = {c.name: c.decode(found[c.name].astype(float)) for c in self.columns if c.name in found}
        for column in self.columns if frame is not None else ():
            if column.name in found and len(frame) == len(found[column.name]):
                cells = frame[column.name]
                decoded[column.name] = column.restored(decoded[column.name], found[column.name], cells)
        made = pd.DataFrame(decoded)
        return made if index is None else made.set_index(pd.Index(index))

    def __repr__(self) -> str:
        factor = {column: name for name, of in self.groups.items() for column in of}
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
    frame: Any,
    *,
    kinds: Mapping[Any, str | Factor] | None = None,
    network: Any = None,
    min_scale: float = 0.05,
) -> Heterogeneous:
    """Reads the columns of a pandas DataFrame, missing entries anywhere, as the observed factors of a model.

    p(x | z) = Π_d p_d(x_d | z), and what p_d is follows from the column's dtype and values:

    - binary, two values: ``Bernoulli``;
    - categorical, labels: ``Categorical``;
    - ordinal, an ordered category or up to 10 different whole numbers: ``OrderedLogistic``;
    - count, whole numbers from 0 with a variance of at least their mean: a negative binomial distribution of their mean, of which
      a Poisson is the limit; whether counts are overdispersed *given z* cannot be told from the column alone;
    - positive, numbers above 0 that a log-normal fits better than a Gaussian does: ``LogNormal``, in units of the
      geometric mean;
    - continuous, all other numbers: ``Gaussian``, on the scale of mean 0 and variance 1.

    Columns of one kind are one factor, named as the kind; one alone, and each that is categorical, is named as the column.
    The network gives what moves with z (mean, loc, logits, predictor); scales, overdispersions and cut points are
    learned, one for each column. Guides read numbers on a common scale and see which entries are missing.

    Args:
        frame: (N rows); NaN, None and NA mean missing. A factor whose column has no Python name, or a reserved
            one or z, is called as near to it as can be; ``print`` shows both names.
        kinds: {column: kind}, or a factor of one entry, which reads the column in its own units (labels as codes 0, 1, ...).
        network: of each factor, ``Linear(prior=Normal(0.0, 1.0))`` by default: with weights that are inferred and not
            only learned, the intervals of few rows are honest. ``MLP(32)`` and the like bend, and overfit few rows.
        min_scale: the smallest noise of a continuous or positive column, in its standard deviations (of its logarithm).

    Raises:
        DataError: a column that is constant, empty, infinite, of dates or of other things that are no numbers or labels;
            or whose values its kind cannot have. DeclarationError: an unknown column or kind.

    Source: Nazabal, Olmos, Ghahramani and Valera (2020), "Handling incomplete heterogeneous data using VAEs".

    >>> import pandas as pd
    >>> frame = pd.DataFrame({"age": [21, 34, None, 50, 81, 19, 44, 62, 28, 37, 55, 70], "sex": ["f", "m"] * 6})
    >>> table = heterogeneous(frame)
    >>> print(table)
    age  count (integers 19..81), in age: MeanNegativeBinomial
    sex  binary (two values: f, m), in sex: Bernoulli
    other kinds: lfm.heterogeneous(frame, kinds={'age': "continuous"}), or a factor in its place
    >>> table.decode(table.data).equals(frame)
    True
    """
    kinds = dict(kinds or {})
    _check_frame(frame)
    unknown = [repr(name) for name in kinds if name not in frame.columns]
    if unknown:
        names = ", ".join(map(str, frame.columns))
        raise DeclarationError(f"kinds must name columns; got {', '.join(unknown)}: the columns are {names}")
    network = Linear(prior=Normal(0.0, 1.0)) if network is None else network
    min_scale = number("min_scale", min_scale, least=0.0, above=True)
    columns = []
    for name in frame.columns:
        kind = kinds.get(name)
        if isinstance(kind, Factor):
            columns.append(own(frame[name], kind))
        else:
            columns.append(recognise(frame[name]) if kind is None else of_kind(frame[name], kind))
    encoded = {column.name: column.encode(frame[column.name]) for column in columns}
    factors, data, groups = {}, {}, {}
    for name, members in _grouped(columns).items():
        rows = np.stack([encoded[column.name] for column in members], 1)
        declared = kinds.get(members[0].name)
        factor = declared if isinstance(declared, Factor) else None
        factors[name] = factor_of(members, rows, network, min_scale, factor)
        groups[name] = tuple(column.name for column in members)
        data[name] = _rows(factors[name], list(rows.T))
    rows_of_frame = NamedRows(data, _kept(frame, columns), groups)
    return Heterogeneous(factors, rows_of_frame, tuple(columns), groups, _example(frame, columns))


def _kept(frame: Any, columns: Iterable[Column]) -> Any:
    """The cells of some columns, whatever becomes of the frame."""
    return frame[[column.name for column in columns]].copy()


def _example(frame: Any, columns: Sequence[Column]) -> dict[Any, str]:
    """A column and another kind that it could have; where there is none, one and its own kind."""
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


def _check_frame(frame: Any) -> None:
    if not (type(frame).__module__.startswith("pandas") and hasattr(frame, "columns")):
        raise DataError(
            f"frame must be a pandas DataFrame; got a {type(frame).__name__}: pandas.DataFrame(...)"
        )
    if not len(frame) or not len(frame.columns):
        raise DataError(f"frame must have rows and columns; got shape {frame.shape}")
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise DataError(f"frame must have each column once; got {twice!r} twice: rename one of them")


def _grouped(columns: list[Column]) -> dict[str, list[Column]]:
    """The columns of each factor, by its name."""
    gathered: dict[Any, list[Column]] = {}
    for column in columns:
        key: Any = column.kind
        if column.kind == "ordinal":
            key = f"ordinal_{len(column.levels)}"
        elif column.kind in ("categorical", "own"):
            key = (column.name,)
        gathered.setdefault(key, []).append(column)
    named: dict[str, list[Column]] = {}
    for key, members in gathered.items():
        name = re.sub(r"\W", "_", str(members[0].name if len(members) == 1 else key))
        name = name if name[:1].isalpha() else f"column_{name.strip('_')}"
        # The latent that everyone calls z must find its name free.
        while name in RESERVED or name in named or name == "z" or not name.isidentifier():
            name += "_"
        named[name] = members
    return named


def _rows(factor: Factor, columns: list[np.ndarray]) -> torch.Tensor:
    exact = torch.as_tensor(np.stack(columns, 1))
    rows = exact.to(torch.get_default_dtype())
    # Counts that the type would round stay as they are.
    whole = bool((exact == exact.round())[~exact.isnan()].all())
    if whole and not torch.equal(rows.double().nan_to_num(), exact.nan_to_num()):
        rows = exact
    return rows if factor.shape else rows[:, 0]
