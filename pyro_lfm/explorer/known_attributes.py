"""``known_attributes``: the attributes that ``explore`` is given, in any of their forms, as ``Attributes`` of the fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import TypeAlias, cast

import numpy as np

from pyro_lfm import attributes as attributes_of
from pyro_lfm.attributes import Attributes
from pyro_lfm.errors import DataError, DeclarationError
from pyro_lfm.evaluate.inputs import Array, Rows
from pyro_lfm.explorer.data_columns import NamedCodes
from pyro_lfm.explorer.user_rows import UserRows
from pyro_lfm.inference.fitted import Fit

# Attributes that were fitted, labels of each by name, or names of labels and columns.
Given: TypeAlias = Attributes | Mapping[str, Array] | Sequence[str] | None


def known_attributes(
    fit: Fit,
    rows: UserRows,
    labels: Mapping[str, object],
    given: Given,
) -> Attributes | None:
    """The attributes of a fit.

    Args:
        labels: {name: N values} that are known of the rows, beside their columns.
        given: attributes that were fitted, labels of each, or names of labels and columns.

    Raises:
        DataError: a name that is none, or labels that do not fit. DeclarationError: attributes of another fit.
    """
    if given is None:
        return None
    if isinstance(given, Attributes):
        if given.fit is not fit and given.fit.model is not fit.model:
            raise DeclarationError(
                "attributes must be those of this fit: lfm.attributes.fit(fit, data, labels)"
            )
        return given
    if not isinstance(given, Mapping):
        given = _by_column(rows, labels, [given] if isinstance(given, str) else given)
    return attributes_of.fit(fit, cast("Rows | None", rows.data), given)


def _by_column(rows: UserRows, labels: Mapping[str, object], names: Sequence[str]) -> dict[str, Array]:
    known = {**rows.beside, **labels}
    if rows.frame is not None:
        known = {**{str(name): rows.frame[name] for name in rows.frame.columns}, **known}
    for name in names:
        if name not in known:
            close = get_close_matches(str(name), [*known], 1)
            offer = f"did you mean {close[0]!r}?" if close else f"they are {', '.join(known) or 'none'}"
            raise DataError(f"attributes must name columns of the data, or labels; got {name!r}: {offer}")
    chosen = {name: known[name] for name in names}
    return {n: cast("Array", np.asarray(v) if isinstance(v, NamedCodes) else v) for n, v in chosen.items()}
