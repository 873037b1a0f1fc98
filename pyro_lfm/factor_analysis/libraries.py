"""The packages of the extra ``efa``, imported where they are first used."""

from __future__ import annotations

from types import ModuleType
from typing import Protocol

from pyro_lfm.factor_analysis.matrices import Matrix


class RotationLibrary(Protocol):
    """The part of ``statsmodels.multivariate.factor_rotation`` that is used here."""

    def rotate_factors(
        self, A: Matrix, method: str, *method_args: float | str, max_tries: int, tol: float
    ) -> tuple[Matrix, Matrix]: ...

    def procrustes(self, A: Matrix, H: Matrix) -> Matrix: ...


def rotation_library() -> RotationLibrary:
    """``statsmodels.multivariate.factor_rotation``."""
    try:
        from statsmodels.multivariate import factor_rotation
    except ImportError:
        raise ImportError("rotations need statsmodels: pip install 'pyro_lfm[efa]'") from None
    return factor_rotation


def frames() -> ModuleType:
    """``pandas``."""
    try:
        import pandas
    except ImportError:
        raise ImportError("tables of factor analysis need pandas: pip install 'pyro_lfm[efa]'") from None
    return pandas
