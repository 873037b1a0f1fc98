"""The names of factors that are made of columns, for ``heterogeneous`` and ``anndata``."""

from __future__ import annotations

import re
from collections.abc import Container, Hashable

from pyro_lfm.programs.program import RESERVED


def factor_name(column: Hashable, taken: Container[str], prefix: str = "column") -> str:
    """The name of a column as the name of a factor: a Python name that is neither reserved, nor taken, nor z.

    >>> factor_name("donor id", ["library"]), factor_name(1, []), factor_name("library", ["library"])
    ('donor_id', 'column_1', 'library_')
    """
    name = re.sub(r"\W", "_", str(column))
    name = name if name[:1].isalpha() else f"{prefix}_{name.strip('_')}"
    # z is the usual name of the latent.
    while name in RESERVED or name in taken or name == "z" or not name.isidentifier():
        name += "_"
    return name
