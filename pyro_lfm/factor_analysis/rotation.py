"""``rotate``: loadings rotated to simple structure, orthogonal or oblique, for all that reports loadings."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Literal, TypeAlias, get_args

import numpy as np

from pyro_lfm.errors import DataError, DeclarationError, warn
from pyro_lfm.factor_analysis.libraries import rotation_library
from pyro_lfm.factor_analysis.matrices import Matrix, Numbers, numbers_of
from pyro_lfm.factor_analysis.rotation_minima import Oblique, Orthogonal
from pyro_lfm.shapes import number, whole
from pyro_lfm.warning_kinds import ConvergenceWarning

Method: TypeAlias = Literal["varimax", "quartimax", "oblimin", "promax"]
METHODS: tuple[str, ...] = get_args(Method)
# Gradient projection goes down to where rounding ends its line search, and a root of the gradient is sought from there.
_STEPS, _COARSE = 1000, 1e-6
# The norm of the projected gradient at which a rotation counts as converged, and the correlation at which factors are one.
_CONVERGED, _ONE = 1e-6, 0.9999


@dataclass(frozen=True, eq=False)
class Rotation:
    """Rotated loadings, and how they came about.

    Attributes:
        loadings: L, (D, K), the pattern matrix: L = A · transformation.
        transformation: R, (K, K). The rotated factors are R⁻¹ z.
        correlations: Φ = R⁻¹ R⁻ᵀ, (K, K), of the rotated factors. It is the identity for orthogonal rotations.
        method: as given.

    >>> import pyro_lfm as lfm
    >>> rotation = lfm.factor_analysis.rotate([[0.7, 0.5], [0.6, 0.4], [0.6, -0.5], [0.5, -0.4]], "varimax")
    >>> rotation.method, rotation.loadings.shape, bool(np.allclose(rotation.correlations, np.eye(2)))
    ('varimax', (4, 2), True)
    """

    loadings: Matrix
    transformation: Matrix
    correlations: Matrix
    method: Method | None

    @property
    def structure(self) -> Matrix:
        """L Φ, (D, K): the correlations of variables and factors, where the loadings are those of a correlation matrix."""
        return self.loadings @ self.correlations


def check_method(name: str, method: object) -> None:
    """Raises DeclarationError if there is no such rotation. ``name`` is that of the argument."""
    if method is not None and not (isinstance(method, str) and method in METHODS):
        words = ", ".join(f'"{known}"' for known in METHODS)
        shown = repr(method) if isinstance(method, str) else type(method).__name__
        raise DeclarationError(f"{name} must be None or one of {words}; got {shown}")


def rotate(
    loadings: Numbers,
    method: Method | None,
    *,
    kaiser: bool = True,
    power: float = 4.0,
    gamma: float = 0.0,
    order: bool = True,
    starts: int = 1,
    seed: int = 0,
) -> Rotation:
    """Rotates loadings A (D, K) to L = A R, in which few loadings of each variable are large.

    The criteria, with squares L² by entry:

    - "varimax": −¼ Σ L² (L² − column means of L²), R orthogonal (Kaiser, 1958).
    - "quartimax": −¼ Σ L⁴, R orthogonal (Neuhaus and Wrigley, 1954).
    - "oblimin": ¼ Σ_{j≠k} Σ_d L²_dj (L²_dk − γ · column mean of L²), factors of variance one that may correlate
      (Jennrich and Sampson, 1966). γ = 0 is quartimin.
    - "promax": least squares of the varimax loadings V to the target ``sign(V) |V|^power``, factors of variance one
      (Hendrickson and White, 1964).

    A search from the loadings as given ends in a minimum of the criterion, of which there may be several: ``starts`` adds
    searches from random rotations.

    Args:
        loadings: A, (D, K), of uncorrelated factors. An array, a tensor or a DataFrame.
        method: None leaves the loadings as they are, but for the order.
        kaiser: whether each row is scaled to length one while it is rotated (Kaiser normalisation), so that variables of
            small communality count as much as others. The result is then free of the units of the variables. It serves
            all methods. R's psych and factor_analyzer normalise for varimax and promax alone: ``kaiser=False`` gives
            their oblimin and quartimax.
        power: of promax, > 1.
        gamma: of oblimin, ≤ 1. Positive values give larger correlations, and often no minimum.
        order: whether factors come by their sum of squares diag(Φ LᵀL), largest first, each with the sign of which the sum
            of its loadings is positive. Otherwise they stay as the search left them.
        starts: the number of searches, of which the smallest criterion is kept. The first begins at the loadings as given,
            the others at random rotations of them, drawn with ``seed``.

    Raises:
        DeclarationError: an unknown method, a power, a gamma or a number of starts out of range.
        ShapeError, DataError: loadings of another shape, not finite, or fewer independent columns than factors.
        ImportError: without statsmodels, which the extra ``pyro_lfm[efa]`` installs.

    Source: Bernaards and Jennrich (2005), gradient projection algorithms.

    >>> simple = np.array([[0.8, 0.0], [0.7, 0.0], [0.0, 0.6], [0.0, 0.5]])
    >>> turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    >>> rotate(simple @ turn, "varimax").loadings.round(6) + 0.0
    array([[0.8, 0. ],
           [0.7, 0. ],
           [0. , 0.6],
           [0. , 0.5]])
    """
    check_method("method", method)
    power = number("power", power, least=1.0, above=True)
    gamma = number("gamma", gamma, least=-inf)
    if gamma > 1:
        raise DeclarationError(f"gamma must be a number ≤ 1; got {gamma!r}")
    starts = whole("starts", starts)
    given = numbers_of("loadings", loadings, ("D", "K"))
    factors = given.shape[1]
    turn = np.eye(factors)
    if method is not None and factors > 1:
        if np.linalg.matrix_rank(given) < factors:
            raise DataError(
                f"loadings must have {factors} independent columns to be rotated; got {np.linalg.matrix_rank(given)}: fit "
                "fewer factors"
            )
        lengths = np.sqrt((given**2).sum(1)) if kaiser else np.ones(len(given))
        scaled = given / np.where(lengths > 0, lengths, 1.0)[:, None]
        search = partial(_minimum, scaled, starts=starts, seed=seed)
        turn = (
            _promax(scaled, search("varimax"), power) if method == "promax" else search(method, gamma=gamma)
        )
    if order:
        turn = turn @ _arranged(given @ turn, _correlations(turn))
    return Rotation(given @ turn, turn, _correlations(turn), method)


def _correlations(turn: Matrix) -> Matrix:
    back = np.linalg.inv(turn)
    return back @ back.T


def _arranged(loadings: Matrix, correlations: Matrix) -> Matrix:
    """The permutation with signs, (K, K), that orders factors by their sum of squares and turns them to positive sums."""
    squares = np.einsum("jk,dk,dj->j", correlations, loadings, loadings)
    signs = np.where(loadings.sum(0) < 0, -1.0, 1.0)
    # Sums that are equal but for rounding keep their order.
    places = np.argsort(-squares.round(10), kind="stable")
    return np.diag(signs)[:, places]


def _promax(loadings: Matrix, turn: Matrix, power: float) -> Matrix:
    """R of promax from that of varimax. The target keeps the signs of the loadings, and the factors get variance one."""
    simple = loadings @ turn
    target = np.sign(simple) * np.abs(simple) ** power
    slope = rotation_library().procrustes(simple, target)
    return turn @ slope @ np.diag(np.sqrt(np.diag(np.linalg.inv(slope.T @ slope))))


def _minimum(loadings: Matrix, method: Method, gamma: float = 0.0, *, starts: int, seed: int) -> Matrix:
    """R of the smallest minimum of a criterion that the searches reach."""
    family, weight = {"varimax": ("orthomax", 1.0), "quartimax": ("orthomax", 0.0)}.get(
        method, ("oblimin", gamma)
    )
    search: type[Orthogonal] | type[Oblique] = Oblique if family == "oblimin" else Orthogonal
    arguments = (weight, "oblique") if family == "oblimin" else (weight,)
    library, random = rotation_library(), np.random.default_rng(seed)
    # Criteria are of degree four. In this unit they are of order one, and tolerances are relative.
    loadings = loadings / ((loadings**2).sum(1) ** 2).sum() ** 0.25
    first = np.eye(loadings.shape[1])
    ends: list[tuple[float, float, Matrix]] = []
    for _ in range(starts):
        given = loadings @ first
        _, turn = library.rotate_factors(given, family, *arguments, max_tries=_STEPS, tol=_COARSE)
        problem = search(given, weight, turn)
        turn = problem.polished()
        ends.append((problem.value(turn), problem.slope(turn), first @ problem.transformation(turn)))
        first = np.linalg.qr(random.normal(size=first.shape))[0]
    _, slope, best = min(ends, key=lambda end: end[0])
    if slope > _CONVERGED or np.abs(_correlations(best) - np.eye(len(best))).max() > _ONE:
        cure = (
            "use gamma=0"
            if gamma > 0 and family == "oblimin"
            else "fit fewer factors, or use another rotation"
        )
        warn(f"the {method} criterion has no minimum that can be reached: {cure}", ConvergenceWarning)
    return best
